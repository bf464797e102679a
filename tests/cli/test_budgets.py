"""`hansa budgets` against a real agent and its files: what it shows, decides, proves, and what wrong input gets."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from budget_side import JOB, OTHER, Office, next_year, office
from cli_side import hansa

from hansa.contract.errors import RefusalError
from hansa.contract.messages import Seen
from hansa.contract.scenario import FirstGrant
from hansa.privacy.currency import GDP

Run = Callable[..., tuple[int, str, str]]
GRANT = ("--purpose", "fraud", "--legal-basis", "GDPR 6(1)(f)", "--by", "Dr. Officer")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in the instance's folder; code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "220")

    def command(*arguments: str) -> tuple[int, str, str]:
        code = hansa(arguments, monkeypatch)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


@pytest.fixture
def a(tmp_path: Path) -> Iterator[Office]:
    """An organisation that has granted epsilon 8."""
    with office(tmp_path, grant=FirstGrant(cap_epsilon=10.0)) as made:
        yield made


def do(run: Run, *arguments: str) -> str:
    code, out, err = run(*arguments)
    assert code == 0, err
    # The shipped contract has no entity column, which a grant warns of.
    assert all(line.startswith("warning: the contract names no entity") for line in err.splitlines()), err
    return out


def show(run: Run, it: Office) -> dict[str, object]:
    found: dict[str, object] = json.loads(do(run, "budgets", "show", "--folder", it.folder, "--json"))
    return found


def trained(run: Run, it: Office, rounds: int = 3, job: str = JOB) -> None:
    """A job that was approved and worked on."""
    plan = it.propose(job)
    do(run, "jobs", "approve", job, "--folder", it.folder, "--by", "head of data")
    for attempt in range(1, rounds + 1):
        it.work(plan, attempt)


def test_a_job_of_a_share_of_three_tenths_leaves_seventy_percent_and_says_so(run: Run, a: Office) -> None:
    trained(run, a)
    facts = show(run, a)
    [grant] = facts["grants"]  # type: ignore[misc]
    assert grant["percent_left"] == pytest.approx(70.0, abs=1e-6)
    assert grant["epsilon_spent"] == pytest.approx(GDP.epsilon(0.3 * GDP.budget(8, 1e-5), 1e-5), rel=1e-6)
    out = do(run, "budgets", "show", "--folder", a.folder)
    for words in (
        "70.0 % ██████████████░░░░░░",
        "epsilon 8 at delta 1e-05",
        f"epsilon {grant['epsilon_spent']:.3g}",
    ):
        assert words in out
    # 70 % of the grant at 10 % a round; the job itself may take no more than its failed attempts would.
    [job] = facts["jobs"]  # type: ignore[misc]
    assert job["round_cost"] == pytest.approx(0.1 * grant["amount"])
    assert job["most"] < grant["amount"]
    assert "fraud" in out


def test_a_grant_is_written_with_who_why_and_until_when(run: Run, a: Office) -> None:
    do(
        run,
        "budgets",
        "grant",
        "spring",
        "--epsilon",
        "1.5",
        "--expires",
        next_year(),
        *GRANT,
        "--folder",
        a.folder,
    )
    grant = next(it for it in show(run, a)["grants"] if it["grant"] == "spring")  # type: ignore[attr-defined]
    assert (grant["granted_by"], grant["legal_basis"], grant["purpose"]) == (
        "Dr. Officer",
        "GDPR 6(1)(f)",
        "fraud",
    )
    assert grant["expires"] == f"{next_year()}T00:00:00Z"
    out = do(run, "budgets", "history", "--folder", a.folder)
    assert "by Dr. Officer; purpose: fraud; legal basis: GDPR 6(1)(f)" in out


def test_nothing_is_charged_to_a_frozen_grant_until_it_is_unfrozen(run: Run, a: Office) -> None:
    plan = a.propose()
    do(run, "jobs", "approve", "abab", "--folder", a.folder)
    do(run, "budgets", "freeze", "first", "--reason", "complaint 17", "--by", "DPO", "--folder", a.folder)
    assert "frozen: complaint 17" in do(run, "budgets", "show", "--folder", a.folder)
    with pytest.raises(RefusalError, match=r"grant-frozen.*complaint 17"):
        a.work(plan, 1)
    do(run, "budgets", "unfreeze", "first", "--folder", a.folder)
    a.work(plan, 2)
    assert show(run, a)["jobs"][0]["charges"] == 2  # type: ignore[index]


def test_an_approval_names_the_model_that_the_job_starts_from(run: Run, a: Office) -> None:
    start = {"job": OTHER, "contract": "1" * 64, "weights": "2" * 64, "parameters": 3}
    a.propose(start=start)
    out = do(run, "jobs", "approve", JOB, "--folder", a.folder)
    assert f"starts from the model of job {OTHER}, SHA-256 of its weights {'2' * 64}" in out


def test_an_approval_names_its_grant_and_its_ceiling(run: Run, a: Office) -> None:
    do(
        run,
        "budgets",
        "grant",
        "small",
        "--epsilon",
        "1",
        "--expires",
        next_year(),
        *GRANT,
        "--folder",
        a.folder,
    )
    a.propose()
    out = do(run, "jobs", "approve", JOB, "--grant", "small", "--max-epsilon", "0.2", "--folder", a.folder)
    [job] = show(run, a)["jobs"]  # type: ignore[misc]
    assert job["grant"] == "small"
    assert job["most"] == pytest.approx(GDP.budget(0.2, 1e-5))
    percent = 100 * GDP.budget(0.2, 1e-5) / GDP.budget(1.0, 1e-5)
    assert f"a takes part in job {JOB}; at most {percent:.3g} % of grant 'small', epsilon 0.2 at" in out
    assert f"noise: update {job['noise']['update']:.4g}, evaluation" in out


def test_a_ceiling_below_what_the_job_took_ends_this_members_part(run: Run, a: Office) -> None:
    trained(run, a)
    out = do(run, "jobs", "approve", JOB, "--max-epsilon", "0.2", "--folder", a.folder)
    assert f"a takes no further part in job {JOB}, which took as much already; at most" in out


WRONG = {
    "negative epsilon": (("grant", "x", "--epsilon", "-1"), "epsilon"),
    "no epsilon": (("grant", "x", "--epsilon", "0"), "epsilon"),
    "infinite epsilon": (("grant", "x", "--epsilon", "inf"), "epsilon"),
    "not a number": (("grant", "x", "--epsilon", "nan"), "epsilon"),
    "delta above the public bound": (
        ("grant", "x", "--epsilon", "1", "--delta", "1e-4"),
        "privacy.delta = 1e-05",
    ),
    "negative delta": (("grant", "x", "--epsilon", "1", "--delta", "-1e-6"), "delta"),
    "an expired grant": (("grant", "x", "--epsilon", "1", "--expires", "2020-01-01"), "2020-01-01"),
    "a day after all days": (
        ("grant", "x", "--epsilon", "1", "--expires", "9999-12-31T23:59:59-14:00"),
        "in UTC it lies outside the years",
    ),
    "a day before all days": (
        ("grant", "x", "--epsilon", "1", "--expires", "0001-01-01T00:00:00+14:00"),
        "in UTC it lies outside the years",
    ),
    "no day": (("grant", "x", "--epsilon", "1", "--expires", "soon"), "expected a day"),
    "a time without zone": (
        ("grant", "x", "--epsilon", "1", "--expires", "2999-01-01T10:00:00"),
        "needs its zone",
    ),
    "another data set": (
        ("grant", "x", "--epsilon", "1", "--data-set", "patients"),
        "'patients' is not known",
    ),
    "a second grant above the cap": (("grant", "x", "--epsilon", "8"), "does not fit under the lifetime cap"),
    "the same name again": (("grant", "first", "--epsilon", "1"), "there is a grant 'first' already"),
    "another cap": (("grant", "x", "--epsilon", "1", "--cap-epsilon", "50"), "cap_epsilon"),
    "another currency": (("grant", "x", "--epsilon", "1", "--currency", "rdp"), "currency"),
    "an unknown currency": (("grant", "x", "--epsilon", "1", "--currency", "gold"), "currency"),
    "a name with spaces": (("grant", "my grant", "--epsilon", "1"), "grant"),
    "nobody decides": (("grant", "x", "--epsilon", "1", "--by", " "), "--by"),
    "no purpose": (("grant", "x", "--epsilon", "1", "--purpose", ""), "--purpose: say what"),
    "no legal basis": (("grant", "x", "--epsilon", "1", "--legal-basis", " "), "--legal-basis: say on"),
    "freezing without a reason": (("freeze", "first"), "--reason: say why"),
    "freezing for an empty reason": (("freeze", "first", "--reason", ""), "--reason: say why"),
    "freezing what is not there": (("freeze", "x", "--reason", "y"), "there is no grant 'x'"),
    "unfreezing what is not frozen": (("unfreeze", "first"), "not frozen"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_gets_a_sentence_code_2_and_nothing_written(run: Run, a: Office, name: str) -> None:
    arguments, words = WRONG[name]
    more: tuple[str, ...] = ()
    if arguments[0] == "grant":
        more = () if "--by" in arguments else ("--by", "DPO")
        more += () if "--purpose" in arguments else ("--purpose", "p")
        more += () if "--legal-basis" in arguments else ("--legal-basis", "l")
        more += () if "--expires" in arguments else ("--expires", next_year())
    before = a.budget.ledger.head
    code, out, err = run("budgets", *arguments, *more, "--folder", a.folder)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1, err
    assert words in err
    assert a.budget.ledger.head == before


JOBS_WRONG = {
    "a job that nobody proposed": (("jobs", "approve", "ff"), "ff"),
    "a grant that is not there": (("jobs", "approve", JOB, "--grant", "gold"), "there is no grant 'gold'"),
    "a ceiling below nothing": (("jobs", "approve", JOB, "--max-epsilon", "-1"), "--max-epsilon"),
    "an infinite ceiling": (("jobs", "approve", JOB, "--max-epsilon", "inf"), "--max-epsilon"),
    "a beginning of two": (("jobs", "approve", "ab"), "2 jobs begin so"),
}


@pytest.mark.parametrize("name", JOBS_WRONG)
def test_a_wrong_approval_gets_a_sentence_and_code_2(run: Run, a: Office, name: str) -> None:
    arguments, words = JOBS_WRONG[name]
    a.propose()
    a.propose(OTHER)
    before = a.budget.ledger.head
    code, out, err = run(*arguments, "--folder", a.folder)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert a.budget.ledger.head == before


@pytest.mark.parametrize("command", ["show", "freeze", "grant", "recover"])
def test_what_needs_the_agent_says_that_it_does_not_run(run: Run, a: Office, command: str) -> None:
    a.stop()
    more = {
        "freeze": ("first", "--reason", "y"),
        "grant": ("x", "--epsilon", "1", "--expires", next_year(), *GRANT),
    }
    code, _, err = run("budgets", command, *more.get(command, ()), "--folder", a.folder)
    assert (code, "the agent of a does not run; start it with: hansa client start" in err) == (1, True)
    assert len(err.strip().splitlines()) == 1


# --- the proof ----------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [True, False])
def test_a_ledger_is_verified_from_its_agent_or_from_its_files(run: Run, a: Office, running: bool) -> None:
    trained(run, a)
    head = a.budget.ledger.head
    if not running:
        a.stop()
    facts = json.loads(do(run, "budgets", "verify", "--folder", a.folder, "--json"))
    assert facts["head"] == head.model_dump()
    assert facts["uploads"]["charged"] == 6
    assert facts["problems"] == []
    assert facts["epsilon"]["first"] == pytest.approx(GDP.epsilon(0.3 * GDP.budget(8, 1e-5), 1e-5), rel=1e-5)
    out = do(run, "budgets", "verify", "--folder", a.folder)
    assert ("running agent" in out) == running
    assert "recomputed by dp_accounting" in out


def test_half_of_the_releases_uncharged_is_named(run: Run, a: Office) -> None:
    plan = a.propose(steps=10)
    do(run, "jobs", "approve", JOB, "--folder", a.folder)
    a.work(plan, 1, kept={"update": 10, "evaluation": 1})
    a.work(plan, 2, kept={"update": 20, "evaluation": 1})
    code, _, err = run("budgets", "verify", "--folder", a.folder)
    assert code == 1
    assert (
        f"attempt 2 of job {JOB} released 20 noised sums of records as 'update', and the ledger holds charges for 10"
        in err
    )


@pytest.mark.parametrize("running", [True, False])
def test_noise_of_a_tenth_of_what_was_charged_for_is_named(run: Run, a: Office, running: bool) -> None:
    trained(run, a, 1)
    a.work(a.propose(), 2, quiet=0.1)
    if not running:
        a.stop()
    code, out, err = run("budgets", "verify", "--folder", a.folder, "--json")
    assert code == 1
    quieter = json.loads(out)["uploads"]["quieter"]
    assert [(it["attempt"], it["segment"]) for it in quieter] == [(2, "update"), (2, "evaluation")]
    assert all(it["multiplier"] == pytest.approx(0.1 * it["charged"]) for it in quieter)
    assert "attempt 2" in err
    assert "with a noise multiplier of" in err


def test_a_mechanism_charged_for_every_second_round_is_named(run: Run, a: Office) -> None:
    plan = a.propose()
    do(run, "jobs", "approve", JOB, "--folder", a.folder)
    for attempt in range(1, 5):
        a.work(plan, attempt, paid=attempt % 2 == 1)
    code, out, err = run("budgets", "verify", "--folder", a.folder, "--json")
    assert code == 1
    assert [it["attempt"] for it in json.loads(out)["uploads"]["unpaid"]] == [2, 2, 4, 4]
    assert "attempt 2" in err
    assert "and 3 more" in err


def edit(path: Path, sequence: int, old: str, new: str, *, rehash: bool) -> None:
    """Somebody who may write the file changes a row."""
    db = sqlite3.connect(path)
    db.execute("DROP TRIGGER rows_stand")
    [(content,)] = db.execute("SELECT content FROM rows WHERE sequence = ?", (sequence,)).fetchall()
    assert old in content
    changed = content.replace(old, new)
    digest = hashlib.sha256(b"hansa/ledger/1\x00" + changed.encode()).hexdigest()
    db.execute("UPDATE rows SET content = ? WHERE sequence = ?", (changed, sequence))
    if rehash:
        db.execute("UPDATE rows SET hash = ? WHERE sequence = ?", (digest, sequence))
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("sequence", "old", "new", "rehash", "bad"),
    [
        (3, "synthetic data", "a signed consent", False, 3),
        # Whoever also writes the row's hash anew breaks the chain one row later.
        (3, "synthetic data", "a signed consent", True, 4),
        (5, '"count":1', '"count":2', True, 5),
    ],
)
def test_a_changed_row_is_named(
    run: Run, a: Office, sequence: int, old: str, new: str, rehash: bool, bad: int
) -> None:
    trained(run, a)
    a.stop()
    edit(a.member.folder / "ledger.sqlite", sequence, old, new, rehash=rehash)
    for command in ("verify", "export"):
        code, out, err = run("budgets", command, "--folder", a.folder)
        assert (code, out) == (1, "")
        assert f"damaged at row {bad}:" in err
        assert len(err.strip().splitlines()) == 1


def with_older_ledger(run: Run, it: Office, folder: Path) -> Seen:
    """One more attempt than the ledger knows of; returns that attempt's receipt. The agent does not run."""
    trained(run, it, 1)
    it.stop()
    shutil.copy(it.member.folder / "ledger.sqlite", folder / "yesterday.sqlite")
    it.start()
    seen = it.work(it.propose(), 2)
    it.stop()
    it.restore(folder / "yesterday.sqlite")
    return seen


