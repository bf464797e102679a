"""How likely groups' sums are where one member is poisoned, against where nobody is. Pure, numpy alone.

All sums of a job are taken for one normal vector a coordinate, alike in all of them. Behind it stands a member's mean
gradient as a function of the model: an unknown start, less a slope, known up to a factor, times the way that the model
went since, plus a random linear function of that way, plus what is the round's own. So every round says where the
gradient points in every other one, and what is a poisoned member's share of each sum follows:

    sign    minus its gradient now
    label   its gradient now less twice the first one, which is what other labels make of a linear model's, and
            something of its own for good

Honest members differ by something of their own for good, and by a factor. How much, and how the gradient moves, is not
known: likelihoods are means over a grid of settings, from public sizes alone (Kass and Raftery 1995). What all groups
of a round have in common says nothing of a reversed sign: the mean gradient is that of the cohort as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kind = Literal["sign", "label"]
# Which members are poisoned, and in which way.
Suspects = tuple[Kind, tuple[int, ...]]

KINDS: tuple[Kind, ...] = ("sign", "label")
# Per coordinate, as shares of the clip's square: variance of the mean gradient at the start, and of what other labels
# have of their own.
STARTS, OTHER = (0.003, 0.01, 0.03), 0.003
# The slope as a share of the public curvature, and the variance of what is random about it, as a share of its square.
SLOPES, BENDS = (0.25, 1.0), (0.001, 0.03)
# What one record has of its own, likewise; the variance of the factor by which members differ; and how likely that is.
UNLIKE = ((0.05, 0.003, 0.9), (3.0, 0.15, 0.1))
# What is a round's own, as a share of the variance at the start; and how likely that is.
DRIFTS = ((0.0, 0.9), (0.3, 0.1))
# Sums are believed to so much of their size.
_BELIEVED = 1e-3
# Settings that are less likely by so much count for nothing.
_UNLIKELY = 5.0


class Setting(NamedTuple):
    """How gradients move and members differ, per coordinate."""

    start: float
    bend: float
    slope: float
    own: float
    factor: float
    drift: float
    other: float


@dataclass(frozen=True)
class Sums:
    """Sums of groups, or of the whole cohort, one after another.

    Parameters
    ----------
    rows : how many records of each member are in each, f64[n, m]
    totals : f64[n, k]
    ways : where the model was that each was made at, from the job's first one, f64[n, k]
    noise : standard deviation of each coordinate, f64[n]
    rounds : of which round each is, counted from the first one here, f64[n]
    """

    rows: Array
    totals: Array
    ways: Array
    noise: Array
    rounds: Array

    @classmethod
    def empty(cls, members: int, coordinates: int) -> Sums:
        """Of no round."""
        nothing = np.zeros((0, coordinates))
        return cls(np.zeros((0, members)), nothing, nothing, np.zeros(0), np.zeros(0))

    def plus(self, rows: Array, totals: Array, way: Array, noise: Array) -> Sums:
        """With those of one more round, all made at the same model."""
        ways = np.broadcast_to(way, totals.shape)
        number = np.full(len(noise), self.rounds[-1] + 1.0 if len(self.rounds) else 0.0)
        new = (rows, totals, ways, noise, number)
        old = (self.rows, self.totals, self.ways, self.noise, self.rounds)
        return Sums(*(np.concatenate(pair) for pair in zip(old, new, strict=True)))


def settings(sums: Sums, square: float, curvature: float) -> list[tuple[Setting, float]]:
    """The grid, each with the logarithm of how likely it is, up to the same constant.

    Parameters
    ----------
    square : of the clip, divided by how many coordinates share it
    curvature : public, 0 where it is not known
    """
    slopes = [factor * curvature for factor in SLOPES] if curvature else [0.0]
    if not curvature:
        # One that ends the first gradient about where the model went.
        far = float((sums.ways**2).sum(axis=1).mean())
        curvature = float(np.sqrt(square / far)) if far > 0 else 0.0
    return [
        (
            Setting(
                start * square,
                bend * curvature**2,
                slope,
                own * square,
                factor,
                drift * start * square,
                OTHER * square,
            ),
            math.log(alike * steady),
        )
        for start, bend, slope, (own, factor, alike), (drift, steady) in product(
            STARTS, BENDS, slopes, UNLIKE, DRIFTS
        )
    ]


class Likelihoods:
    """Of these sums under any suspects."""

    def __init__(self, sums: Sums, square: float, curvature: float) -> None:
        self._rows, self._ways = sums.rows, sums.ways @ sums.ways.T
        floor = _BELIEVED * float(np.sqrt((sums.totals**2).mean())) + 1e-300
        self._noise = np.maximum(sums.noise, floor)
        self._coordinates = sums.totals.shape[1]
        self._squares, self._crossed = sums.totals @ sums.totals.T, sums.totals @ sums.ways.T
        self._together = np.equal.outer(sums.rounds, sums.rounds).astype(np.float64)
        self._records = sums.rows.max(axis=0)
        self._alike = sums.rows @ sums.rows.T
        self._shared = (sums.rows / np.maximum(self._records, 1.0)) @ sums.rows.T
        prior = settings(sums, square, curvature)
        found = [float(self._under([None], setting)[0]) + likely for setting, likely in prior]
        self._kept = [it for it, own in zip(prior, found, strict=True) if own > max(found) - _UNLIKELY]
        self._nobody = _sum_of_exponentials(np.array(found))

    def ratios(self, suspects: Sequence[Suspects]) -> Array:
        """Logarithms of the likelihood's ratio to that of no poison, f64[len(suspects)]."""
        found = np.array([self._under(suspects, setting) + likely for setting, likely in self._kept])
        # Settings left out could only add to it.
        ratios: Array = _sum_of_exponentials(found) - self._nobody
        return ratios

    def _under(self, suspects: Sequence[Suspects | None], setting: Setting) -> Array:
        """Log-likelihoods under one setting, up to the same constant."""
        gradients = setting.start + setting.bend * self._ways + setting.drift * self._together
        moved = gradients + setting.slope**2 / self._coordinates * self._ways
        unlike = setting.own * self._shared + setting.factor * self._alike * moved
        unlike.flat[:: len(unlike) + 1] += self._noise**2
        covariances, squares = [], []
        for it in suspects:
            now, first, places = self._shares(it)
            covariance = unlike + np.outer(now, now) * gradients
            if first.any():
                both = np.outer(now, first)
                covariance += (both + both.T + np.outer(first, first)) * setting.start
                covariance += setting.other * self._rows[:, places] @ self._rows[:, places].T
            covariances.append(covariance)
            crossed = setting.slope * now * self._crossed
            ways = setting.slope**2 * np.outer(now, now) * self._ways
            squares.append(self._squares + crossed + crossed.T + ways)
        stacked = np.array(covariances)
        logs = np.linalg.slogdet(stacked)[1]
        distances = np.einsum("hij,hij->h", np.linalg.inv(stacked), np.array(squares))
        likelihoods: Array = -0.5 * (distances + self._coordinates * logs)
        return likelihoods

    def _shares(self, suspects: Suspects | None) -> tuple[Array, Array, list[int]]:
        """How often the mean gradient now, and the first, is in each sum; f64[n] each."""
        now, first = self._rows.sum(axis=1), np.zeros(len(self._rows))
        if suspects is None:
            return now, first, []
        kind, places = suspects
        theirs = self._rows[:, list(places)].sum(axis=1)
        if kind == "label":
            return now, -2.0 * theirs, list(places)
        everybody = float(self._records.sum())
        left = everybody - 2.0 * float(self._records[list(places)].sum())
        return (now - 2.0 * theirs) * (everybody / left if left > 0 else 1.0), first, list(places)


def _sum_of_exponentials(logs: Array) -> Array:
    """Logarithm of the sum of exponentials over the first axis."""
    most = logs.max(axis=0)
    found: Array = np.asarray(most + np.log(np.exp(logs - most).sum(axis=0)))
    return found
