"""Where updates point: the direction of the next one, as all rounds so far say it, and that of a job's first. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Least share of a new mean update in the direction now, and of the change that the public curvature says a step brings.
GAIN, BELIEVED = 0.4, 0.5
# Rounds that say where a job set out to.
FIRST_ROUNDS = 3
# One update counts at most so many times the usual length, so that a single one does not turn the direction.
LONGEST = 3.0


@dataclass(frozen=True)
class GroupSum:
    """The opened sum of one group of an attempt.

    Parameters
    ----------
    members : its active members
    sizes : what each one's sum counts in the divisor, as `segments.divisor` has it
    total : sum of their updates, f64[d]
    noise : standard deviation of the noise on each coordinate
    """

    members: tuple[str, ...]
    sizes: tuple[float, ...]
    total: Array
    noise: float


@dataclass(frozen=True)
class Direction:
    """Where updates have pointed so far, from the job's first round on, audited or not; arrays are f64[d].

    Parameters
    ----------
    first : sum of the first mean updates, each cut to a usual length
    now, variance : what the next mean update is expected to be, and the variance of each coordinate by noise
    usual : length of mean updates, a running mean
    weights : the model that the newest update was made at
    """

    now: Array
    first: Array
    weights: Array
    variance: float = 0.0
    usual: float = 0.0
    rounds: int = 0

    @classmethod
    def start(cls, weights: Array) -> Direction:
        """Before the first update."""
        zeros = np.zeros_like(weights)
        return cls(zeros, zeros, weights)

    def arrays(self) -> dict[str, Array]:
        """Flat arrays for a checkpoint."""
        numbers = np.array([self.variance, self.usual, float(self.rounds)])
        return {"now": self.now, "first": self.first, "weights": self.weights, "numbers": numbers}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Direction:
        """What `arrays` wrote."""
        now, first, weights, numbers = (
            np.asarray(arrays[name], dtype=np.float64) for name in ("now", "first", "weights", "numbers")
        )
        variance, usual, rounds = numbers.tolist()
        return cls(now, first, weights, variance, usual, int(rounds))

    def expected(self) -> tuple[Array, float]:
        """The direction now, f64[d] of length 1, and how far a mean update goes along it, noise taken off."""
        length = float(np.linalg.norm(self.now))
        if length == 0:
            return self.now, 0.0
        return self.now / length, max(length**2 - self.variance * self.now.size, 0.0) / length

    def at(self, weights: Array, curvature: float) -> Direction:
        """The direction at another model: every weight's derivative has moved by the curvature.

        Parameters
        ----------
        curvature : of the mean loss along a weight, public (`ServerRule.curvature`), 0 where it is not known
        """
        moved = self.now - BELIEVED * curvature * (weights - self.weights) if self.rounds else self.now
        return replace(self, now=moved, weights=weights)

    def after(self, mean_update: Array, noise: float) -> Direction:
        """With one more mean update, made at `weights`; `noise` is each coordinate's standard deviation."""
        length = float(np.linalg.norm(mean_update))
        usual = (
            length
            if self.rounds == 0
            else self.usual + 0.3 * (min(length, LONGEST * self.usual) - self.usual)
        )
        most = LONGEST * (self.usual if self.rounds else length)
        cut = mean_update if length <= most else mean_update * (most / length)
        gain = _gain(cut - self.now, noise) if self.rounds else 1.0
        return Direction(
            now=self.now + gain * (cut - self.now),
            first=self.first + cut if self.rounds < FIRST_ROUNDS else self.first,
            weights=self.weights,
            variance=(1.0 - gain) ** 2 * self.variance + (gain * noise) ** 2,
            usual=usual,
            rounds=self.rounds + 1,
        )


def _gain(surprise: Array, noise: float) -> float:
    """How much of a surprise is believed: what noise does not explain of it, or more."""
    energy = float(surprise @ surprise)
    return max(GAIN, 1.0 - surprise.size * noise**2 / energy) if energy > 0 else GAIN
