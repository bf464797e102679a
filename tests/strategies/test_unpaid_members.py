"""A member whose budget does not pay is asked for its approval seldom, and more seldom each time."""

from __future__ import annotations

import pytest
from funded import funded
from masked_jobs import MaskedJob
from test_waits import Clock, Nodes

from hansa.clients.grants import FreezeOrder
from hansa.strategies.roster import UNPAID_AGAIN_S, Roster


@pytest.fixture
def job() -> MaskedJob:
    return MaskedJob(simulated=funded(5, mode="masked"), rounds=3)


def roster_of(job: MaskedJob, clock: Clock) -> Roster:
    strategy = job.strategy()
    nodes, parameters = Nodes(job, clock, lambda *_: False), strategy.model.parameters
    return Roster(strategy._desk, nodes, strategy.journal, monotonic=clock, parameters=parameters)  # type: ignore[arg-type]


def proposals(job: MaskedJob, name: str) -> int:
    return sum(member == name and body.type == "job" for member, body in job.asked)


def test_it_is_asked_after_a_minute_then_after_two_and_takes_part_when_it_says_yes(job: MaskedJob) -> None:
    clock = Clock()
    roster = roster_of(job, clock)
    roster.refresh()
    assert roster.select({}).cohort == tuple("abcde")
    for times in (1, 2, 3):
        asked = proposals(job, "b")
        roster.not_paid("b", "budget-exhausted", "all of it is spent")
        wait = UNPAID_AGAIN_S * 2 ** (times - 1)
        while clock.now + 10 < 1000 + wait:
            clock.now += 10
            roster.refresh()
            selection = roster.select({})
            assert selection.cohort == tuple("acde")
            assert selection.left_out == {"b": "budget-exhausted: all of it is spent"}
            assert proposals(job, "b") == asked
        clock.now += 20
        roster.refresh()
        # It approves the job anew, and an attempt may find the same again.
        assert proposals(job, "b") == asked + 1
        assert roster.select({}).cohort == tuple("abcde")
        assert roster.unpaid == {}
        clock.now = 1000.0
    said = [sentence for kind, sentence, member, _ in job.job.events if member == "b"]
    assert said == ["all of it is spent"]


def test_an_agent_that_starts_anew_is_asked_at_once(job: MaskedJob) -> None:
    clock = Clock()
    roster = roster_of(job, clock)
    roster.refresh()
    roster.not_paid("b", "ledger-behind-witness", "the ledger is a copy")
    job.restart("b")
    roster.forget("b")
    clock.now += 10
    roster.refresh()
    clock.now += 10
    roster.refresh()
    assert roster.unpaid == {}
    assert roster.select({}).cohort == tuple("abcde")


def test_a_refusal_of_the_job_itself_is_said_once_and_waits_for_nobody(job: MaskedJob) -> None:
    honest = job.agents["b"].budget
    assert honest is not None
    honest.grants.freeze(FreezeOrder(grant="first", reason="ours", by="us"))
    clock = Clock()
    roster = roster_of(job, clock)
    for _ in range(5):
        roster.refresh()
        clock.now += 6
    selection = roster.select({})
    assert selection.cohort == tuple("acde")
    assert "grant-frozen" in selection.left_out["b"]
    # Nobody waits for it as for one that is not connected yet.
    assert selection.hopeful == ()
    assert proposals(job, "b") == 1
