"""Mode `clear` with noise: nothing is unmasked, and still nobody signs that an attempt finished on hearsay."""

from __future__ import annotations

from dataclasses import replace

from federation import JOB, attempt_request, make_federation, make_order, make_plan, request
from funded import witnessed

from hansa.clients.protocol import Agent
from hansa.contract.charter import PrivacyPlan
from hansa.contract.messages import (
    JobReply,
    JobRequest,
    Receipt,
    RefusalReply,
    Reply,
    UnmaskReply,
    UnmaskRequest,
    UploadReply,
)
from hansa.contract.scenario import FirstGrant
from hansa.contract.wire import reply_header, unpack
from hansa.secagg.finishing import make_finish
from hansa.secagg.parties import Parties

COHORT = ("a", "b", "c", "d")


def read(agent: Agent, payload: bytes) -> Reply:
    return reply_header(unpack(agent.handle(payload))).body


def test_t_signatures_come_for_receipts_of_everybody_and_for_nothing_less() -> None:
    federation = replace(
        make_federation(mode="clear", privacy=PrivacyPlan(noise="local")), grant=FirstGrant()
    )
    agents, noise = federation.agents(), 0.0
    for agent in agents.values():
        witnessed(federation, agent)
        body = read(agent, request(federation, JobRequest(plan=make_plan(10))))
        assert isinstance(body, JobReply)
        noise = max(noise, body.noise["update"])
    order = make_order(federation, noise={"update": noise})
    payload, receipts = attempt_request(federation, order), {}
    for name, agent in agents.items():
        body = read(agent, payload)
        assert isinstance(body, UploadReply), body
        receipts[name] = body.receipt

    def asked(shown: dict[str, Receipt]) -> bytes:
        return request(
            federation, UnmaskRequest(job=JOB, attempt=order.attempt, active=COHORT, receipts=shown)
        )

    lies = [
        {},
        {**receipts, "d": Receipt()},
        {**receipts, "d": receipts["c"]},
        {**receipts, "d": receipts["d"].model_copy(update={"charges": ()})},
        {name: it for name, it in receipts.items() if name != "d"},
    ]
    for lie in lies:
        refusal = read(agents["a"], asked(lie))
        assert isinstance(refusal, RefusalReply)
        assert (refusal.code, refusal.facts["member"]) == ("active-set-not-agreed", "d" if lie else "a")
    signed = {}
    for name, agent in agents.items():
        answer = read(agent, asked(receipts))
        assert isinstance(answer, UnmaskReply)
        assert answer.shares == {}
        signed[name] = answer.finished
    assert make_finish(order, signed, Parties.of(federation.charter, federation.hash)) is not None
