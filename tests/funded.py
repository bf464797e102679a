"""Members with noise and a grant, for tests: what the server tells them, as an honest one would."""

from __future__ import annotations

from federation import JOB, make_federation, make_order, make_plan, request
from masked_side import Answer, answer_of

from hansa.cli.simulation import SimulatedFederation
from hansa.clients.budget import Budget
from hansa.clients.protocol import Agent
from hansa.contract.charter import PrivacyPlan, Training
from hansa.contract.jobs import JobPlan
from hansa.contract.keys import to_text
from hansa.contract.messages import JobReply, JobRequest, Order, Seen, Witness, WitnessRequest
from hansa.contract.scenario import FirstGrant
from hansa.contract.statements import witness_statement

LOCAL = PrivacyPlan(noise="local")
# With few entities the grid has room for much noise.
SMALL = Training(max_entities=1000)


def funded(members: int = 4, *, grant: FirstGrant | None = None, **charter: object) -> SimulatedFederation:
    """A federation whose charter has noise, `local` unless told otherwise; each member grants so much."""
    made = make_federation(members, **{"privacy": LOCAL, "training": SMALL, **charter})  # type: ignore[arg-type]
    object.__setattr__(made, "grant", grant or FirstGrant())
    return made


def witnessed(federation: SimulatedFederation, agent: Agent, seen: Seen | None = None) -> None:
    """In mode `clear`: all others sign the agent's start, and say that they saw so much of its ledger."""
    me = agent.membership.name
    assert agent.starts is not None
    words = []
    for name in set(federation.records) - {me}:
        start = agent.starts.start
        word = Witness(witness=name, member=me, start=start, made="00" * 16, first=0, seen=seen)
        signed = federation.identities[name].sign(witness_statement(federation.hash, word))
        words.append(word.model_copy(update={"signature": to_text(signed)}))
    assert answer_of(agent, request(federation, WitnessRequest(shown=tuple(words)))).said == "witness"
    assert agent.starts.witnessed


def propose(federation: SimulatedFederation, agent: Agent, plan: JobPlan | None = None) -> dict[str, float]:
    """Show a plan; returns the member's noise by segment. In mode `clear` its start is signed by then."""
    if agent.ring is None and agent.starts is not None and not agent.starts.witnessed:
        witnessed(federation, agent)
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


__all__ = ["JOB", "LOCAL", "SMALL", "Answer", "budget_of", "funded", "noised_order", "propose", "witnessed"]
