"""`hansa score`: what an organisation's people do before its service serves."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_side import hansa
from federation import make_federation, make_plan
from safetensors.numpy import load_file

from hansa.cli.provisioning import to_toml
from hansa.clients.attempt import LocalWork
from hansa.clients.personal import keep_personal
from hansa.clients.scoring.model_file import SERVED, read_model
from hansa.clients.scoring.serving import Desk

FIRST, SECOND = "ab" * 16, "cd" * 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A member's folder before any job ended."""
    made = tmp_path / "a"
    made.mkdir()
    (made / "charter.toml").write_bytes(to_toml(make_federation(3).charter))
    (made / "member.toml").write_text('name = "a"\nserver = "x:1"\ndata = { kind = "csv", path = "a.csv" }\n')
    return made


def finish(folder: Path, job: str, *, rounds: int) -> None:
    """What an agent leaves of a job."""
    federation = make_federation(3)
    weights = federation.model.initial(0) + rounds
    np.savez(folder / f"model-{job}.npz", weights=weights, rounds=np.array([rounds]))
    train, label = federation.records["a"].train, federation.charter.task.features.label
    assert keep_personal(folder, job, train, federation.model.predict(weights, train.X), label)


def test_before_there_is_a_model_one_line_says_what_to_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hansa(["score", "serve", "--folder", str(folder)], monkeypatch) == 2
    assert capsys.readouterr().err == (
        f"hansa: a: no finished job left a model in {folder} yet; train one, e.g. with: hansa up\n"
    )
    finish(folder, FIRST, rounds=2)
    assert hansa(["score", "serve", "--folder", str(folder)], monkeypatch) == 2
    assert capsys.readouterr().err == (
        f"hansa: a: no model is published for scoring; run: hansa score publish --folder {folder}\n"
    )
    assert not (folder / "scoring").exists()


def test_publishing_what_is_not_there_says_what_there_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        assert hansa(["score", "publish", "--folder", str(folder), *arguments], monkeypatch) == 2
        return capsys.readouterr().err

    assert refused() == (
        f"hansa: {folder}: no finished job left a model here yet; 'hansa jobs list' says whether one runs, "
        "and 'hansa up' trains one\n"
    )
    finish(folder, FIRST, rounds=2)
    assert (
        refused("ff")
        == f"hansa: job ff: of the models in {folder} none begins so; they are of the jobs abababab\n"
    )
    (folder / f"model-{FIRST}.npz").write_bytes(b"")
    assert refused().startswith(f"hansa: {folder}/model-{FIRST}.npz: no model can be read from it")


def test_a_published_model_can_be_served(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(folder, FIRST, rounds=2)
    finish(folder, SECOND, rounds=4)
    for arguments, job, rounds, own in (
        ([], SECOND, 4, True),
        ([FIRST[:6]], FIRST, 2, True),
        (["--federated"], SECOND, 4, False),
    ):
        assert hansa(["score", "publish", "--folder", str(folder), *arguments], monkeypatch) == 0
        assert ("without an own version" in capsys.readouterr().out) is not own
        served = Desk(folder / SERVED, member="a").serving
        assert (served.facts.job, served.facts.round, bool(served.facts.personal)) == (job, rounds, own)
        assert stat.S_IMODE((folder / SERVED).stat().st_mode) == 0o600


def test_what_jobs_export_writes_can_be_served_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(folder, FIRST, rounds=2)
    assert (
        hansa(["jobs", "export", "--folder", str(folder), "--out", str(tmp_path / "out")], monkeypatch) == 0
    )
    exported = tmp_path / "out" / f"a-{FIRST[:8]}.safetensors"
    assert hansa(["score", "publish", "--folder", str(folder)], monkeypatch) == 0
    assert read_model(exported).digest == read_model(folder / SERVED).digest
    assert set(load_file(exported)) >= {"weights", "calibration", "adjustment"}


def test_a_federated_model_is_published_as_its_job_s_figures_calibrate_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(folder, FIRST, rounds=2)
    plain = ["score", "publish", "--folder", str(folder)]
    assert hansa([*plain, "--calibration", "0.5,-1"], monkeypatch) == 2
    assert "--calibration 0.5,-1: expected two numbers" in capsys.readouterr().err
    assert hansa([*plain, "--federated"], monkeypatch) == 0
    X = np.array([[0.3, -0.2], [1.0, 1.0]])
    federated = read_model(folder / SERVED).predict(X)
    assert hansa([*plain, "--calibration", "0.5,0.8"], monkeypatch) == 0
    assert "calibrated by 0.5,0.8" in capsys.readouterr().out
    desk, log_odds = read_model(folder / SERVED), np.log(federated / (1 - federated))
    assert desk.predict(X) == pytest.approx(1 / (1 + np.exp(-(0.5 + 0.8 * log_odds))))


def test_a_broken_kept_model_is_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / f"model-{FIRST}.npz").write_bytes(b"half of it")
    assert hansa(["score", "publish", "--folder", str(folder)], monkeypatch) == 2
    assert "no model can be read from it" in capsys.readouterr().err
    assert not (folder / SERVED).exists()


def test_an_older_agent_s_model_has_no_round(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(folder / f"model-{FIRST}.npz", weights=make_federation(3).model.initial(0))
    assert hansa(["score", "publish", "--folder", str(folder)], monkeypatch) == 0
    assert read_model(folder / SERVED).facts.round is None


def test_a_model_of_another_contract_is_not_published(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    federation = make_federation(3)
    work = federation.agent("a")._work
    assert isinstance(work, LocalWork)
    weights = federation.model.initial(0)
    replace(work, folder=folder).keep(make_plan(job=FIRST), {"released": weights}, 5)
    assert hansa(["score", "publish", "--federated", "--folder", str(folder)], monkeypatch) == 0
    task = federation.charter.task
    first = task.features.columns[0]
    wider = task.features.model_copy(
        update={"columns": (first.model_copy(update={"high": 2 * first.high}), *task.features.columns[1:])}
    )
    later = federation.charter.model_copy(update={"task": task.model_copy(update={"features": wider})})
    (folder / "charter.toml").write_bytes(to_toml(later))
    capsys.readouterr()
    assert hansa(["score", "publish", "--folder", str(folder)], monkeypatch) == 2
    assert "was trained under another feature contract" in capsys.readouterr().err
