"""One suite over the store's journal and the one in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from few_kept import few_kept as few_kept
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from journals import (
    MEMBERS,
    POSTGRES,
    Bench,
    apply_round,
    bench,
    open_one,
    result,
    signed,
    state,
)

from hansa.contract.errors import HansaError, InputError
from hansa.contract.jobs import JobStatus, MetricValue
from hansa.strategies.ports import Journal, LeaseLost, MemberPresence

postgresql = pytest.mark.skipif(not POSTGRES, reason="HANSA_TEST_POSTGRES names no database")
KINDS = ["memory", "sqlite", pytest.param("postgresql", marks=postgresql)]


@pytest.fixture(params=KINDS)
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with bench(request.param, tmp_path, pinned={"dropout": 0.3}) as made:
        yield made


def test_a_new_job_starts_before_round_one(job: Bench) -> None:
    progress = job.claim("a").progress()
    assert (progress.round, progress.attempt, progress.state, progress.evaluated) == (0, 0, None, False)


def test_attempt_numbers_rise_over_claims_and_failures(job: Bench) -> None:
    numbers = []
    for holder in "abc":
        journal = job.claim(holder)
        numbers.append(open_one(journal))
        numbers.append(open_one(journal))
        journal.commit(result(journal, numbers[-1], status="failed"), None)
    assert numbers == [1, 2, 3, 4, 5, 6]
    assert job.claim("d").progress().attempt == 6


def test_a_contract_check_leaves_the_state_that_round_one_starts_from(job: Bench) -> None:
    journal = job.claim("a")
    number = open_one(journal, "statistics")
    found = result(journal, number, kind="statistics", status="evaluated")
    with pytest.raises(ValueError, match="come together"):
        journal.commit(found, None)
    kept = {**state(0), "preparation": np.arange(5.0)}
    journal.commit(found, kept)
    progress = job.claim("b").progress()
    assert (progress.round, progress.attempt, progress.evaluated) == (0, number, False)
    assert progress.state is not None
    np.testing.assert_array_equal(progress.state["preparation"], kept["preparation"])
    assert apply_round(job.claim("c")) == 1
    late = job.claim("d")
    number = open_one(late, "statistics", base=0)
    with pytest.raises(ValueError, match="before round 1"):
        late.commit(result(late, number, kind="statistics", status="evaluated", base=0), kept)
    if job.store is not None:
        # Rounds are what was trained.
        assert [it.round for it in job.store.history.rounds(job.plan.job)] == [1]


def test_an_applied_round_comes_back_with_its_state_bit_for_bit(job: Bench) -> None:
    apply_round(job.claim("a"))
    apply_round(job.claim("b"))
    progress = job.claim("c").progress()
    assert (progress.round, progress.attempt, progress.evaluated) == (2, 2, False)
    assert progress.state is not None
    assert set(progress.state) == set(state(2))
    for name, array in state(2).items():
        assert progress.state[name].dtype == array.dtype
        assert progress.state[name].tobytes() == array.tobytes()


def test_a_round_is_evaluated_once_figures_of_its_model_are_there(job: Bench) -> None:
    journal = job.claim("a")
    apply_round(journal)
    apply_round(journal, metrics={"auc": MetricValue(value=0.7)})
    assert not journal.progress().evaluated
    attempt = open_one(journal, "evaluate")
    figures = {"auc": MetricValue(value=0.8, error=0.01)}
    journal.commit(result(journal, attempt, status="evaluated", kind="evaluate", metrics=figures), None)
    assert journal.progress().evaluated
    assert journal.progress().round == 2


WRITES: dict[str, Callable[[Journal], object]] = {
    "open_attempt": open_one,
    "commit": lambda journal: journal.commit(result(journal, 1), state(1)),
    "present": lambda journal: journal.present([MemberPresence("alpha", 7, True, 1, 1.0)]),
    "set_status": lambda journal: journal.set_status("running"),
    "event": lambda journal: journal.event("note", "a line"),
    "receipts": lambda journal: journal.receipts(1, "d" * 64, {"alpha": signed(5)}),
}


@pytest.mark.parametrize("name", WRITES)
def test_an_older_holder_writes_nothing_more(job: Bench, name: str) -> None:
    older = job.claim("older")
    open_one(older)
    older.present([MemberPresence("alpha", 7, True, 1, 1.0)])
    newer = job.claim("newer")
    with pytest.raises(LeaseLost):
        WRITES[name](older)
    assert newer.progress().attempt == 1
    assert newer.progress().round == 0


def test_a_new_holder_abandons_what_the_old_one_had_open(job: Bench) -> None:
    open_one(job.claim("older"))
    newer = job.claim("newer")
    with pytest.raises(ValueError, match="already abandoned"):
        newer.commit(result(newer, 1), state(1))


def test_opening_an_attempt_abandons_the_one_before(job: Bench) -> None:
    journal = job.claim("a")
    first, second = open_one(journal), open_one(journal)
    with pytest.raises(ValueError, match="already abandoned"):
        journal.commit(result(journal, first), state(1))
    journal.commit(result(journal, second), state(1))


def test_a_round_counts_once(job: Bench) -> None:
    journal = job.claim("a")
    attempt = open_one(journal)
    done = result(journal, attempt)
    journal.commit(done, state(1))
    with pytest.raises(ValueError, match="already applied"):
        journal.commit(done, state(1))
    again = open_one(journal, base=0)
    repeated = done.model_copy(update={"attempt": again})
    with pytest.raises(ValueError, match="does not follow round 1"):
        journal.commit(repeated, state(1))
    assert journal.progress().round == 1


BROKEN = {
    "another cohort": {"cohort": MEMBERS[:2]},
    "another base": {"base": 1},
    "another kind": {"kind": "evaluate"},
    "a round without its status": {"status": "failed"},
    "a number that was never opened": {"attempt": 9},
    "left open": {"status": "open", "round": None},
    "active outside the cohort": {"active": ("zeta",)},
    "another job": {"job": "f" * 32},
    "a gap in rounds": {"round": 2},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_result_that_does_not_fit_changes_nothing(job: Bench, name: str) -> None:
    journal = job.claim("a")
    attempt = open_one(journal)
    done = result(journal, attempt)
    with pytest.raises(ValueError, match=r"attempt|job"):
        journal.commit(done.model_copy(update=BROKEN[name]), state(1))
    with pytest.raises(ValueError, match="come together"):
        journal.commit(done, None)
    assert journal.progress().round == 0
    journal.commit(done, state(1))
    assert journal.progress().round == 1


def test_an_attempt_starts_from_a_round_that_is_there(job: Bench) -> None:
    journal = job.claim("a")
    with pytest.raises(ValueError, match="newest is 0"):
        open_one(journal, base=1)
    with pytest.raises(ValueError, match="once"):
        journal.open_attempt("train", base=0, cohort=("alpha", "alpha"), left_out={}, knobs={})
    assert journal.progress().attempt == 0


def test_pins_stand_above_the_charter_s_defaults(job: Bench) -> None:
    assert job.claim("a").knobs() == {"client_rate": 0.5, "dropout": 0.3}


def test_two_hashes_for_one_row_of_a_ledger_name_the_member(job: Bench) -> None:
    journal = job.claim("a")
    for sequence, mark, forked in ((5, "1", {}), (6, "2", {}), (5, "3", {"alpha"}), (7, "4", {})):
        attempt = open_one(journal)
        found = journal.receipts(attempt, "d" * 64, {"alpha": signed(sequence, mark), "beta": signed(5)})
        assert set(found) == set(forked)
        assert all("row 5" in sentence for sentence in found.values())


def test_the_first_receipt_of_an_attempt_stands(job: Bench) -> None:
    journal = job.claim("a")
    attempt = open_one(journal)
    assert journal.receipts(attempt, "d" * 64, {"alpha": signed(5, "1")}) == {}
    assert journal.receipts(attempt, "d" * 64, {"alpha": signed(5, "2")}) == {}
    assert set(journal.receipts(open_one(journal), "d" * 64, {"alpha": signed(5, "2")})) == {"alpha"}


def test_receipts_are_of_members_that_were_asked(job: Bench) -> None:
    journal = job.claim("a")
    attempt = open_one(journal)
    with pytest.raises(ValueError, match="a receipt of zeta"):
        journal.receipts(attempt, "d" * 64, {"zeta": signed(1)})
    with pytest.raises(ValueError, match="never opened"):
        journal.receipts(attempt + 1, "d" * 64, {"alpha": signed(1)})
    # Without noise nothing is charged, and there is nothing to keep.
    assert journal.receipts(attempt + 1, "d" * 64, {"zeta": signed(None)}) == {}


# --- going back -------------------------------------------------------------------------------


def auc(value: float) -> dict[str, MetricValue]:
    return {"auc": MetricValue(value=value)}


def six_rounds(job: Bench, *, best: int = 3) -> None:
    """Six rounds, paused; each round's figures come with the next one, those of the sixth by themselves."""
    journal = job.claim("a")
    for number in range(6):
        apply_round(journal, metrics=auc(0.9 if number == best else 0.5 + number / 100))
    attempt = open_one(journal, "evaluate")
    measured = result(journal, attempt, status="evaluated", kind="evaluate", metrics=auc(0.6))
    journal.commit(measured, None)
    open_one(journal)
    journal.set_status("paused")


