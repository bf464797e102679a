"""The profile of service metrics (CPU, requests, bytes, memory): values that were never seen nearby.

No law is assumed and no period: the daily curve of a service is known once it was seen. What counts is the distance to
the nearest earlier value over the range so far, of running means over 1 to 32 readings and of the change over two
readings, in units of what this series usually has (the root mean square, forgetting over 1,500 readings).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from .alarms import Alarm, Direction, Reading, Severity
from .novelty import Seen


@dataclass(frozen=True)
class OpsRule:
    """How service metrics are watched: one set of numbers for all of them.

    Parameters
    ----------
    threshold : score at which a reading alarms
    doublings : running means are over 1, 2, 4 ... 2^doublings readings
    growth : novelty of a mean over w readings counts w^growth times
    memory : readings over which what is usual is forgotten
    floor : least usual novelty, as a share of the range
    rest : readings in which only a higher score than the highest of them alarms
    escalation : so many times as high it must be
    warm_up : readings before the first alarm
    """

    threshold: float = 1.1
    doublings: int = 5
    growth: float = 0.25
    memory: float = 1500.0
    floor: float = 0.003
    rest: int = 150
    escalation: float = 1.25
    warm_up: int = 150


class _Novelty(NamedTuple):
    """The most novel quantity of one reading: number of the running mean, or one more for the change."""

    weighted: float
    plain: float
    value: float
    nearest: float
    number: int


class OpsMetric:
    """One service metric, watched in constant memory.

    `state` and `restore` carry everything: a restored watch decides as the first would have.
    """

    def __init__(self, metric: str, rule: OpsRule | None = None) -> None:
        self.metric = metric
        self.rule = rule or OpsRule()
        self._last = -math.inf
        self._count = 0
        # Of the means over w = 1, 2, 4 ... the latest w: half of what the mean over 2w is made of.
        self._means: list[list[float]] = [[] for _ in range(self.rule.doublings + 1)]
        self._weights = [2.0 ** (self.rule.growth * number) for number in range(self.rule.doublings + 1)]
        self._seen = [Seen() for _ in range(self.rule.doublings + 2)]
        self._before: list[float] = []
        self._fade = math.exp(-1.0 / self.rule.memory)
        self._power = self._mass = 0.0
        # Scores that no later one exceeds, falling, with the numbers of their readings; none older than the rest.
        self._highest: list[list[float]] = []

    def see(self, reading: Reading) -> Alarm | None:
        """Judge one reading against those before it and remember it.

        A missing or non-finite value, and one that is not later than the last, is passed over.

        Errors
        ------
        ValueError : `at` is not a finite number
        """
        score, novelty = self._score(reading)
        if novelty is None or score < self.rule.threshold:
            return None
        return self._alarm(reading, score, novelty)

    def score(self, reading: Reading) -> float:
        """What `see` compares with the threshold: 0 where nothing is new, in warm-up and in a rest."""
        return self._score(reading)[0]

    def state(self) -> dict[str, Any]:
        """Everything the watch remembers, as JSON has it."""
        return {
            "metric": self.metric,
            "rule": asdict(self.rule),
            "last": self._last if math.isfinite(self._last) else None,
            "count": self._count,
            "means": [list(means) for means in self._means],
            "seen": [seen.state() for seen in self._seen],
            "before": list(self._before),
            "power": self._power,
            "mass": self._mass,
            "highest": [list(row) for row in self._highest],
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> OpsMetric:
        """What `state` wrote."""
        made = cls(state["metric"], OpsRule(**state["rule"]))
        made._last = -math.inf if state["last"] is None else state["last"]
        made._count = state["count"]
        made._means = [list(means) for means in state["means"]]
        made._seen = [Seen.restore(values) for values in state["seen"]]
        made._before = list(state["before"])
        made._power, made._mass = state["power"], state["mass"]
        made._highest = [list(row) for row in state["highest"]]
        return made

    def _score(self, reading: Reading) -> tuple[float, _Novelty | None]:
        value, at = reading.value, float(reading.at)
        if not math.isfinite(at):
            raise ValueError(f"a reading of {self.metric} needs its time, not {reading.at}")
        if value is None or not math.isfinite(value) or not at > self._last:
            return 0.0, None
        self._last = at
        self._count += 1
        novelty = self._novelty(float(value))
        usual = self._power / self._mass if self._mass > 0 else 0.0
        score = novelty.weighted / math.sqrt(self.rule.floor**2 + usual)
        self._power = self._fade * self._power + novelty.weighted**2
        self._mass = self._fade * self._mass + 1.0
        resting = self._rests(score)
        return (0.0 if resting or self._count <= self.rule.warm_up else score), novelty

    def _novelty(self, value: float) -> _Novelty:
        """The most novel of the running means that end here and of the change over two readings."""
        weighted, plain, novel, nearest, named = 0.0, 0.0, value, value, 0
        mean = value
        for number, means in enumerate(self._means):
            distance, near = self._seen[number].see(mean)
            if distance * self._weights[number] > weighted:
                weighted, plain, novel, nearest = distance * self._weights[number], distance, mean, near
                named = number
            means.append(mean)
            if len(means) <= 1 << number:
                break
            mean = 0.5 * (mean + means.pop(0))
        self._before.append(value)
        if len(self._before) > 2:
            change = value - self._before.pop(0)
            distance, near = self._seen[-1].see(change)
            if distance > weighted:
                weighted, plain, novel, nearest = distance, distance, change, near
                named = len(self._means)
        return _Novelty(weighted, plain, novel, nearest, named)

    def _rests(self, score: float) -> bool:
        """Whether one of the latest readings had a score about as high or higher."""
        highest = self._highest
        while highest and highest[0][0] < self._count - self.rule.rest:
            del highest[0]
        resting = bool(highest) and self.rule.escalation * highest[0][1] >= score
        while highest and highest[-1][1] <= score:
            highest.pop()
        highest.append([self._count, score])
        return resting

    def _alarm(self, reading: Reading, score: float, novelty: _Novelty) -> Alarm:
        direction: Direction = "up" if novelty.value > novelty.nearest else "down"
        severity: Severity = "critical" if score >= 4 * self.rule.threshold else "warning"
        name = f"mean over {2**novelty.number} readings" if novelty.number else "value"
        if novelty.number == len(self._means):
            name = "change over 2 readings"
        sentence = (
            f"{self.metric} is {direction} where it never was: its {name} is {novelty.value:.6g}, the nearest "
            f"earlier one {novelty.nearest:.6g}, away by {100 * novelty.plain:.2g} % of the range so far, "
            f"{score:.1f} times what is usual."
        )
        evidence = {
            "value": float(reading.value or 0.0),
            "novel": novelty.value,
            "nearest": novelty.nearest,
            "distance": novelty.plain,
            "score": score,
            "threshold": self.rule.threshold,
        }
        members = reading.members
        return Alarm(self.metric, reading.at, "novelty", severity, direction, members, sentence, evidence)
