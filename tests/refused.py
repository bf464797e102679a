"""What a refusal must leave as it was at an agent in mode `masked`."""

from __future__ import annotations

from masked_side import Attempt, MaskedServer

from hansa.clients.protocol import Agent
from hansa.contract.messages import RefusalReply


def assert_refused(server: MaskedServer, lie: Attempt, code: str, name: str = "a") -> RefusalReply:
    """Refused, and nothing used up: the newest attempt and the ring's memory are what they were."""
    agent = server.agents[name]
    before = remembered(agent, lie.order.job)
    answer = server.send(name, lie.request)
    assert answer.said == code
    assert remembered(agent, lie.order.job) == before
    assert isinstance(answer.body, RefusalReply)
    return answer.body


def remembered(agent: Agent, job: str) -> object:
    ring = agent.ring
    assert ring is not None
    own, used = sorted(ring._own), {name: str(starts) for name, starts in ring._peers.items()}
    return own, str(ring._own_used), used, ring.accepts, agent.attempts.newest(job)
