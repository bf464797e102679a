"""A member that is connected and silent takes a small share of the others' time, whatever it stays silent about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest
from masked_jobs import MaskedJob

from hansa.contract.wire import request_header, unpack
from hansa.strategies.roster import Roster
from hansa.strategies.waits import PATIENCE_S, Waits


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Nodes:
    """`Exchange` in which answers take no time, and waiting for nobody takes as long as it is allowed to."""

    def __init__(self, job: MaskedJob, clock: Clock, silent: Callable[[str, str], bool]) -> None:
        self._job, self._clock, self._silent = job, clock, silent
        self._names = dict(enumerate(job.agents, start=1))

    def nodes(self) -> list[tuple[int, None]]:
        return [(node, None) for node in self._names]

    def ask(
        self,
        requests: Mapping[int, bytes],
        deadline_s: float,
        reask_after_s: float | None = None,
        enough: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[int, bytes]]:
        waiting, until = False, self._clock.now + deadline_s
        for node, payload in requests.items():
            name = self._names[node]
            if self._silent(name, request_header(unpack(payload)).body.type):
                self._job.asked.append((name, request_header(unpack(payload)).body))
                waiting = True
            else:
                yield node, self._job._serve(name, payload)
        while waiting and self._clock.now < until and not enough():
            self._clock.now += 0.1


def roster_of(job: MaskedJob, clock: Clock, silent: Callable[[str, str], bool]) -> Roster:
    strategy = job.strategy()
    nodes, parameters = Nodes(job, clock, silent), strategy.model.parameters
    return Roster(strategy._desk, nodes, strategy.journal, monotonic=clock, parameters=parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["hello", "job", "witness"])
def test_a_silent_member_takes_a_small_share_of_the_time(kind: str) -> None:
    job, clock = MaskedJob(5), Clock()
    roster = roster_of(job, clock, lambda name, asked: (name, asked) == ("e", kind))
    roster.refresh()
    began, waited, longest = clock.now, 0.0, 0.0
    while clock.now < began + 1800:
        before = clock.now
        roster.refresh()
        waited += clock.now - before
        longest = max(longest, clock.now - before)
        assert roster.select({}).cohort == ("a", "b", "c", "d")
        clock.now += 0.5
    assert waited < 0.08 * 1800
    assert longest < 3.5
    # It is still asked, or it could never come back.
    assert 10 < job.requests(kind).count("e") < 100


def test_a_member_that_was_silent_for_long_comes_back() -> None:
    job, clock, hangs = MaskedJob(5), Clock(), [True]
    roster = roster_of(job, clock, lambda name, asked: name == "e" and hangs[0])
    for _ in range(1000):
        roster.refresh()
        clock.now += 0.5
    hangs.clear()
    hangs.append(False)
    back = clock.now
    while "e" not in roster.select({}).cohort:
        roster.refresh()
        clock.now += 0.5
        assert clock.now < back + 75


def test_without_enough_members_nobody_has_to_wait_for_the_next_question() -> None:
    clock = Clock()
    waits = Waits(clock)
    for _ in range(8):
        waits.silent([1], 60.0)
    clock.now += 5.0
    assert waits.due(1, go_on=False)
    assert not waits.due(1, go_on=True)
    assert waits.due(2, go_on=True)
    assert waits.patience([1, 2], go_on=False) == PATIENCE_S
    assert waits.patience([2], go_on=True) == 1.0


def test_a_member_that_wants_newer_prekeys_than_there_are_is_not_served_for_ever() -> None:
    job, clock = MaskedJob(5), Clock()
    roster = roster_of(job, clock, lambda name, asked: False)
    roster.refresh()
    stock = roster._stock
    far = {name: it.model_copy(update={"first": 2**62}) for name, it in stock._kept["a"].accepts.items()}
    job.asked.clear()
    stock.accept("a", far)
    began = clock.now
    while clock.now < began + 3600:
        roster.refresh()
        clock.now += 1.0
    assert roster.select({}).cohort == ("b", "c", "d", "e")
    assert 3 <= job.requests("witness").count("b") < 25


def test_a_stock_that_is_empty_is_filled_at_once_whatever_somebody_claims() -> None:
    job, clock = MaskedJob(5), Clock()
    roster = roster_of(job, clock, lambda name, asked: False)
    roster.refresh()
    for _ in range(60):
        roster.refresh()
        clock.now += 10.0
    while roster._stock.starts["b"].numbers:
        roster.take(roster.select({}))
    roster.refresh()
    assert roster._stock.starts["b"].numbers
