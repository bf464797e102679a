"""A job over agents that fail: it goes on with the others, pauses with a reason, and never counts a round twice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from federation import JOB, make_federation, make_plan

from hansa.cli.simulation import LocalOperator, SimulatedFederation
from hansa.contract.messages import TrainRequest
from hansa.contract.wire import request_header, unpack
from hansa.strategies import consortium
from hansa.strategies.consortium import ConsortiumStrategy
from hansa.strategies.memory_grid import InMemoryGrid
from hansa.strategies.memory_journal import MemoryJob, MemoryJournal
from hansa.strategies.ports import LeaseLost

Node = Callable[[bytes], bytes]


class Federation:
    """Agents behind functions that a test may replace, and a job's memory that outlives strategies."""

    def __init__(self, simulated: SimulatedFederation, rounds: int = 3, **plan: object) -> None:
        self.simulated = simulated
        self.agents = simulated.agents()
        self.nodes: dict[int, Node] = {
            number: agent.handle for number, agent in enumerate(self.agents.values(), start=1)
        }
        knobs = {name: bounds.default for name, bounds in simulated.charter.knobs.items()}
        self.job = MemoryJob(make_plan(rounds, **plan), knobs)

    def strategy(self) -> ConsortiumStrategy:
        return ConsortiumStrategy(
            charter=self.simulated.charter,
            charter_hash=self.simulated.hash,
            model=self.simulated.model,
            journal=MemoryJournal(self.job),
            operator=LocalOperator(self.simulated.operator),
            gather_s=0.0,
            sleep=lambda _: None,
        )

    def run(self) -> ConsortiumStrategy:
        strategy = self.strategy()
        grid = InMemoryGrid(self.nodes, workers=4)
        try:
            strategy.start(grid)
        finally:
            grid.close()
        return strategy


def is_attempt(payload: bytes, number: int | None = None) -> bool:
    body = request_header(unpack(payload)).body
    return isinstance(body, TrainRequest) and (number is None or body.order.attempt == number)


@pytest.fixture
def federation() -> Federation:
    return Federation(make_federation(4))


def test_a_job_runs_its_rounds_and_releases_figures_of_every_model(federation: Federation) -> None:
    strategy = federation.run()
    assert federation.job.status == "finished"
    assert [(r.round, r.base) for r in federation.job.results if r.status == "applied"] == [
        (1, 0),
        (2, 1),
        (3, 2),
    ]
    assert [r.base for r in federation.job.results if r.metrics] == [0, 1, 2, 3]
    assert all(r.active == ("a", "b", "c", "d") for r in federation.job.results)
    assert strategy.state.round == 3
    last, first = federation.job.results[-1].metrics, federation.job.results[0].metrics
    assert last["log_loss"].value < first["log_loss"].value


def test_a_model_is_sent_once_and_kept_no_longer_than_it_is_sent(federation: Federation) -> None:
    requests: list[bytes] = []
    honest = federation.nodes[1]

    def listens(payload: bytes) -> bytes:
        if is_attempt(payload):
            requests.append(payload)
        return honest(payload)

    federation.nodes[1] = listens
    strategy = federation.strategy()
    grid = InMemoryGrid(federation.nodes, workers=4)
    strategy.connect(grid)
    attempts = []
    while strategy.state.round < 3:
        attempts.append(attempt := strategy.open("train", strategy.select()))
        strategy.gather_uploads(attempt)
        assert attempt.request == b""
        strategy.unmask(attempt)
        result = strategy.apply(attempt)
        assert {it.bytes_down for it in result.participation} == {len(requests[-1])}
    strategy.evaluate_final()
    grid.close()
    carried = [{it.name for it in request_header(unpack(request)).segments} for request in requests]
    assert carried == [{"weights"}, {"weights"}, {"weights"}, {"released"}]
    assert [r.base for r in federation.job.results if r.metrics] == [0, 1, 2, 3]


