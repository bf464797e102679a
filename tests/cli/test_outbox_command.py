"""`hansa outbox` over a real agent's folder: in words, for programs, with filters, with and without the agent."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import pytest
from budget_side import JOB, Office, office
from cli_side import Commands, commands

from hansa.clients.leaving import Leaving, Part


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return commands(monkeypatch, capsys)


def fill(it: Office) -> None:
    assert it.agent is not None
    outbox = it.agent.outbox
    assert outbox is not None
    common = {"bytes": 4000, "digest": "1" * 64, "mode": "masked", "noise": "local"}
    update = {"kind": "upload", "job": JOB, "attempt": 1, "parts": (Part(name="update", bytes=3600),)}
    outbox.enter(Leaving.model_validate({**common, **update, "computed": "gradients"}))
    outbox.sent()
    outbox.enter(Leaving.model_validate({**common, **update, "computed": "gradients", "attempt": 2}))
    outbox.enter(Leaving.model_validate({**common, "kind": "hello"}), "hello")
    outbox.enter(Leaving.model_validate({**common, "kind": "hello"}), "hello")


def test_what_left_is_told_in_words_also_while_the_agent_does_not_run(run: Commands, tmp_path: Path) -> None:
    with office(tmp_path) as it:
        fill(it)
        told = run("outbox", "--folder", it.folder)
        it.stop()
        assert run("outbox", "--folder", it.folder) == told
    assert told.code == 0
    assert "a noised and masked sum of clipped gradients" in told.out
    assert told.out.count("may have left") == 3  # attempt 2, the greeting, and the column's name
    assert "and the same again once" in told.out
    assert f"{JOB[:8]}  │ 2        │ 8 kB" in told.out


def test_filters_json_and_csv(run: Commands, tmp_path: Path) -> None:
    with office(tmp_path) as it:
        fill(it)
        found = json.loads(run("outbox", "--folder", it.folder, "--json", "--job", JOB[:4]).out)
        assert [entry["attempt"] for entry in found["entries"]] == [1, 2]
        assert found["entries"][1]["left"] == "may have left"
        assert found["totals"][0]["bytes"] == 8000
        asked = ("outbox", "--folder", it.folder, "--csv", "--kind", "update", "--since", "1h")
        rows = list(csv.DictReader(io.StringIO(run(*asked).out)))
        assert [row["what"] for row in rows] == ["a noised and masked sum of clipped gradients"] * 2
        none = run("outbox", "--folder", it.folder, "--since", "2099-01-01")
        assert none.out.startswith("nothing since then; that is in the future")
        wrong = run("outbox", "--folder", it.folder, "--since", "yesterday")
        assert (wrong.code, "--since yesterday: expected" in wrong.err) == (2, True)
        wrong = run("outbox", "--folder", it.folder, "--job", "nonsense")
        assert wrong.code == 2


def test_a_file_that_a_person_takes_out_is_on_record(run: Commands, tmp_path: Path) -> None:
    with office(tmp_path) as it:
        out = tmp_path / "ledger.json"
        assert run("budgets", "export", "--folder", it.folder, "--out", str(out)).code == 0
        it.stop()
        assert run("budgets", "export", "--folder", it.folder).code == 0
        found = json.loads(run("outbox", "--folder", it.folder, "--json", "--kind", "ledger").out)
    assert [entry["bytes"] for entry in found["entries"]] == [out.stat().st_size] * 2
    assert str(out) in found["entries"][0]["what"]


def test_a_backup_of_a_members_folder_is_on_record_and_a_restore_says_what_is_to_be_done(
    run: Commands, tmp_path: Path
) -> None:
    with office(tmp_path) as it:
        out = tmp_path / "b.tar.gz"
        assert run("backup", it.folder, "--out", str(out)).code == 0
        found = json.loads(run("outbox", "--folder", it.folder, "--json", "--kind", "backup").out)
        [entry] = found["entries"]
        assert (entry["kind"], entry["bytes"]) == ("file", out.stat().st_size)
        assert entry["digest"] == hashlib.sha256(out.read_bytes()).hexdigest()
        said = run("restore", str(out), "--to", str(tmp_path / "back")).out
        assert "forget everybody again who was forgotten since 2" in said
