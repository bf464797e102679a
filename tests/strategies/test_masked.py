"""Masked jobs with real agents: the same bits as in the clear, and whoever cheats is named while the job goes on."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from federation import JOB
from masked_jobs import (
    MaskedJob,
    Node,
    attempt_of,
    bad_parcels,
    clear_weights,
    makes,
    resealed,
    single_process,
    vanish,
)

from hansa.contract.charter import Protection
from hansa.contract.keys import to_text
from hansa.contract.messages import PREKEY_STOCK, Request, UnmaskReply
from hansa.contract.wire import reply_header, unpack
from hansa.strategies import consortium


@pytest.mark.parametrize("members", [2, 3, 4, 5, 10])
def test_a_masked_job_ends_in_the_bits_of_a_clear_one(members: int) -> None:
    job = MaskedJob(members, rounds=3)
    weights = job.run().state.weights
    assert job.job.status == "finished"
    assert weights.tobytes() == clear_weights(members, 3)
    assert all(len(result.active) == members for result in job.job.results)
    assert all(result.metrics for result in job.job.results)


def test_an_undisturbed_attempt_is_one_upload_and_one_small_exchange() -> None:
    job = MaskedJob(4, rounds=6)
    job.run()
    assert job.requests("agree") == []
    attempts = len(job.job.results)
    assert len(job.requests("attempt")) == len(job.requests("unmask")) == 4 * attempts
    assert len(job.requests("hello")) == 4
    # Once to sign the others' starts, once to be shown what they signed.
    assert len(job.requests("witness")) == 8


def test_a_new_run_with_agents_that_know_each_other_exchanges_no_starts() -> None:
    job = MaskedJob(4)
    job.run()
    job.asked.clear()
    again = MaskedJob(simulated=job.simulated, agents=job.agents, plan={"job": "cd" * 16})
    again.run()
    assert again.job.status == "finished"
    assert again.requests("witness") == []
    assert len(again.requests("hello")) == 4


def test_two_jobs_at_once_on_the_same_agents() -> None:
    first = MaskedJob(4, rounds=4)
    second = MaskedJob(simulated=first.simulated, agents=first.agents, rounds=4, plan={"job": "cd" * 16})
    threads = [threading.Thread(target=job.run) for job in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job in (first, second):
        assert job.job.status == "finished"
        assert job.job.state is not None
        assert job.job.state["weights"].tobytes() == clear_weights(4, 4)


def test_no_prekey_is_ordered_twice() -> None:
    job = MaskedJob(4, rounds=8)
    job.run()
    orders = {body.order.attempt: body.order for _, body in job.asked if body.type == "attempt"}
    used = [(name, number) for order in orders.values() for name, number in order.prekeys.items()]
    assert len(used) == len(set(used)) == 4 * 9


@pytest.mark.parametrize("kind", ["attempt", "agree", "unmask"])
def test_a_member_that_restarts_in_an_attempt_comes_back_in_the_next(kind: str) -> None:
    job = MaskedJob(6, rounds=4)
    restarted: list[str] = []

    def fault(body: Request, honest: Node, payload: bytes) -> bytes:
        if (body.type, attempt_of(body)) == (kind, 2) and not restarted:
            restarted.append("c")
            job.restart("c")
        return honest(payload)

    job.faults["c"] = fault
    if kind == "agree":
        job.faults["e"] = vanish("attempt", 2)
    job.run()
    assert restarted
    assert job.job.status == "finished"
    assert [result.status for result in job.job.results] == ["applied"] * 4 + ["evaluated"]
    # Whoever lost the attempt in mid-air is greeted at once; where others opened the sum, at the next refusal.
    assert job.job.results[-1].active == ("a", "b", "c", "d", "e", "f")


def test_everybody_restarts_between_two_attempts_and_the_job_goes_on() -> None:
    job = MaskedJob(4, rounds=3)
    honest_apply = job.strategy()
    restarted: list[int] = []

    class Restarts(type(honest_apply)):  # type: ignore[misc]
        def apply(self, attempt, followed=None):  # type: ignore[no-untyped-def]
            result = super().apply(attempt, followed)
            if not restarted:
                restarted.append(result.attempt)
                for name in job.agents:
                    job.restart(name)
            return result

    honest_apply.__class__ = Restarts
    job.run(honest_apply)
    assert job.job.status == "finished"
    failed = [result for result in job.job.results if result.status == "failed"]
    assert [result.attempt for result in failed] == [2]
    assert {it.code for it in failed[0].participation} == {"prekey-unknown"}


def test_garbage_shares_are_named_and_others_open_the_sum() -> None:
    job = MaskedJob(5, rounds=2)

    def garbage(body: Request, honest: Node, payload: bytes) -> bytes:
        reply = honest(payload)
        answer = reply_header(unpack(reply)).body
        if not isinstance(answer, UnmaskReply):
            return reply
        shares = {name: to_text(os.urandom(48)) for name in answer.shares}
        return resealed(job, "b", reply, answer.model_copy(update={"shares": shares}))

    job.faults["b"] = garbage
    weights = job.run().state.weights
    assert weights.tobytes() == clear_weights(5, 2)
    assert {member for member, _ in job.events("bad-share")} <= {"b"}


@pytest.mark.parametrize("shares", [{}, {"a": "x"}, {"z": ""}, {"a": ""}])
def test_where_every_share_is_needed_a_bad_giver_is_named_and_the_attempt_fails(
    shares: dict[str, str],
) -> None:
    job = MaskedJob(3, rounds=1)

    def garbage(body: Request, honest: Node, payload: bytes) -> bytes:
        reply = honest(payload)
        answer = reply_header(unpack(reply)).body
        if not isinstance(answer, UnmaskReply) or attempt_of(body) > 1:
            return reply
        return resealed(job, "b", reply, answer.model_copy(update={"shares": shares}))

    job.faults["b"] = garbage
    weights = job.run().state.weights
    assert [result.status for result in job.job.results] == ["failed", "applied", "evaluated"]
    assert "2 of 3 active members gave their shares" in job.job.results[0].reason
    assert [member for member, _ in job.events("bad-share")] == ["b"]
    assert weights.tobytes() == clear_weights(3, 1)


def test_one_complaint_names_both_and_the_others_go_on() -> None:
    job = MaskedJob(4, rounds=2)
    makes(job, "d", bad_parcels(job, {"a"}))
    job.run()
    assert job.job.status == "finished"
    assert all(result.active == ("b", "c", "d") for result in job.job.results)
    assert {member for member, _ in job.events("bad-share")} == {"a", "d"}


def test_a_maker_of_whom_more_than_may_collude_complain_is_left_out() -> None:
    job = MaskedJob(4, rounds=2)
    makes(job, "d", bad_parcels(job, {"a", "b"}))
    job.run()
    assert job.job.status == "finished"
    assert [result.status for result in job.job.results] == ["failed", "applied", "applied", "evaluated"]
    assert all(result.active == ("a", "b", "c") for result in job.job.results[1:])
    assert job.job.results[1].left_out["d"].startswith("left out until the next run")


def test_a_maker_whose_shares_give_another_secret_is_named_and_left_out() -> None:
    job = MaskedJob(4, rounds=2)
    makes(job, "d", lambda prekey: replace(prekey, commitment=bytes(32)))
    job.run()
    assert job.job.status == "finished"
    assert [result.status for result in job.job.results] == ["failed", "applied", "applied", "evaluated"]
    assert "the shares of the seed of 'd' give another seed" in job.job.results[0].reason
    assert [member for member, _ in job.events("bad-share")] == ["d"]
    assert all(result.active == ("a", "b", "c") for result in job.job.results[1:])


def test_a_bad_prekey_in_an_upload_is_noted_and_the_upload_counts() -> None:
    job = MaskedJob(4, rounds=3)
    agent = job.agents["b"]
    assert agent.ring is not None
    make = agent.ring.make

    def spoiled(count: int, **named: object) -> bytes:
        content = make(count, **named)  # type: ignore[arg-type]
        return content if count > 1 else content[:-1] + bytes([content[-1] ^ 1])

    agent.ring.make = spoiled  # type: ignore[method-assign]
    weights = job.run().state.weights
    assert weights.tobytes() == clear_weights(4, 3)
    assert all(result.active == ("a", "b", "c", "d") for result in job.job.results)
    assert {member for member, _ in job.events("bad-prekey")} == {"b"}


def test_an_empty_stock_is_filled_by_asking() -> None:
    job = MaskedJob(4, rounds=PREKEY_STOCK + 3)
    agent = job.agents["b"]
    assert agent.ring is not None
    make = agent.ring.make

    def spoiled(count: int, **named: object) -> bytes:
        content = make(count, **named)  # type: ignore[arg-type]
        return content if count > 1 else content[:-1] + bytes([content[-1] ^ 1])

    agent.ring.make = spoiled  # type: ignore[method-assign]
    job.run()
    assert job.job.status == "finished"
    assert all(result.active == ("a", "b", "c", "d") for result in job.job.results)
    # Two for its start, then whenever it had none left.
    assert job.requests("witness").count("b") == 2 + (PREKEY_STOCK + 3) // PREKEY_STOCK


def test_a_receipt_that_is_not_signed_for_this_order_refuses_the_upload() -> None:
    job = MaskedJob(4, rounds=1)
    agent, first = job.agents["b"], []
    honest = agent._orders._receipt

    def old(order, receipt):  # type: ignore[no-untyped-def]
        first.append(order)
        return honest(order.model_copy(update={"attempt": 9}) if len(first) == 1 else order, receipt)

    agent._orders._receipt = old  # type: ignore[method-assign]
    job.run()
    assert job.job.results[0].active == ("a", "c", "d")
    entry = next(it for it in job.job.results[0].participation if it.member == "b")
    assert entry.code == "bad-reply"
    assert "receipt" in entry.sentence


GROUPS = Protection(mode="masked", audit_groups=3)


def test_groups_are_summed_by_themselves_and_added() -> None:
    job = MaskedJob(10, rounds=1, protection=GROUPS)
    weights = job.run().state.weights
    orders = [body.order for _, body in job.asked if body.type == "attempt"]
    assert all(sorted(map(len, order.groups)) == [3, 3, 4] for order in orders)
    assert len({order.groups for order in orders}) == len(job.job.results)
    np.testing.assert_allclose(weights, single_process(job, job.agents), atol=1e-6)


def test_a_group_that_is_too_small_stays_closed_and_does_not_count() -> None:
    job = MaskedJob(10, rounds=1, protection=GROUPS)
    closed: list[str] = []

    def of_a_group_of_three(name: str, body: Request) -> bool:
        if not closed:
            group = min(body.order.groups, key=len)
            closed.extend([group[0], *group])
        return name == closed[0]

    def fault(name: str):  # type: ignore[no-untyped-def]
        def answer(body: Request, honest: Node, payload: bytes) -> bytes:
            if body.type == "attempt" and attempt_of(body) == 1 and of_a_group_of_three(name, body):
                raise ConnectionError("gone")
            return honest(payload)

        return answer

    job.faults = {name: fault(name) for name in job.agents}
    weights = job.run().state.weights
    assert job.job.results[0].status == "applied"
    assert len(job.job.results[0].active) == 9
    counted = set(job.agents) - set(closed)
    assert len(counted) == 7
    [(_, sentence)] = job.events("group-closed")
    assert all(name in sentence for name in closed)
    np.testing.assert_allclose(weights, single_process(job, counted), atol=1e-6)


def test_a_cohort_too_small_for_two_groups_is_one_circle() -> None:
    job = MaskedJob(5, rounds=2, protection=GROUPS)
    assert job.run().state.weights.tobytes() == clear_weights(5, 2)
    assert all(body.order.groups == () for _, body in job.asked if body.type == "attempt")


def test_nobody_is_waited_for_once_enough_gave_their_shares() -> None:
    job = MaskedJob(5, rounds=2, plan={"deadline_s": 30.0})
    hangs = threading.Event()

    def hung(body: Request, honest: Node, payload: bytes) -> bytes:
        if body.type == "unmask":
            hangs.wait(30)
        return honest(payload)

    job.faults["a"] = hung
    strategy, grid = job.strategy(), job.grid(workers=12)
    began = time.monotonic()
    strategy.connect(grid)
    strategy.train_round()
    strategy.train_round()
    assert time.monotonic() - began < 10
    hangs.set()
    grid.close()
    assert strategy.state.weights.tobytes() == clear_weights(5, 2)


@pytest.mark.parametrize("kind", ["agree", "unmask"])
def test_a_member_that_stays_silent_to_the_deadline_is_greeted_again(kind: str) -> None:
    job = MaskedJob(4, rounds=1, plan={"deadline_s": 1.0, "reask_s": 1.0})
    job.faults["d"] = vanish("attempt", 1)

    def slow(body: Request, honest: Node, payload: bytes) -> bytes:
        if body.type == kind and attempt_of(body) == 1:
            time.sleep(1.5)
        return honest(payload)

    job.faults["c"] = slow
    job.run()
    assert [result.status for result in job.job.results] == ["failed", "applied", "evaluated"]
    assert sorted(job.requests("hello")) == ["a", "b", "c", "c", "d", "d"]


def test_flowers_own_loop_drives_masked_rounds() -> None:
    from flwr.app import ArrayRecord, ConfigRecord

    job = MaskedJob(4, rounds=3)
    job.faults["d"] = vanish("attempt", 2)
    strategy, grid, empty = job.strategy(), job.grid(), ArrayRecord()
    for number in (1, 2, 3):
        messages = list(strategy.configure_train(number, empty, ConfigRecord(), grid))
        arrays, _ = strategy.aggregate_train(number, grid.send_and_receive(messages, timeout=5))
        assert arrays is not None
    messages = list(strategy.configure_evaluate(3, empty, ConfigRecord(), grid))
    figures = strategy.aggregate_evaluate(3, grid.send_and_receive(messages, timeout=5))
    grid.close()
    assert figures is not None
    assert [len(result.active) for result in job.job.results] == [4, 3, 4, 4]


def test_a_federation_whose_starts_cannot_be_signed_waits_and_says_why() -> None:
    job = MaskedJob(4)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        job.job.wanted = "stop"

    strategy = job.strategy()
    strategy._sleep = sleep
    job.agents.pop("d")
    job.run(strategy)
    assert job.job.opened == {}
    [(_, waiting)] = job.events("waiting")
    assert "a (its start is signed by 2 of 3 other members)" in waiting
    assert "d (not connected)" in waiting


def test_a_job_that_cannot_be_opened_pauses_with_the_reason_and_each_attempt_is_paid() -> None:
    job = MaskedJob(3)
    job.faults["a"] = lambda body, honest, payload: (
        honest(payload) if body.type != "unmask" else exec("raise ConnectionError('gone')")  # type: ignore[func-returns-value]
    )
    job.run()
    assert job.job.status == "paused"
    assert len(job.job.results) == consortium.FAILURES_IN_A_ROW
    numbers = [result.attempt for result in job.job.results]
    assert numbers == sorted(set(numbers))
    assert "2 of 3 active members gave their shares, the charter needs 3" in job.job.reason
    assert all(result.job == JOB and result.status == "failed" for result in job.job.results)
