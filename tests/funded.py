"""Members with noise and a grant, for tests: what the server tells them, as an honest one would."""

from __future__ import annotations

from federation import JOB, make_federation, make_order, make_plan, request
from masked_side import Answer, answer_of

from hansa.cli.simulation import SimulatedFederation
from hansa.clients.budget import Budget
from hansa.clients.protocol import Agent
from hansa.contract.charter import PrivacyPlan, Training
from hansa.contract.jobs import JobPlan
from hansa.contract.messages import JobReply, JobRequest, Order
from hansa.contract.scenario import FirstGrant

LOCAL = PrivacyPlan(noise="local")
# With few entities the grid has room for much noise.
SMALL = Training(max_entities=1000)


def funded(members: int = 4, *, grant: FirstGrant | None = None, **charter: object) -> SimulatedFederation:
    """A federation whose charter has noise, `local` unless told otherwise; each member grants so much."""
    made = make_federation(members, **{"privacy": LOCAL, "training": SMALL, **charter})  # type: ignore[arg-type]
    object.__setattr__(made, "grant", grant or FirstGrant())
    return made


def propose(federation: SimulatedFederation, agent: Agent, plan: JobPlan | None = None) -> dict[str, float]:
    """Show a plan; returns the member's noise by segment."""
    answer = answer_of(agent, request(federation, JobRequest(plan=plan or make_plan())))
    assert isinstance(answer.body, JobReply), answer.body
    return answer.body.noise


def noised_order(
    federation: SimulatedFederation, attempt: int, noise: dict[str, float], **fields: object
) -> Order:
    """An order as an honest server writes it where these are the cohort's largest multipliers."""
    return make_order(federation, attempt, **{"noise": noise, **fields})


def budget_of(agent: Agent) -> Budget:
    assert agent.budget is not None
    return agent.budget


__all__ = ["JOB", "LOCAL", "SMALL", "Answer", "budget_of", "funded", "noised_order", "propose"]
