"""Rising, falling or flat, and how sure that is: a line through the last values of a metric.

The line is fitted by least squares, weighted by the values' standard errors; where the values scatter more than their
errors say, they count for as little as they scatter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Literal

from hansa.sidecar.anomaly.alarms import Reading

Direction = Literal["rising", "falling", "flat"]

# Values that a trend is seen in, and how sure it must be.
WINDOW, FEWEST, SURE = 10, 4, 0.95


@dataclass(frozen=True)
class Trend:
    """Where a metric goes.

    Parameters
    ----------
    slope, error : per round, and its standard error
    confidence : of the direction, 0.5 to 1; of `flat`: that there is no rise and no fall as sure as `SURE`
    readings : so many values were used
    """

    direction: Direction
    slope: float
    error: float
    confidence: float
    readings: int

    @property
    def sentence(self) -> str:
        """For people."""
        if self.readings < FEWEST:
            return f"{self.readings} values are too few for a trend"
        return (
            f"{self.direction} by {self.slope:.2g} (error {self.error:.1g}) a round over {self.readings} values, "
            f"{100 * self.confidence:.0f} % sure"
        )


def trend(readings: Iterable[Reading], *, window: int = WINDOW) -> Trend:
    """The trend of one metric's last values, in any order.

    What is missing or not finite is passed over; of values of the same round the last counts.
    """
    found = {it.at: it for it in readings if it.value is not None and math.isfinite(it.value)}
    last = [found[at] for at in sorted(found)][-window:]
    if len(last) < FEWEST:
        return Trend("flat", 0.0, math.inf, 0.5, len(last))
    errors = [_error(it) for it in last]
    values = [float(it.value) for it in last if it.value is not None]
    # No figure is more exact than this.
    least = 1e-9 * max(1.0, *map(abs, values))
    errors = [max(it, least) if it > 0.0 else 0.0 for it in errors]
    known = [it for it in errors if it > 0.0]
    # A value without an error among others counts as those do.
    usual = fmean(known) if known else 1.0
    weights = [1.0 / (it or usual) ** 2 for it in errors]
    total = math.fsum(weights)
    middle = math.fsum(weight * it.at for weight, it in zip(weights, last, strict=True)) / total
    level = math.fsum(weight * value for weight, value in zip(weights, values, strict=True)) / total
    away = [it.at - middle for it in last]
    spread = math.fsum(weight * x * x for weight, x in zip(weights, away, strict=True))
    slope = math.fsum(w * x * (v - level) for w, x, v in zip(weights, away, values, strict=True)) / spread
    square = math.fsum(
        w * (v - level - slope * x) ** 2 for w, x, v in zip(weights, away, values, strict=True)
    )
    scatter = square / (len(last) - 2)
    # Without errors only the scatter says how sure a slope is; with them it may say that they are too small.
    error = math.sqrt((max(scatter, 1.0) if known else scatter) / spread)
    return _judged(slope, error, level, len(last))


def _judged(slope: float, error: float, level: float, readings: int) -> Trend:
    # Values that lie on a line but for rounding.
    error = max(error, 1e-12 * abs(level))
    sure = 0.5 if slope == 0.0 or error == 0.0 else NormalDist().cdf(abs(slope) / error)
    if sure < SURE:
        return Trend("flat", slope, error, 1.5 - sure, readings)
    return Trend("rising" if slope > 0 else "falling", slope, error, sure, readings)


def _error(reading: Reading) -> float:
    return reading.error if reading.error is not None and 0.0 < reading.error < math.inf else 0.0
