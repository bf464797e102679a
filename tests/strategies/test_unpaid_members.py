"""A member whose budget does not pay is asked for its approval seldom, and more seldom each time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from federation import JOB, attempt_request
from funded import budget_of, funded, noised_order
from masked_jobs import MaskedJob
from masked_side import answer_of
from test_waits import Clock, Nodes

from hansa.clients.grants import FreezeOrder, GrantOrder
from hansa.contract.messages import Order, RefusalReply
from hansa.strategies.roster import JOB_AGAIN_S, UNPAID_AGAIN_S, Roster


@pytest.fixture
def job() -> MaskedJob:
    return MaskedJob(simulated=funded(5, mode="masked"), rounds=3)


def roster_of(job: MaskedJob, clock: Clock) -> Roster:
    strategy = job.strategy()
    nodes, parameters = Nodes(job, clock, lambda *_: False), strategy.model.parameters
    return Roster(strategy._desk, nodes, strategy.journal, monotonic=clock, parameters=parameters)  # type: ignore[arg-type]


def proposals(job: MaskedJob, name: str) -> int:
    return sum(member == name and body.type == "job" for member, body in job.asked)


def asked_until_it_takes_part(job: MaskedJob, roster: Roster, clock: Clock, name: str) -> float:
    """Seconds until the next attempt has the member in its cohort."""
    began = clock.now
    while name not in roster.select({}).cohort:
        clock.now += 1
        assert clock.now < began + 1000
        roster.refresh()
    return clock.now - began


def test_one_that_says_yes_to_the_job_and_no_to_its_orders_is_asked_more_and_more_seldom(
    job: MaskedJob,
) -> None:
    clock = Clock()
    roster = roster_of(job, clock)
    roster.refresh()
    assert roster.select({}).cohort == tuple("abcde")
    for wait in (JOB_AGAIN_S, UNPAID_AGAIN_S, 2 * UNPAID_AGAIN_S, 4 * UNPAID_AGAIN_S):
        asked = proposals(job, "b")
        roster.not_paid("b", "budget-exhausted", "all of it is spent")
        selection = roster.select({})
        assert selection.cohort == tuple("acde")
        assert selection.left_out == {"b": "budget-exhausted: all of it is spent"}
        assert asked_until_it_takes_part(job, roster, clock, "b") == pytest.approx(wait, abs=1)
        assert proposals(job, "b") == asked + 1
        assert roster.unpaid == {}
    # Once it has paid for an attempt it is believed again.
    roster.took_part("abcde")
    roster.not_paid("b", "budget-exhausted", "all of it is spent")
    assert asked_until_it_takes_part(job, roster, clock, "b") == pytest.approx(JOB_AGAIN_S, abs=1)
    said = [sentence for kind, sentence, member, _ in job.job.events if member == "b"]
    assert said == ["all of it is spent"] * 2


def unfrozen(job: MaskedJob, _: int) -> Callable[[], object]:
    grants, order = budget_of(job.agents["b"]).grants, FreezeOrder(grant="first", reason="ours", by="us")
    grants.freeze(order)
    return lambda: grants.unfreeze(order)


def granted(job: MaskedJob, turn: int) -> Callable[[], object]:
    budget = budget_of(job.agents["b"])
    # Every grant there was has expired.
    LATER.append(timedelta(days=366 * (turn + 1)))

    def grant() -> None:
        name = f"grant-{turn}"
        expires = datetime.now(UTC) + LATER[-1] + timedelta(days=365)
        budget.grants.grant(
            GrantOrder(
                grant=name,
                epsilon=2.0,
                delta=1e-6,
                expires=expires,
                purpose="a test",
                legal_basis="made-up records",
                by="us",
            )
        )
        budget.approve(job.job.plan, by="us", grant=name)

    return grant


def recovered(job: MaskedJob, _: int) -> Callable[[], object]:
    ledger = budget_of(job.agents["b"]).ledger
    ledger.freeze("it is an older copy")
    return lambda: ledger.freeze("")


def approved(job: MaskedJob, turn: int) -> Callable[[], object]:
    agent, number = job.agents["b"], 100 * (turn + 1)
    budget = budget_of(agent)
    # Attempts that are paid and never heard of again.
    for paid in range(3):
        budget.charge(job.job.plan, order_of(job, number + paid))
    return lambda: budget.approve(job.job.plan, by="us")


LATER: list[timedelta] = []


def order_of(job: MaskedJob, number: int) -> Order:
    with budget_of(job.agents["b"]).ledger.held() as book:
        approval = book.jobs[JOB].approval
        assert approval is not None
        noise = budget_of(job.agents["b"]).noise_of(book, approval)
    return noised_order(job.simulated, number, {"update": noise["update"]})


@pytest.mark.parametrize("decision", [unfrozen, granted, recovered, approved])
@pytest.mark.parametrize("minutes", [0, 1, pytest.param(60, marks=pytest.mark.slow)])
def test_what_an_organisation_decides_counts_in_the_running_job_at_once(
    job: MaskedJob, decision: Callable[[MaskedJob, int], Callable[[], object]], minutes: int
) -> None:
    clock, agent = Clock(), job.agents["b"]
    budget_of(agent).ledger._now = lambda: datetime.now(UTC) + (LATER[-1] if LATER else timedelta())
    LATER.clear()
    roster = roster_of(job, clock)
    roster.refresh()
    # Three approvals of as many lost attempts would take more than the grant has.
    for turn in range(1 if decision is approved else 3):
        roster.took_part(roster.select({}).cohort)
        lift = decision(job, turn)
        # In the job's middle, that is when an order is refused.
        body = answer_of(agent, attempt_request(job.simulated, order_of(job, 1000 + turn))).body
        assert isinstance(body, RefusalReply)
        roster.not_paid("b", body.code, body.sentence)
        events = len(agent.attempts.events())
        for _ in range(60 * minutes // 5):
            clock.now += 5
            roster.refresh()
            assert "b" not in roster.select({}).cohort
        # A member that is asked again and again does not fill its own log with its answer.
        assert len(agent.attempts.events()) <= events + 1
        lift()
        assert asked_until_it_takes_part(job, roster, clock, "b") <= JOB_AGAIN_S + 1


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
    assert proposals(job, "b") == 5
    assert [it[0] for it in job.job.events if it[2] == "b"] == ["grant-frozen"]
