"""The profile of round metrics: how far a value is from its curve, and for how long (robust z-score and CUSUM)."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .alarms import Alarm, Direction, Reading, Severity
from .trend import forecast

Array = NDArray[np.float64]

# Nothing alarms inside so many standard errors of the metric.
ERRORS = 3.0


@dataclass(frozen=True)
class RoundRule:
    """How one metric is watched; the numbers are the same for all metrics of the profile.

    Parameters
    ----------
    worse : the direction that is bad; a change for the better is a notice, and with `none` every change is
    logarithmic : judged by ratios (durations)
    floor : least standard deviation, in the metric's unit (in ratios where logarithmic)
    window : values the trend is fitted to
    warm_up : values before the first alarm
    spike : robust z-score at which a single value alarms
    guard : latest rounds that may be a step; the trend they are judged by does not see them
    slack, limit : CUSUM's allowance and decision interval, in standard deviations (Page 1954)
    step : z-score of the mean of the rounds that the CUSUM points to, beside a trend that saw none of them
    doubt : share of the trend's own variance that this score is divided by; all of it hides steps in young curves
    clip : most standard deviations that one round adds, so that a single value is no step
    young : scores must be higher while values are few: times 1 + young / (values - 3)
    rest : rounds in which the same kind of alarm in the same direction is not repeated
    """

    worse: Literal["up", "down", "both", "none"] = "both"
    logarithmic: bool = False
    floor: float = 0.0
    window: int = 128
    warm_up: int = 12
    spike: float = 4.2
    guard: int = 8
    slack: float = 0.6
    limit: float = 1.0
    step: float = 3.5
    doubt: float = 0.5
    clip: float = 3.0
    young: float = 2.0
    rest: int = 10


ROUND_RULES: dict[str, RoundRule] = {
    "loss": RoundRule(worse="up"),
    "auc": RoundRule(worse="down"),
    # They hang on what else the machines do, which is no fault of the training.
    "seconds": RoundRule(worse="none", logarithmic=True, floor=0.05),
    "participation": RoundRule(worse="down", floor=0.02),
}


@dataclass(frozen=True)
class _Judged:
    """Values beside what the trend says of them; f64[m] each.

    Parameters
    ----------
    sigmas : standard deviations of single values
    doubts : standard errors of the levels
    measured : the metric's own standard errors, 0 where none is known
    """

    level: Array
    residuals: Array
    sigmas: Array
    doubts: Array
    measured: Array


class RoundMetric:
    """One metric of a job's rounds, watched in constant memory.

    Values are compared with the trend of the values before them (`trend.forecast`), so a curve that grows is
    detrended first. `state` and `restore` carry everything: a restored watch decides as the first would have.
    """

    def __init__(self, metric: str, rule: RoundRule | None = None) -> None:
        self.metric = metric
        self.rule = rule or ROUND_RULES.get(metric, RoundRule())
        # Rising rounds, with value and standard error (nan where it is not known).
        self._kept: list[tuple[float, float, float]] = []
        self._last = -math.inf
        # Upwards and downwards, of the scores of single values.
        self._sums = [0.0, 0.0]
        # From when on the curve lies at another level.
        self._moved: float | None = None
        # Until when each kind of alarm rests.
        self._rests: dict[str, float] = {}

    def see(self, reading: Reading) -> Alarm | None:
        """Judge one reading against those before it and remember it.

        A round that was already seen is passed over; one that comes late helps the trend and alarms no more. What is
        missing leaves a gap; what is not a finite number alarms and is not kept.

        Errors
        ------
        ValueError : `at` is not a finite number
        """
        at, value, rule = float(reading.at), reading.value, self.rule
        if not math.isfinite(at):
            raise ValueError(f"a reading of {self.metric} needs the number of its round, not {reading.at}")
        late = at <= self._last
        if value is None or self._knows(at) or (late and not math.isfinite(value)):
            return None
        self._last = max(self._last, at)
        if not math.isfinite(value) or (rule.logarithmic and value <= 0):
            return self._not_a_number(reading, value)
        error = math.nan if reading.error is None or not reading.error > 0 else reading.error
        row = (at, math.log(value), error / value) if rule.logarithmic else (at, float(value), error)
        if late or len(self._kept) < rule.warm_up:
            self._keep(row)
            return None
        judged = self._judge(np.array(self._kept), np.array([row]))
        spike = self._spike(reading, judged)
        self._keep(row)
        return spike or self._step(reading)

    def state(self) -> dict[str, Any]:
        """Everything the watch remembers, as JSON has it; a few kilobytes at most."""
        return {
            "metric": self.metric,
            "rule": asdict(self.rule),
            "kept": [[at, value, None if math.isnan(error) else error] for at, value, error in self._kept],
            "last": self._last if math.isfinite(self._last) else None,
            "sums": list(self._sums),
            "moved": self._moved,
            "rests": dict(self._rests),
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> RoundMetric:
        """What `state` wrote."""
        made = cls(state["metric"], RoundRule(**state["rule"]))
        made._kept = [(at, value, math.nan if error is None else error) for at, value, error in state["kept"]]
        made._last = -math.inf if state["last"] is None else state["last"]
        made._sums, made._moved = list(state["sums"]), state["moved"]
        made._rests = dict(state["rests"])
        return made

    def _knows(self, at: float) -> bool:
        # What is older than the window is too late to be of use.
        if len(self._kept) == self.rule.window and at < self._kept[0][0]:
            return True
        place = bisect_left(self._kept, (at,))
        return place < len(self._kept) and self._kept[place][0] == at

    def _keep(self, row: tuple[float, float, float]) -> None:
        self._kept.insert(bisect_left(self._kept, row), row)
        if len(self._kept) > self.rule.window:
            del self._kept[0]
        if self._moved is not None and self._moved <= self._kept[0][0]:
            self._moved = None

    def _judge(self, before: Array, rows: Array) -> _Judged:
        """Rows of (round, value, error) beside the trend of the rows before them."""
        both = np.concatenate([before[:, 2], rows[:, 2]])
        known = both > 0
        usual = float(np.median(both[known])) if known.any() else 1.0
        relative = np.where(known, both, usual)
        expected = forecast(before[:, 0], before[:, 1], relative[: len(before)], rows[:, 0], self._moved)
        own = relative[len(before) :]
        measured = own if known.any() else np.zeros(len(rows))
        # The metric's own error is the least its scatter can be.
        sigmas = np.maximum(np.maximum(expected.scale * own, measured), self.rule.floor)
        doubts = expected.doubt * float(np.median(relative[: len(before)]))
        return _Judged(expected.level, rows[:, 1] - expected.level, sigmas, doubts, measured)

    def _young(self, count: int) -> float:
        return 1.0 + self.rule.young / max(count - 3, 1)

    def _outside(self, judged: _Judged) -> NDArray[np.bool_]:
        """Which values are outside the metric's errors, and of what floats can tell apart."""
        tiny = 1e-9 * (np.abs(judged.level) + np.abs(judged.residuals))
        # The trend is uncertain too, and nobody is to blame for that.
        errors = np.where(judged.measured > 0, np.hypot(judged.measured, judged.doubts), 0.0)
        outside: NDArray[np.bool_] = np.abs(judged.residuals) > np.maximum(ERRORS * errors, tiny)
        return outside

    def _spike(self, reading: Reading, judged: _Judged) -> Alarm | None:
        """An alarm where this one value is far from the trend of all before it; adds it to the CUSUM."""
        rule, count = self.rule, len(self._kept)
        residual = float(judged.residuals[0])
        z = _over(residual, math.hypot(judged.sigmas[0], judged.doubts[0]))
        for side, signed in enumerate((z, -z)):
            self._sums[side] = max(0.0, self._sums[side] + min(signed, rule.clip) - rule.slack)
        if not self._outside(judged)[0] or abs(z) <= rule.spike * self._young(count):
            return None
        direction: Direction = "up" if residual > 0 else "down"
        numbers = self._numbers(judged, 0, z)
        words = (
            f"jumped {direction} to {numbers['value']:.4g} where {numbers['expected']:.4g} was expected, "
            f"{abs(z):.1f} standard deviations away"
        )
        severity = self._severity(direction, abs(z) >= 2 * rule.spike)
        return self._rested(Alarm(
            self.metric, reading.at, "spike", severity, direction, reading.members,
            f"{self.metric} {words} (round {reading.at:g}).", numbers,
        ))  # fmt: skip

    def _step(self, reading: Reading) -> Alarm | None:
        """An alarm where the latest values have left the trend together; it goes on from their level."""
        rule, count = self.rule, len(self._kept)
        guard = min(rule.guard, (count - 2) // 2)
        rows = np.array(self._kept)
        if max(self._sums) <= rule.limit or not self._settled(rows[:-guard]):
            return None
        judged = self._judge(rows[:-guard], rows[-guard:])
        scores = np.array(
            [_over(residual, sigma) for residual, sigma in zip(judged.residuals, judged.sigmas, strict=True)]
        )
        scores = np.clip(scores, -rule.clip, rule.clip)
        direction: Direction = "up" if self._sums[0] > self._sums[1] else "down"
        scores = scores if direction == "up" else -scores
        rounds = np.arange(1, guard + 1)
        latest = np.cumsum(scores[::-1])
        # The run of latest rounds that the CUSUM counts.
        run = max(2, int(np.argmax(latest - rule.slack * rounds)) + 1)
        doubt = _over(float(judged.doubts[-run:].mean()), float(judged.sigmas[-run:].mean()))
        mean = float(latest[run - 1]) / run / math.sqrt(1.0 / run + rule.doubt * doubt**2)
        if mean <= rule.step * self._young(count - guard) or not self._outside(judged)[-run:].any():
            return None
        shift = float(judged.residuals[-run:].mean())
        numbers = self._numbers(judged, -1, mean) | {"cusum": max(self._sums), "rounds": float(run)}
        self._sums, self._moved = [0.0, 0.0], float(rows[-run, 0])
        words = (
            f"has moved {direction} and stays there: {numbers['value']:.4g} where {numbers['expected']:.4g} was "
            f"expected, and off by {abs(shift):.3g} over {run} rounds"
        )
        severity = self._severity(direction, mean >= 2 * rule.step)
        return self._rested(Alarm(
            self.metric, reading.at, "step", severity, direction, reading.members,
            f"{self.metric} {words} (round {reading.at:g}).", numbers,
        ))  # fmt: skip

    def _settled(self, rows: Array) -> bool:
        """Whether the rows are enough for a trend, and for the level since it last moved."""
        since = len(rows) if self._moved is None else int(np.count_nonzero(rows[:, 0] >= self._moved))
        return len(rows) >= max(8, self.rule.warm_up - 4) and since >= 4

    def _numbers(self, judged: _Judged, place: int, z: float) -> dict[str, float]:
        value, level = judged.level[place] + judged.residuals[place], judged.level[place]
        if self.rule.logarithmic:
            value, level = math.exp(value), math.exp(level)
        return {
            "value": float(value),
            "expected": float(level),
            "z": z,
            "standard_deviation": float(judged.sigmas[place]),
            "standard_error": float(judged.measured[place]),
        }

    def _severity(self, direction: Direction, grave: bool) -> Severity:
        if self.rule.worse not in ("both", direction):
            return "notice"
        return "critical" if grave else "warning"

    def _rested(self, alarm: Alarm) -> Alarm | None:
        key = f"{alarm.kind} {alarm.direction}"
        resting = alarm.at < self._rests.get(key, -math.inf)
        if not resting:
            self._rests[key] = alarm.at + self.rule.rest
        return None if resting else alarm

    def _not_a_number(self, reading: Reading, value: float) -> Alarm | None:
        sentence = f"{self.metric} is {value}, which is no number to go on with (round {reading.at:g})."
        return self._rested(Alarm(
            self.metric, reading.at, "not-a-number", "critical", None, reading.members, sentence, {"value": value}
        ))  # fmt: skip


def _over(residual: float, sigma: float) -> float:
    """A residual in standard deviations; of an exact curve any residual is infinitely many."""
    return residual / sigma if sigma > 0 else math.copysign(math.inf, residual) if residual else 0.0