def test_an_older_copy_of_the_ledger_is_noticed(run: Run, a: Office, tmp_path: Path) -> None:
    with_older_ledger(run, a, tmp_path)
    code, _, err = run("budgets", "verify", "--folder", a.folder)
    assert code == 1
    assert "an older copy; put the newest one in its place, or run: hansa budgets recover" in err


def test_what_an_older_copy_lost_is_recovered_and_then_verified(run: Run, a: Office, tmp_path: Path) -> None:
    seen = with_older_ledger(run, a, tmp_path)
    a.start()
    assert a.agent is not None
    assert a.agent.witnesses is not None
    a.agent.witnesses.shown(seen)
    assert "hansa budgets recover" in do(run, "budgets", "show", "--folder", a.folder)
    [before] = show(run, a)["grants"]  # type: ignore[misc]
    said = do(run, "budgets", "recover", "--reason", "disk failed", "--by", "DPO", "--folder", a.folder)
    rows = json.loads(do(run, "budgets", "history", "--json", "--folder", a.folder))
    newest = [it["at"] for it in rows if it["body"]["row"] == "charge" and not it["body"]["recovered"]][-1]
    moment = re.search(r"forget everybody again who was forgotten since (\S+)", said)
    assert moment is not None
    assert datetime.fromisoformat(moment[1]) == datetime.fromisoformat(newest)
    [after] = show(run, a)["grants"]  # type: ignore[misc]
    assert after["training"] == pytest.approx(2 * before["training"])
    assert show(run, a)["missing"] == ""
    facts = json.loads(do(run, "budgets", "verify", "--folder", a.folder, "--json"))
    assert (facts["uploads"]["charged"], facts["uploads"]["recovered"]) == (2, 2)
    assert "by DPO: disk failed" in do(run, "budgets", "history", "--folder", a.folder)
    code, _, err = run("budgets", "recover", "--by", "DPO", "--folder", a.folder)
    assert (code, "nothing to recover" in err) == (2, True)
    a.stop()
    document = json.loads(do(run, "budgets", "export", "--folder", a.folder))
    assert [it["recovered"] for it in document["charges"]] == [False, False, True, True]