def test_a_tail_that_is_not_the_weights_is_sent_beside_them() -> None:
    federation = Federation(make_federation(4), rounds=4, rule={"name": "fedavg", "tail": 0.75})
    requests: list[bytes] = []
    honest = federation.nodes[1]

    def listens(payload: bytes) -> bytes:
        if is_attempt(payload):
            requests.append(payload)
        return honest(payload)

    federation.nodes[1] = listens
    federation.run()
    carried = [sorted(it.name for it in request_header(unpack(request)).segments) for request in requests]
    assert carried == [["weights"]] * 3 + [["released", "weights"]] + [["released"]]


def test_the_model_is_the_one_that_a_single_process_would_reach(federation: Federation) -> None:
    simulated = federation.simulated
    weights = federation.run().state.weights
    trains = [part.train for part in simulated.records.values()]
    from hansa.strategies.apply import ModelState, apply

    state = ModelState.start(simulated.model.initial(0))
    divisor = sum(member.records for member in simulated.charter.members) * 0.8
    for _ in range(3):
        total = sum(
            -simulated.model.gradient_sum(state.weights, part.X, part.y, clip=simulated.charter.training.clip)
            for part in trains
        )
        state = apply(state, total / divisor, federation.job.plan.rule, 0.2, 3)
    np.testing.assert_allclose(weights, state.weights, atol=1e-5)


def test_a_member_that_fails_is_recorded_and_the_round_ends_with_the_others(federation: Federation) -> None:
    honest = federation.nodes[3]

    def crashes_once(payload: bytes) -> bytes:
        if is_attempt(payload, 2):
            raise ConnectionError("the agent is gone")
        return honest(payload)

    federation.nodes[3] = crashes_once
    federation.run()
    second, third = federation.job.results[1:3]
    assert second.status == "applied"
    assert second.active == ("a", "b", "d")
    failed = next(entry for entry in second.participation if entry.member == "c")
    assert (failed.outcome, failed.code) == ("failed", "agent-unavailable")
    assert third.active == ("a", "b", "c", "d")
    assert any(kind == "agreed" and "3 of 3" in sentence for kind, sentence, _, _ in federation.job.events)


@pytest.mark.parametrize(
    "forge",
    [
        lambda reply, others: reply[:-1],
        lambda reply, others: b"garbage",
        lambda reply, others: reply[:200] + bytes([reply[200] ^ 1]) + reply[201:],
        lambda reply, others: others[0],
    ],
    ids=["cut", "garbage", "changed", "another member's"],
)
def test_a_reply_that_is_not_the_members_own_never_enters_the_sum(
    federation: Federation, forge: Callable[[bytes, list[bytes]], bytes]
) -> None:
    honest, other = federation.nodes[2], federation.nodes[1]
    federation.nodes[2] = lambda payload: (
        forge(honest(payload), [other(payload)]) if is_attempt(payload, 1) else honest(payload)
    )
    federation.run()
    first = federation.job.results[0]
    assert first.active == ("a", "c", "d")
    assert next(entry for entry in first.participation if entry.member == "b").code == "bad-reply"


def test_too_few_uploads_make_no_round_and_the_job_pauses_with_the_reason(federation: Federation) -> None:
    for number in (1, 2):
        honest = federation.nodes[number]

        def refuses(payload: bytes, honest: Node = honest) -> bytes:
            if is_attempt(payload):
                raise ConnectionError("gone")
            return honest(payload)

        federation.nodes[number] = refuses
    strategy = federation.run()
    assert federation.job.status == "paused"
    assert "the charter needs 3" in federation.job.reason
    assert strategy.state.round == 0
    assert len(federation.job.results) == consortium.FAILURES_IN_A_ROW
    assert all(result.status == "failed" and result.round is None for result in federation.job.results)


def test_refusals_are_recorded_with_member_and_code(federation: Federation) -> None:
    federation.agents["d"].attempts.ask(federation.job.plan)
    federation.agents["d"].attempts.set_state(JOB, "frozen")
    federation.run()
    assert all(result.active == ("a", "b", "c") for result in federation.job.results)
    assert federation.job.results[0].left_out["d"].startswith("grant-frozen")
    assert ("grant-frozen", "d") in [(kind, member) for kind, _, member, _ in federation.job.events]


