"""`hansa simulate` with noise: each member's grant is really spent, and exactly what was planned."""

from __future__ import annotations

import pytest
from federation import make_plan
from funded import LOCAL, SMALL, budget_of, funded

from hansa.cli import simulation
from hansa.cli.simulation import SimulatedFederation
from hansa.clients.protocol import Agent
from hansa.contract.charter import Mode, Protection
from hansa.contract.errors import HansaError
from hansa.contract.jobs import JobPlan
from hansa.contract.scenario import FirstGrant
from hansa.privacy.verify import verify


def run(
    federation: SimulatedFederation, plan: JobPlan, monkeypatch: pytest.MonkeyPatch
) -> tuple[simulation.SimulatedJob, dict[str, Agent]]:
    """The job, and the agents that worked on it."""
    agents = federation.agents()
    monkeypatch.setattr(SimulatedFederation, "agents", lambda _: agents)
    return simulation.run(federation, plan), agents


@pytest.mark.parametrize("mode", ["clear", "masked"])
@pytest.mark.parametrize(("rounds", "steps"), [(3, 10), (8, 1)])
def test_a_job_takes_its_share_of_every_members_grant_and_no_more(
    mode: Mode, rounds: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = funded(mode=mode, training=SMALL)
    done, agents = run(federation, make_plan(rounds, steps=steps, share=0.3), monkeypatch)
    assert len(done.rounds) == rounds
    for agent in agents.values():
        ledger = budget_of(agent).ledger
        with ledger.held() as book:
            [grant], [job] = book.grants.values(), book.jobs.values()
            assert grant.percent_left == pytest.approx(70.0, abs=1e-6)
            assert float(grant.sums.holdout) == pytest.approx(0.3 * grant.amount)
            # The last one is told to nobody any more: no order follows it.
            assert job.unfinished <= 1
        assert verify(ledger.rows()).epsilon["first"] < 8.0


def test_shared_noise_is_charged_as_the_sum_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    privacy = LOCAL.model_copy(update={"noise": "distributed", "s": 1})
    federation = funded(5, privacy=privacy, protection=Protection(mode="masked"))
    _, agents = run(federation, make_plan(4, share=0.5), monkeypatch)
    for agent in agents.values():
        with budget_of(agent).ledger.held() as book:
            [grant] = book.grants.values()
            assert grant.percent_left == pytest.approx(50.0, abs=1e-6)


def test_a_grant_too_small_for_a_second_job_pauses_it_and_says_whose(monkeypatch: pytest.MonkeyPatch) -> None:
    federation = funded(grant=FirstGrant(epsilon=3.0))
    _, agents = run(federation, make_plan(3, share=0.9), monkeypatch)
    with pytest.raises(HansaError, match="budget-exhausted"):
        run(federation, make_plan(3, share=0.2, job="cd" * 16), monkeypatch)
    for agent in agents.values():
        with budget_of(agent).ledger.held() as book:
            assert list(book.jobs) == [make_plan().job]