def kept(job: Bench) -> set[int]:
    return {number for number in range(20) if job.keeps(number)}


@pytest.mark.usefixtures("few_kept")
def test_by_default_a_job_goes_back_to_the_best_evaluated_round(job: Bench) -> None:
    six_rounds(job)
    assert kept(job) == {3, 5, 6}
    job.roll_back(None)
    assert kept(job) == {3}
    journal = job.claim("b")
    progress = journal.progress()
    assert (progress.round, progress.attempt, progress.evaluated) == (3, 8, True)
    assert progress.state is not None
    assert progress.state["weights"].tobytes() == state(3)["weights"].tobytes()
    assert open_one(journal) == 9
    journal.commit(result(journal, 9), state(4))
    # The figures of the round that was undone are not those of the new one.
    assert not journal.progress().evaluated
    assert kept(job) == {3, 4}


def test_attempts_of_undone_rounds_stay_in_the_books(job: Bench) -> None:
    six_rounds(job)
    job.roll_back(5)
    if job.store is None:
        return
    history, name = job.store.history, job.plan.job
    attempts = history.attempts(name)
    assert [it.status for it in attempts] == [*["applied"] * 5, "undone", "undone", "abandoned"]
    assert {it.reason for it in attempts[5:]} == {"the job went back to round 5: it diverged"}
    assert [len(it.participation) for it in attempts] == [*[len(MEMBERS)] * 7, 0]
    assert [it.round for it in history.rounds(name)] == [1, 2, 3, 4, 5]
    assert [it.round for it in history.metrics(name)] == [0, 1, 2, 3, 4, 5]
    [event] = history.newest_events(name, kind="rolled-back", limit=2)
    assert event.sentence == "tuner took the job back from round 6 to round 5; charges stay: it diverged"
    assert event.facts == {"from": 6, "to": 5, "by": "tuner"}


