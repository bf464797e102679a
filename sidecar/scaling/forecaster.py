"""What demand will be when a replica asked for now would serve: several forecasters, each with its spread.

All numbers are in replicas: demand over what one replica serves. One sample is one change of a held value (`rhythm`).
A forecaster gives a middle and a scale; its own newest errors in units of that scale make it a distribution. Which of
them is followed is decided by what each would have cost (`shadow`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .conformal import Errors
from .packed import Floats, packed, unpacked
from .regression import Regression
from .season import Season, parts, usual

NAMES = ("regression", "season", "recent")
# The regression starts as "it stays as it is": the weight of the newest sample.
_START = np.eye(13)[1]
# Its scale starts as half of the newest error, and a third of the usual one.
_SCALE_START = np.array([0.02, 0.0, 0.0, 0.5, 0.3, 0.2])
RECENT = 6
# Errors beyond so many scales teach no more than these: one outlier must not bend the weights.
_HUBER, _SCALE_HUBER = 4.0, 6.0
_SMALLEST = 0.02
_QUICK, _SLOW = 0.25, 0.01


@dataclass(frozen=True)
class Outlook:
    """Forecasts for one coming sample: a middle and a scale from each forecaster, in the order of `NAMES`."""

    middles: tuple[float, ...]
    scales: tuple[float, ...]
    features: Floats
    scale_features: Floats


class Forecaster:
    """Learns from each sample, then looks `ahead` samples on.

    Attributes
    ----------
    samples : seen so far
    errors : of each forecaster, by name
    season : demand by time of day and of week
    largest : demand so far
    """

    def __init__(self, period_s: float) -> None:
        self.samples = 0
        self.largest = 0.0
        self.errors = {name: Errors() for name in NAMES}
        self.season, self._error_season = Season(parts(period_s)), Season(parts(period_s))
        self._mean, self._scale = Regression(_START), Regression(_SCALE_START)
        self._newest: deque[float] = deque(maxlen=RECENT)
        self._quick_error, self._slow_error = 0.3, 0.3
        self._quick, self._slow = 0.0, 0.0

    def learn(self, at: float, value: float, outlook: Outlook) -> None:
        """Compare a sample with what was expected of it."""
        for number, name in enumerate(NAMES):
            self.errors[name].add((value - outlook.middles[number]) / outlook.scales[number])
        scale = outlook.scales[0]
        now = self._mean.predict(outlook.features)
        self._mean.learn(outlook.features, _within(value - now, _HUBER * scale))
        error = abs(value - outlook.middles[0])
        expected = self._scale.predict(outlook.scale_features)
        self._scale.learn(outlook.scale_features, min(error, _SCALE_HUBER * scale) - expected)
        self._quick_error += _QUICK * (error - self._quick_error)
        self._slow_error += _SLOW * (min(error, 10.0 * self._slow_error + 0.1) - self._slow_error)
        self._error_season.put(at, error)

    def outlook(self, at: float, value: float, due: float, period_s: float) -> Outlook:
        """Take in a sample and look at the one that is due at `due`; all times in seconds."""
        self.samples += 1
        self.largest = max(self.largest, value)
        before = list(self._newest)[-2:]
        self._newest.append(value)
        self._follow(value, period_s)
        now, then = self.season.days(at), self.season.days(due)
        usual_now = usual(now, self._slow)
        usual_then = usual(then, usual_now)
        day_now, day_then = _known(now[0], usual_now), _known(then[0], usual_then)
        week_now, week_then = _known(now[6], day_now), _known(then[6], day_then)
        last = before[-1] if before else value
        highest = max(self._newest)
        features = np.array([
            1.0, value, last, before[0] if len(before) > 1 else last, self._quick, self._slow,
            usual_then, usual_now, day_then, day_now, week_then, week_now, highest,
        ])  # fmt: skip
        middle = min(max(self._mean.predict(features), 0.0), 1.5 * self.largest)
        season_error = self._error_season.usual(due, self._slow_error)
        scale_features = np.array(
            [1.0, middle, abs(value - last), self._quick_error, self._slow_error, season_error]
        )
        scale = max(self._scale.predict(scale_features), 0.3 * self._slow_error, _SMALLEST)
        recent_scale = max(0.5 * (self._quick_error + self._slow_error), _SMALLEST)
        self.season.put(at, value)
        return Outlook(
            (middle, usual_then, highest),
            (scale, max(season_error, _SMALLEST), recent_scale),
            features,
            scale_features,
        )

    def _follow(self, value: float, period_s: float) -> None:
        if self.samples == 1:
            self._quick = self._slow = value
        self._quick += 0.3 * (value - self._quick)
        self._slow += (value - self._slow) / max(20.0, min(self.samples, 86_400.0 / period_s))

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "samples": self.samples, "largest": self.largest, "newest": list(self._newest),
            "running": [self._quick_error, self._slow_error, self._quick, self._slow],
            "errors": {name: it.state() for name, it in self.errors.items()},
            "season": self.season.state(), "error_season": self._error_season.state(),
            "mean": self._mean.state(), "scale": self._scale.state(),
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Forecaster:
        """What `state` gave."""
        found = cls(86_400.0)
        found.samples, found.largest = state["samples"], state["largest"]
        found._newest.extend(state["newest"])
        found._quick_error, found._slow_error, found._quick, found._slow = state["running"]
        found.errors = {name: Errors.from_state(state["errors"][name]) for name in NAMES}
        found.season = Season.from_state(state["season"])
        found._error_season = Season.from_state(state["error_season"])
        found._mean = Regression.from_state(state["mean"])
        found._scale = Regression.from_state(state["scale"])
        return found


def stored_outlook(outlook: Outlook) -> dict[str, Any]:
    """An outlook that still waits for its sample, for JSON."""
    return {
        "middles": list(outlook.middles), "scales": list(outlook.scales),
        "features": packed(outlook.features), "scale_features": packed(outlook.scale_features),
    }  # fmt: skip


def outlook_from(state: Mapping[str, Any]) -> Outlook:
    """What `stored_outlook` gave."""
    return Outlook(
        tuple(state["middles"]),
        tuple(state["scales"]),
        unpacked(state["features"]),
        unpacked(state["scale_features"]),
    )


def _known(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else float(value)


def _within(error: float, limit: float) -> float:
    return min(max(error, -limit), limit)
