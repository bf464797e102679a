"""What a masked agent keeps in memory is bounded, and a replayed request takes nothing away from it."""

from __future__ import annotations

import pytest
from federation import JOB, make_federation, make_plan, request
from masked_side import MaskedServer, ready

from hansa.clients.masked import HELD_S, KEPT_ATTEMPTS
from hansa.clients.repeats import KEPT_ANSWERS
from hansa.contract.messages import HelloRequest, JobRequest, WitnessRequest

ALL = tuple("abcd")


@pytest.fixture
def server() -> MaskedServer:
    return ready(make_federation(4, mode="masked"))


@pytest.mark.parametrize("body", [HelloRequest(nonce="x", prekeys=4), WitnessRequest(nonce="x", prekeys=4)])
def test_the_same_request_for_prekeys_is_answered_once(
    server: MaskedServer, body: HelloRequest | WitnessRequest
) -> None:
    ring = server.agents["a"].ring
    assert ring is not None
    recorded = request(server.federation, body)
    said = server.send("a", recorded)
    held = set(ring._own)
    for _ in range(100):
        assert server.send("a", recorded).raw == said.raw
    for number in range(KEPT_ANSWERS):
        assert server.ask("a", HelloRequest(nonce=f"{number}", prekeys=1)).said == "hello"
    assert server.send("a", recorded).said == "replayed"
    assert held < set(ring._own)
    assert len(ring._own) == len(held) + KEPT_ANSWERS
    server.train(server.begin(1))


def test_shares_of_an_attempt_are_gone_when_the_time_to_unmask_is_over(server: MaskedServer) -> None:
    masked, clock = server.agents["a"]._masked, [0.0]
    assert masked is not None
    masked._monotonic = lambda: clock[0]
    attempt = server.train(server.begin(1))
    clock[0] = HELD_S
    assert server.ask("a", attempt.unmask(ALL)).said == "unmask"
    clock[0] = HELD_S + 1
    server.hello("a")
    assert masked._newest == {}
    assert server.ask("a", attempt.unmask(ALL)).said == "attempt-lost"
    assert server.ask("b", attempt.unmask(ALL)).said == "unmask"


def test_shares_are_held_for_all_three_deadlines_of_a_plan_with_long_ones() -> None:
    server, clock = MaskedServer(make_federation(4, mode="masked")), [0.0]
    server.exchange()
    for name, agent in server.agents.items():
        assert agent._masked is not None
        agent._masked._monotonic = lambda: clock[0]
        assert server.ask(name, JobRequest(plan=make_plan(deadline_s=3600.0))).said == "job"
    attempt = server.train(server.begin(1), ("a", "b", "c"))
    # The slowest uploads at the last moment, and so does whoever signs and gives a share.
    clock[0] = 3600.0
    server.train(attempt, ("d",))
    clock[0] = 3 * 3600.0
    assert server.ask("a", attempt.unmask(ALL)).said == "unmask"
    clock[0] += 1
    assert [server.ask(name, attempt.unmask(ALL)).said for name in "bd"] == ["attempt-lost", "unmask"]


def test_shares_of_so_many_jobs_are_held(server: MaskedServer) -> None:
    masked = server.agents["a"]._masked
    assert masked is not None
    attempts = []
    for number in range(KEPT_ATTEMPTS + 2):
        job = f"{number:032x}"
        server.propose(job=job)
        if not all(server.stock.values()):
            server.exchange()
        attempts.append(server.train(server.begin(1, job=job)))
    assert len(masked._newest) == KEPT_ATTEMPTS
    assert [server.ask("a", it.unmask(ALL)).said for it in attempts[:3]] == [
        "attempt-lost",
        "attempt-lost",
        "unmask",
    ]
    assert JOB not in masked._newest