@pytest.mark.usefixtures("few_kept")
def test_where_the_best_round_is_undone_the_best_of_those_left_is_kept_from_then_on(job: Bench) -> None:
    six_rounds(job, best=5)
    attempt = open_one(journal := job.claim("b"), "evaluate")
    best = result(journal, attempt, status="evaluated", kind="evaluate", metrics=auc(0.95))
    journal.commit(best, None)
    journal.set_status("paused")
    assert kept(job) == {5, 6}
    job.roll_back(5)
    journal = job.claim("c")
    for _ in range(4):
        apply_round(journal)
    assert kept(job) == {5, 8, 9}


@pytest.mark.usefixtures("few_kept")
@pytest.mark.parametrize(
    ("to", "sentence"),
    [
        (4, "round 4 is not kept: the job is at round 6 and can go back to round 3 or 5"),
        (6, "round 6 is the newest one: the job is at round 6 and can go back to round 3 or 5"),
        (7, "round 7 is not kept: the job is at round 6 and can go back to round 3 or 5"),
    ],
)
def test_only_a_round_that_is_kept_can_be_gone_back_to(job: Bench, to: int, sentence: str) -> None:
    six_rounds(job)
    with pytest.raises(InputError) as refused:
        job.roll_back(to)
    assert str(refused.value) == sentence
    assert job.claim("b").progress().round == 6


