"""Where updates point: the direction of the next one, as all rounds so far say it, and that of a job's first. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Least share of a new mean update in the direction now, and of the change that the public curvature says a step brings.
GAIN, BELIEVED = 0.4, 0.5
# Rounds that say where a job set out to.
FIRST_ROUNDS = 3
# Of mean updates, so many of a job's first and of its latest are kept.
KEPT_FIRST, KEPT_LATEST = 8, 24
# Sums of more coordinates are looked at in so many, each of them a signed sum of as many as it takes.
MOST_COORDINATES = 256
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
class Trail:
    """Mean updates of a job so far, folded.

    Parameters
    ----------
    means : f64[t, k]
    noise : standard deviation of each one's coordinates, f64[t]
    ways : where the model was that each was made at, from the first one, f64[t, k]
    """

    means: Array
    noise: Array
    ways: Array

    @classmethod
    def empty(cls, coordinates: int) -> Trail:
        """Of no round."""
        nothing = np.zeros((0, min(coordinates, MOST_COORDINATES)))
        return cls(nothing, np.zeros(0), nothing)

    def plus(self, mean: Array, noise: float, way: Array) -> Trail:
        """With one more."""
        kept = np.r_[: min(len(self.noise), KEPT_FIRST), KEPT_FIRST : len(self.noise)]
        if len(self.noise) >= KEPT_FIRST + KEPT_LATEST:
            kept = np.delete(kept, KEPT_FIRST)
        pairs = ((self.means, [mean]), (self.noise, [noise]), (self.ways, [way]))
        return Trail(*(np.concatenate([old[kept], new]) for old, new in pairs))


def folded(sums: Array) -> Array:
    """Vectors in at most so many coordinates, each of unit noise: a signed sum of as many of the others. f64[n, k]."""
    vectors, coordinates = sums.shape
    if coordinates <= MOST_COORDINATES:
        return sums
    # Everybody's signs are the same and public: whoever knows them can hide in what they do not show, by as much as
    # noise allows anyway.
    rng = np.random.default_rng(coordinates)
    order, signs = rng.permutation(coordinates), rng.choice((-1.0, 1.0), size=coordinates)
    found = np.zeros((vectors, MOST_COORDINATES))
    places = np.arange(coordinates) % MOST_COORDINATES
    np.add.at(found.T, places, (sums * signs)[:, order].T)
    mixed: Array = found / np.sqrt(np.bincount(places))
    return mixed


@dataclass(frozen=True)
class Direction:
    """Where updates have pointed so far, from the job's first round on, audited or not; arrays are f64[d].

    Parameters
    ----------
    first : sum of the first mean updates, each cut to a usual length
    now, variance : what the next mean update is expected to be, and the variance of each coordinate by noise
    usual : length of mean updates, a running mean
    weights, origin : the model that the newest update was made at, and the first one
    curvature : of the mean loss along a weight, public, 0 where it is not known
    trail : the mean updates themselves
    """

    now: Array
    first: Array
    weights: Array
    origin: Array
    trail: Trail
    variance: float = 0.0
    usual: float = 0.0
    rounds: int = 0
    curvature: float = 0.0

    @classmethod
    def start(cls, weights: Array) -> Direction:
        """Before the first update."""
        zeros = np.zeros_like(weights)
        return cls(zeros, zeros, weights, weights, Trail.empty(weights.size))

    def arrays(self) -> dict[str, Array]:
        """Flat arrays for a checkpoint."""
        numbers = np.array([self.variance, self.usual, float(self.rounds), self.curvature])
        own = {name: getattr(self, name) for name in ("now", "first", "weights", "origin")}
        trail = {f"trail-{it.name}": getattr(self.trail, it.name).ravel() for it in fields(Trail)}
        return {**own, **trail, "numbers": numbers}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Direction:
        """What `arrays` wrote; from the beginning where a version before this one did."""
        if "origin" not in arrays:
            return cls.start(np.asarray(arrays["weights"], dtype=np.float64))
        found = {name: np.asarray(it, dtype=np.float64) for name, it in arrays.items()}
        variance, usual, rounds, curvature = found["numbers"].tolist()
        kept = min(found["weights"].size, MOST_COORDINATES)
        trail = Trail(
            found["trail-means"].reshape(-1, kept),
            found["trail-noise"],
            found["trail-ways"].reshape(-1, kept),
        )
        now, first, weights, origin = (found[name] for name in ("now", "first", "weights", "origin"))
        return cls(now, first, weights, origin, trail, variance, usual, int(rounds), curvature)

    @property
    def way(self) -> Array:
        """From the first model to the newest, folded, f64[k]."""
        found: Array = folded((self.weights - self.origin)[None])[0]
        return found

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
        return replace(self, now=moved, weights=weights, curvature=curvature)

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
        return replace(
            self,
            now=self.now + gain * (cut - self.now),
            first=self.first + cut if self.rounds < FIRST_ROUNDS else self.first,
            trail=self.trail.plus(folded(mean_update[None])[0], noise, self.way),
            variance=(1.0 - gain) ** 2 * self.variance + (gain * noise) ** 2,
            usual=usual,
            rounds=self.rounds + 1,
        )


def _gain(surprise: Array, noise: float) -> float:
    """How much of a surprise is believed: what noise does not explain of it, or more."""
    energy = float(surprise @ surprise)
    return max(GAIN, 1.0 - surprise.size * noise**2 / energy) if energy > 0 else GAIN