def test_a_member_that_is_held_out_is_named_with_the_reason(federation: Federation) -> None:
    federation.job.held = {"b": "late three times"}
    federation.run()
    assert federation.job.results[0].left_out == {"b": "held out: late three times"}


def test_a_killed_run_goes_on_from_its_last_round(federation: Federation) -> None:
    uninterrupted = Federation(make_federation(4), rounds=5)
    calls = []

    class Killed(BaseException):
        pass

    class DiesAfterTwo(MemoryJournal):
        def commit(self, result, state):  # type: ignore[no-untyped-def]
            if len(calls) == 2:
                raise Killed
            calls.append(result.attempt)
            super().commit(result, state)

    federation = uninterrupted
    strategy = federation.strategy()
    strategy.journal = DiesAfterTwo(federation.job)
    grid = InMemoryGrid(federation.nodes)
    with pytest.raises(Killed):
        strategy.start(grid)
    grid.close()
    resumed = federation.run()
    applied = [result for result in federation.job.results if result.status == "applied"]
    assert [result.round for result in applied] == [1, 2, 3, 4, 5]
    attempts = [result.attempt for result in federation.job.results]
    assert attempts == sorted(set(attempts))
    assert federation.job.opened[3].status == "abandoned"
    assert resumed.state.round == 5


def test_a_run_that_lost_its_lease_writes_nothing(federation: Federation) -> None:
    strategy = federation.strategy()
    MemoryJournal(federation.job)
    grid = InMemoryGrid(federation.nodes)
    with pytest.raises(LeaseLost):
        strategy.start(grid)
    grid.close()
    assert federation.job.results == []


def test_stop_and_pause_are_obeyed_between_rounds(federation: Federation) -> None:
    honest = federation.nodes[1]

    def stops(payload: bytes) -> bytes:
        if is_attempt(payload, 2):
            federation.job.wanted = "stop"
        return honest(payload)

    federation.nodes[1] = stops
    assert federation.run().state.round == 2
    assert federation.job.status == "stopped"


