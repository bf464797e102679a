"""The suite's proof: what left is counted, every changed copy is refused, and one that passes fails the part."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from budget_side import JOB, Office, leave, office
from cli_side import Commands, commands
from rich.console import Console

from hansa.cli.evidence_checked import Pinned
from hansa.cli.evidence_verify import check_archive
from hansa.cli.interrupts import Interruption
from hansa.cli.suite import proof, tampering
from hansa.cli.suite.found import Found, Outcome
from hansa.cli.suite.outgoing import outgoing
from hansa.cli.suite.proof import Archive, ProofPart
from hansa.cli.suite.restored import rehearse
from hansa.cli.suite.running import Stage, run_parts
from hansa.cli.suite.tampering import judge, tampered_copies, verdict
from hansa.contract.errors import HansaError
from hansa.contract.keys import SigningKey
from hansa.contract.scenario import FirstGrant


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return commands(monkeypatch, capsys)


@pytest.fixture
def a(tmp_path: Path, run: Commands) -> Iterator[Office]:
    """An organisation whose upload left with a signed receipt; its agent is gone."""
    with office(tmp_path, grant=FirstGrant()) as made:
        plan = made.propose()
        run("jobs", "approve", plan.job, "--folder", made.folder)
        leave(made, made.work(plan, 1))
        made.stop()
        yield made


def evidence(run: Commands, a: Office, path: Path) -> bytes:
    assert run("evidence", JOB, "--folder", a.folder, "--out", str(path)).code == 0
    return path.read_bytes()


def run_part(a: Office, out: Path) -> Outcome:
    """The part over an instance in which the others never ran."""
    data = {"instance": str(a.member.folder.parent.parent), "job": JOB}
    with Interruption() as interruption:
        stage = Stage(interruption, Console(file=io.StringIO()))
        stage.earlier["federated"] = Outcome("federated", "", "").ended("done", 1.0, found=Found(data=data))
        [outcome] = run_parts([ProofPart(out / "evidence")], stage)
    return outcome


def test_every_changed_copy_is_refused_for_a_reason(run: Commands, a: Office, tmp_path: Path) -> None:
    content = evidence(run, a, tmp_path / "evidence.zip")
    pinned = Pinned((a.member.folder / "charter.toml").read_bytes())
    check_archive(content, pinned)
    copies = list(tampered_copies(content, SigningKey.load(a.member.identity_key)))
    assert all(it.content != content for it in copies)
    assert len({it.content for it in copies}) == len(copies)
    assert {it.change for it in copies} >= {
        "the newest charge cut off the ledger, signed by its own key",
        "a charge halved in the outbox, signed by its own key",
    }
    verdicts = judge(copies, pinned)
    assert [it.change for it in verdicts if not it.refused] == []


def test_a_check_that_lets_a_changed_copy_pass_fails_the_part(
    a: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not verdict("nothing", lambda: None).refused
    monkeypatch.setattr(tampering, "check_archive", lambda content, pinned: None)
    outcome = run_part(a, tmp_path)
    assert outcome.status == "failed"
    assert outcome.reason == "a: evidence with a change was not refused: one bit of a file in it"
    assert outcome.found.data["evidence"][0]["refused"] == 0


def test_evidence_that_does_not_hold_is_named() -> None:
    archive = Archive("a", Path("a.zip"), 10, problem="ledger.json: is missing")
    assert proof._problems(archive) == ["a: its evidence does not hold: ledger.json: is missing"]


def test_what_left_is_the_outbox_and_what_is_not_in_it_is_found(run: Commands, a: Office) -> None:
    found = outgoing(a.member)
    told = json.loads(run("outbox", "--folder", a.folder, "--json").out)
    assert found.entries == len(told["entries"])
    assert found.bytes == sum(it["bytes"] for it in told["totals"])
    assert (found.uploads, found.receipts, found.unknown) == (1, 1, ())
    assert sum(found.charged.values()) == pytest.approx(
        sum(amount for it in told["totals"] for amount in it["charged"].values())
    )
    a.start()
    a.work(a.propose(), 2)
    a.stop()
    # On the agent's record and charged, and no message of it ever entered.
    assert outgoing(a.member).unknown == (2,)


def test_a_backup_comes_back_and_changed_ones_do_not(a: Office) -> None:
    found = rehearse(a.member)
    assert (found.same, found.problems) == (True, ())
    assert [it.refused for it in found.verdicts] == [True, True, True]
    assert "ledger.sqlite was changed since the backup was made" in found.verdicts[0].reason
    assert "damaged at row" in found.verdicts[2].reason


def test_one_organisation_without_records_does_not_take_the_others_figures(a: Office, tmp_path: Path) -> None:
    outcome = run_part(a, tmp_path)
    assert outcome.status == "failed"
    assert outcome.reason.startswith("b: job")
    assert [it["member"] for it in outcome.found.data["evidence"]] == ["a"]
    assert outcome.found.data["evidence"][0]["problem"] == ""
    assert outcome.found.data["backup"]["same"]
    assert outcome.found.files == ("evidence/a.zip",)
    assert (tmp_path / "evidence/a.zip").stat().st_mode & 0o777 == 0o600
    notes = " ".join(table.note for table in outcome.found.tables)
    assert "held against the ledger" in notes


def test_an_interruption_before_the_first_keeps_what_there_is(a: Office, tmp_path: Path) -> None:
    assert proof._found(proof._Gathered()) == Found()
    with pytest.raises(HansaError, match="needs part 'federated'"), Interruption() as interruption:
        ProofPart(tmp_path).run(Stage(interruption, Console(file=io.StringIO())))
