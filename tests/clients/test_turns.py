"""What is asked while an upload is computed is answered on the upload's own beat."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from federation import JOB, attempt_request, make_federation, make_order, make_plan, request
from masked_side import answer_of

from hansa.clients.protocol import Agent
from hansa.clients.turns import Turns
from hansa.contract.messages import CloseRequest, HelloRequest, JobRequest

OTHER = "cd" * 16
FEDERATION = make_federation(4)


class Pace:
    """A clock that stands still, and a beat that comes when it is let."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[float] = []
        self.come = threading.Event()

    def __call__(self, elapsed: float) -> None:
        self.asked.append(elapsed)
        assert self.come.wait(10)

    def clock(self) -> float:
        return self.now


def started(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def hello(agent: Agent) -> str:
    return answer_of(agent, request(FEDERATION, HelloRequest(nonce="n"))).said


def test_every_answer_waits_for_the_beat_of_the_upload_that_is_computed() -> None:
    agent, pace = FEDERATION.agent("a"), Pace()
    agent._jobs = Turns(pace, pace.clock)
    agent._monotonic = pace.clock
    computing, goes_on = threading.Event(), threading.Event()
    run = agent._work.run

    def slow(*arguments: object) -> object:
        computing.set()
        assert goes_on.wait(10)
        return run(*arguments)  # type: ignore[arg-type]

    object.__setattr__(agent._work, "run", slow)
    # Nothing is computed: nobody waits.
    assert hello(agent) == "hello"
    for job in (JOB, OTHER):
        assert answer_of(agent, request(FEDERATION, JobRequest(plan=make_plan(job=job)))).said == "job"
    assert pace.asked == []
    answered: list[str] = []

    def asks(payload: bytes) -> Callable[[], None]:
        return lambda: answered.append(answer_of(agent, payload).said)

    upload = started(asks(attempt_request(FEDERATION, make_order(FEDERATION))))
    assert computing.wait(10)
    pace.now = 103.0
    others = [
        request(FEDERATION, HelloRequest(nonce="n")),
        request(FEDERATION, JobRequest(plan=make_plan(job=OTHER))),
        request(FEDERATION, JobRequest(plan=make_plan(rounds=4, job=OTHER))),
        attempt_request(FEDERATION, make_order(FEDERATION, job="ef" * 16)),
        request(FEDERATION, HelloRequest(nonce="n"), key=FEDERATION.identities["a"]),
        b"no message",
    ]
    threads = [started(asks(payload)) for payload in others]
    # Each is paced by when the upload was begun, and not by when it came itself.
    until(lambda: pace.asked == [3.0] * len(others))
    time.sleep(0.05)
    assert answered == []
    goes_on.set()
    until(lambda: len(pace.asked) == len(others) + 1)
    assert pace.asked[-1] == 3.0
    assert answered == []
    pace.come.set()
    for thread in (upload, *threads):
        thread.join(10)
    expected = ["bad-size", "hello", "job", "not-approved", "not-approved", "not-operator", "upload"]
    assert sorted(answered) == expected
    assert hello(agent) == "hello"
    assert len(pace.asked) == len(others) + 1
    assert agent._jobs._here == set()


def test_an_upload_waits_for_its_own_beat_alone() -> None:
    pace = Pace()
    turns = Turns(pace, pace.clock)
    with turns.answer() as turn, turns.alone(JOB, turn):
        turn.compute(90.0)
        pace.now = 101.0

        def second() -> None:
            with turns.answer() as other, turns.alone(OTHER, other):
                other.compute(100.0)

        thread = started(second)
        until(lambda: pace.asked == [1.0])
        pace.come.set()
        thread.join(10)
    assert pace.asked == [1.0, 11.0]


def test_an_answer_waits_for_the_beats_of_all_that_is_computed() -> None:
    pace = Pace()
    turns = Turns(pace, pace.clock)
    pace.come.set()
    with turns.answer() as one, turns.answer() as two:
        two.compute(97.0)
        one.compute(99.0)
        with turns.answer():
            pass
        assert pace.asked == [3.0, 1.0]


@pytest.mark.parametrize("closed_before", [False, True])
def test_the_answer_to_a_close_is_paced_for_what_it_keeps(closed_before: bool) -> None:
    agent, pace = FEDERATION.agent("a"), Pace()
    assert answer_of(agent, request(FEDERATION, JobRequest(plan=make_plan()))).said == "job"
    closing = request(FEDERATION, CloseRequest(job=JOB, rounds=3))
    if closed_before:
        assert answer_of(agent, closing).said == "close"
    agent._jobs = Turns(pace, pace.clock)
    agent._monotonic = pace.clock
    pace.come.set()
    assert answer_of(agent, closing).said == "close"
    assert pace.asked == [0.0]