def test_a_pause_that_was_taken_back_leaves_the_job_in_the_queue(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The operator resumes between the strategy's look and its write.
    monkeypatch.setattr(MemoryJournal, "wanted", lambda _: "pause")
    federation.run()
    assert (federation.job.wanted, federation.job.status) == ("run", "queued")


def test_a_lost_reply_is_asked_for_again_and_counted_once() -> None:
    federation = Federation(make_federation(4), reask_s=0.2)
    honest, dropped = federation.nodes[4], []

    def loses_first(payload: bytes) -> bytes:
        answer = honest(payload)
        if is_attempt(payload, 1) and not dropped:
            dropped.append(answer)
            import time

            time.sleep(0.6)
        return answer

    federation.nodes[4] = loses_first
    federation.run()
    assert federation.job.results[0].active == ("a", "b", "c", "d")
    assert federation.agents["d"].attempts.newest(JOB) is not None


def test_flowers_own_loop_drives_the_same_phases(federation: Federation) -> None:
    from flwr.app import ArrayRecord, ConfigRecord

    strategy = federation.strategy()
    grid = InMemoryGrid(federation.nodes)
    empty = ArrayRecord()
    for number in (1, 2):
        messages = list(strategy.configure_train(number, empty, ConfigRecord(), grid))
        arrays, metrics = strategy.aggregate_train(number, grid.send_and_receive(messages, timeout=5))
        assert arrays is not None
        assert metrics is not None
    messages = list(strategy.configure_evaluate(2, empty, ConfigRecord(), grid))
    figures = strategy.aggregate_evaluate(2, grid.send_and_receive(messages, timeout=5))
    grid.close()
    assert figures is not None
    assert {"auc", "log_loss"} <= set(figures)
    assert strategy.state.round == 2


def test_two_members_work_where_the_charter_says_so() -> None:
    federation = Federation(make_federation(2))
    assert federation.run().state.round == 3


def test_the_server_never_starts_below_the_minimum_cohort(federation: Federation) -> None:
    del federation.nodes[1], federation.nodes[2]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 3:
            federation.job.wanted = "stop"

    strategy = federation.strategy()
    strategy._sleep = sleep
    grid = InMemoryGrid(federation.nodes)
    strategy.start(grid)
    grid.close()
    assert federation.job.opened == {}
    waiting = [sentence for kind, sentence, _, _ in federation.job.events if kind == "waiting"]
    assert "a (not connected)" in waiting[0]
    assert "b (not connected)" in waiting[0]
    assert len(waiting) == 1


def test_a_job_that_waits_says_so_in_its_reason_until_it_starts(federation: Federation) -> None:
    late = federation.nodes.pop(1)
    reasons: list[str] = []

    def sleep(seconds: float) -> None:
        reasons.append(federation.job.reason)
        grid._nodes[1] = late

    strategy = federation.strategy()
    strategy._sleep, strategy._gather_s = sleep, 60.0
    grid = InMemoryGrid(federation.nodes)
    strategy.connect(grid)
    strategy.select()
    grid.close()
    assert reasons[0] == "waiting up to 60 s for a"
    assert (federation.job.status, federation.job.reason) == ("running", "")


def test_a_run_that_dies_before_the_end_is_written_closes_again(federation: Federation) -> None:
    class Killed(BaseException):
        pass

    class DiesAtTheEnd(MemoryJournal):
        def set_status(self, status, reason=""):  # type: ignore[no-untyped-def]
            if status == "finished":
                raise Killed
            super().set_status(status, reason)

    strategy = federation.strategy()
    strategy.journal = DiesAtTheEnd(federation.job)
    grid = InMemoryGrid(federation.nodes)
    with pytest.raises(Killed):
        strategy.start(grid)
    grid.close()
    closed = [agent.attempts.state(JOB) for agent in federation.agents.values()]
    assert closed == ["closed"] * 4
    federation.run()
    assert federation.job.status == "finished"
    assert len([result for result in federation.job.results if result.status == "applied"]) == 3


def test_a_run_with_nothing_left_but_the_close_reaches_every_member(federation: Federation) -> None:
    federation.run()
    for agent in federation.agents.values():
        agent.attempts.set_state(JOB, "approved")
    federation.job.status = "running"
    federation.run()
    assert all(agent.attempts.state(JOB) == "closed" for agent in federation.agents.values())


def test_everybody_who_is_connected_is_present_also_after_a_late_joiner(federation: Federation) -> None:
    late = federation.nodes.pop(4)
    honest = federation.nodes[1]
    grids: list[InMemoryGrid] = []

    def lets_in(payload: bytes) -> bytes:
        if is_attempt(payload, 1):
            grids[0]._nodes[4] = late
        return honest(payload)

    federation.nodes[1] = lets_in
    strategy = federation.strategy()
    grids.append(InMemoryGrid(federation.nodes))
    strategy.start(grids[0])
    grids[0].close()
    assert {member.name for member in federation.job.present} == {"a", "b", "c", "d"}


def test_without_enough_signatures_on_who_answered_the_attempt_fails(federation: Federation) -> None:
    from hansa.contract.messages import AgreeRequest

    def refuses_to_agree(honest: Node) -> Node:
        def answer(payload: bytes) -> bytes:
            if isinstance(request_header(unpack(payload)).body, AgreeRequest):
                raise ConnectionError("gone in between")
            return honest(payload)

        return answer

    def gone(payload: bytes, honest: Node = federation.nodes[4]) -> bytes:
        if is_attempt(payload, 1):
            raise ConnectionError("gone")
        return honest(payload)

    federation.nodes[4] = gone
    federation.nodes[1] = refuses_to_agree(federation.nodes[1])
    federation.run()
    assert federation.job.results[0].status == "failed"
    assert "2 of 3 active members signed" in federation.job.results[0].reason
    assert federation.job.status == "finished"
