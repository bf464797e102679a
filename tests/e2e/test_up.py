"""One command runs a whole federation as real processes, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from running import HANSA, hansa, last_object, left_behind, running, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_the_demo_trains_and_reports(tmp_path: Path) -> None:
    done = hansa("up", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = last_object(done.stdout)
    assert result["status"] == "finished"
    assert [line["round"] for line in result["rounds"]] == [1, 2, 3]
    assert all(len(line["cohort"]) == 5 for line in result["rounds"])
    # By a grant of epsilon 8, three tenths of it; without noise it is above 0.85.
    assert result["local"]["auc"]["mean"] > 0.75
    assert set(result["local"]["auc"]["per_member"]) == set(result["rounds"][0]["cohort"])
    # What is released comes from noised histograms of the same held-out records, and says how far off it may be.
    released = result["released"]["auc"]
    assert 0.0 < released["error"] < 0.1
    assert abs(released["value"] - result["local"]["auc"]["all_records"]) < 0.02 + 5 * released["error"]
    assert [line["percent_left"] for line in result["budgets"]] == pytest.approx([70.0] * 5, abs=1e-6)
    assert left_behind(tmp_path) == []
    fitted = [path.parent.name for path in (tmp_path / ".hansa").rglob(f"personal-{result['job']}.npz")]
    assert fitted
    # On a busy machine some may be late, and are named.
    assert all(name in fitted or name in done.stderr for name in result["rounds"][0]["cohort"])


def test_every_agent_is_cut_off_the_network(tmp_path: Path) -> None:
    with running(tmp_path, "--rounds", "3") as federation:
        until(lambda: federation.job_status == "finished", 60)
        assert all(member["isolated"] for member in federation.status()["members"])
        for name in ("agent-kontor-bank", "agent-stapelhaus"):
            interfaces = Path(f"/proc/{federation.pid(name)}/net/dev").read_text().splitlines()[2:]
            assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]


def test_no_private_key_is_readable_by_others(tmp_path: Path) -> None:
    assert hansa("provision", "consortium", "--out", "made", cwd=tmp_path).returncode == 0
    private = [
        path
        for path in (tmp_path / "made").rglob("*")
        if path.suffix in (".key", ".secret") or path.name == "tokens.json"
    ]
    assert len(private) > 20
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)


@pytest.mark.parametrize("after", [0.5, 3.0, 7.0])
def test_an_interrupt_at_any_moment_leaves_nothing_behind(tmp_path: Path, after: float) -> None:
    process = subprocess.Popen(
        [str(HANSA), "up", "--rounds", "500"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert left_behind(tmp_path) == []


def test_a_killed_command_leaves_nothing_behind(tmp_path: Path) -> None:
    process = subprocess.Popen([str(HANSA), "up", "--rounds", "500"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    store = tmp_path / ".hansa" / "consortium" / "store" / "store.sqlite"
    until(store.exists, 30)
    time.sleep(4)
    process.kill()
    process.wait()
    until(lambda: not left_behind(tmp_path), 20)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("up", "nowhere"), "scenario 'nowhere' is not known"),
        (("up", "--set", "colour=red"), "colour"),
        (("up", "--set", "rounds=many"), "rounds"),
        (("provision", "nowhere"), "nowhere"),
        (("client", "start", "--org", "nobody"), "no instance"),
        (("simulate", "--members", "10", "--set", "mode=loud"), "mode"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    done = hansa(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