def test_a_regulator_can_check_the_export_by_its_own_words(run: Run, a: Office) -> None:
    trained(run, a)
    a.stop()
    do(run, "budgets", "export", "--out", "ledger.json", "--folder", a.folder)
    document = json.loads(Path("ledger.json").read_text())
    # What 'how_to_check' says, and nothing of this project.
    before, amount = "0" * 64, 0.0
    for row in document["rows"]:
        stated = row.pop("hash")
        assert row["previous"] == before
        written = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert stated == hashlib.sha256(b"hansa/ledger/1\0" + written).hexdigest()
        before = stated
        if row["body"]["row"] == "charge":
            events = row["body"]["events"]
            assert row["body"]["amount"] == pytest.approx(
                sum(it["count"] / it["noise_multiplier"] ** 2 for it in events)
            )
            amount += row["body"]["amount"] * (row["body"]["part"] == "training")
    assert document["head"]["hash"] == before
    [grant] = document["grants"]
    assert grant["spent"]["training"] == pytest.approx(amount)
    assert (grant["legal_basis"], grant["granted_by"]) == ("synthetic data", "member.toml")
    assert len(document["charges"]) == 6
    assert "Gaussian noise whose standard deviation is" in document["charges"][0]["meaning"]
    assert document["jobs"][0]["approvals"][0]["by"] == "head of data"
    code, _, err = run("budgets", "export", "--out", "ledger.json", "--folder", a.folder)
    assert (code, "--force replaces it" in err) == (2, True)


@pytest.mark.parametrize("name", ["agent.sqlite", "heads.sqlite"])
def test_records_that_cannot_be_read_are_named_by_verify(run: Run, a: Office, name: str) -> None:
    trained(run, a)
    a.stop()
    path = a.member.folder / name
    for suffix in ("-wal", "-shm"):
        path.with_name(name + suffix).unlink(missing_ok=True)
    path.write_bytes(b"nothing that SQLite wrote" * 400)
    code, out, err = run("budgets", "verify", "--folder", a.folder)
    assert (code, out) == (1, "")
    assert f"{path}: " in err
    assert f"move {path}* away" in err
    assert len(err.strip().splitlines()) == 1


def test_history_is_the_same_from_the_agent_and_from_its_files(run: Run, a: Office) -> None:
    trained(run, a, 2)
    live = json.loads(do(run, "budgets", "history", "--folder", a.folder, "--json"))
    a.stop()
    assert json.loads(do(run, "budgets", "history", "--folder", a.folder, "--json")) == live
    assert [it["body"]["row"] for it in live][:4] == ["data-set", "sides", "grant", "approval"]
    assert len(json.loads(do(run, "budgets", "history", "--last", "2", "--folder", a.folder, "--json"))) == 2