def test_a_job_without_figures_has_no_best_round(job: Bench) -> None:
    journal = job.claim("a")
    apply_round(journal)
    journal.set_status("paused")
    with pytest.raises(InputError, match=r"was evaluated: the job is at round 1 and can go back to no round"):
        job.roll_back(None)


@pytest.mark.parametrize("status", ["queued", "running", "finished"])
def test_only_a_job_that_nothing_works_on_goes_back(job: Bench, status: JobStatus) -> None:
    journal = job.claim("a")
    apply_round(journal)
    apply_round(journal)
    journal.set_status(status)
    with pytest.raises(HansaError, match=f"is {status}"):
        job.roll_back(1)
    assert journal.progress().round == 2


def test_a_run_that_did_not_notice_that_it_is_over_writes_nothing_after_it(job: Bench) -> None:
    six_rounds(job)
    journal = job.claim("b")
    job.roll_back(5)
    with pytest.raises(LeaseLost):
        open_one(journal)


class JournalMachine(RuleBasedStateMachine):
    """Any sequence of claims, attempts and results, against a model of a few numbers."""

    kind = "memory"

    @initialize()
    def start(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.context = bench(self.kind, Path(self.folder.name))
        self.job = self.context.__enter__()
        self.journals = [self.job.claim("0")]
        self.attempt = self.round = 0
        self.open: tuple[int, int] | None = None
        self.evaluated: set[int] = set()

    @rule()
    def claim(self) -> None:
        self.journals.append(self.job.claim(str(len(self.journals))))
        self.open = None

    @rule(data=st.data())
    def open_attempt(self, data: st.DataObject) -> None:
        base = data.draw(st.integers(0, self.round))
        self.attempt += 1
        assert open_one(self.journals[-1], base=base) == self.attempt
        self.open = (self.attempt, base)

    @precondition(lambda self: self.open is not None)
    @rule(status=st.sampled_from(["applied", "failed"]), evaluated=st.booleans())
    def close(self, status: str, evaluated: bool) -> None:
        assert self.open is not None
        attempt, base = self.open
        journal = self.journals[-1]
        figures = {"auc": MetricValue(value=0.5)} if evaluated else {}
        done = result(journal, attempt, status=status, base=base, metrics=figures)
        self.open = None
        if status == "applied":
            self.round += 1
        if evaluated:
            self.evaluated.add(base)
        journal.commit(done, state(self.round) if status == "applied" else None)

    @precondition(lambda self: self.open is None and self.attempt)
    @rule(data=st.data())
    def close_again(self, data: st.DataObject) -> None:
        journal = self.journals[-1]
        number = data.draw(st.integers(1, self.attempt + 1))
        with pytest.raises(ValueError, match="attempt"):
            journal.commit(result(journal, number), state(self.round + 1))

    @precondition(lambda self: len(self.journals) > 1)
    @rule(data=st.data())
    def write_late(self, data: st.DataObject) -> None:
        older = data.draw(st.sampled_from(self.journals[:-1]))
        with pytest.raises(LeaseLost):
            data.draw(st.sampled_from(list(WRITES.values())))(older)

    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        self.journals[-1].set_status("paused")
        to = data.draw(st.integers(0, self.round))
        if to == self.round or not self.job.keeps(to):
            with pytest.raises(InputError):
                self.job.roll_back(to)
            return
        self.job.roll_back(to)
        self.round = to
        self.evaluated = {number for number in self.evaluated if number <= to}
        self.claim()

    @rule()
    def look(self) -> None:
        progress = self.journals[-1].progress()
        assert (progress.round, progress.attempt) == (self.round, self.attempt)
        assert progress.evaluated == (self.round in self.evaluated)
        if self.round:
            assert progress.state is not None
            assert np.array_equal(progress.state["weights"], state(self.round)["weights"])
            assert not any(self.job.keeps(number) for number in range(self.round + 1, self.attempt + 1))
        else:
            assert progress.state is None

    def teardown(self) -> None:
        if hasattr(self, "context"):
            self.look()
            self.context.__exit__(None, None, None)
            self.folder.cleanup()


class StoreMachine(JournalMachine):
    kind = "sqlite"


_SETTINGS = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMemoryLaws = JournalMachine.TestCase
TestMemoryLaws.settings = _SETTINGS
TestStoreLaws = StoreMachine.TestCase
TestStoreLaws.settings = _SETTINGS
