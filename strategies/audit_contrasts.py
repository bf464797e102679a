"""How groups of one round differ, over many rounds: what one member does that the others do not. Pure.

What all members have in common in a round is left out, whatever it was: of each round only what its groups' sums
differ by is kept, and that is independent of the noise on their total. So a model that moves, or a direction that is
found from the total, does no harm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# A variance above zero.
_TINY = 1e-300
# Where there is no noise sums are believed to so much of their size.
_BELIEVED = 1e-6
# Eigenvalues below so much of the largest are those of what groups have not told apart yet.
_APART = 1e-9


@dataclass(frozen=True)
class Contrasts:
    """Sufficient statistics of least squares in units of the noise: X'X [m, m], X'Y [m, d], |Y|², rows of X.

    Row t of X says how much of each member is in a contrast of groups, row t of Y what the contrast is.
    """

    matrix: Array
    product: Array
    square: float = 0.0
    rows: int = 0

    @classmethod
    def empty(cls, members: int, coordinates: int) -> Contrasts:
        """Of nothing."""
        return cls(np.zeros((members, members)), np.zeros((members, coordinates)))

    def plus(self, members: Array, sums: Array, noise: Array) -> Contrasts:
        """With the contrasts of one more round.

        Parameters
        ----------
        members : how much each member counts in each group, f64[g, m], 0 where it is not in it
        sums : what the groups sent, f64[g, d]
        noise : standard deviation of each coordinate of each of them, f64[g]
        """
        noise = np.maximum(noise, _BELIEVED * math.sqrt(float((sums**2).mean())) + _TINY)
        own, sent = members / noise[:, None], sums / noise[:, None]
        common = members.sum(axis=1) / noise
        common = common / float(np.linalg.norm(common))
        own, sent = own - np.outer(common, common @ own), sent - np.outer(common, common @ sent)
        return Contrasts(
            self.matrix + own.T @ own,
            self.product + own.T @ sent,
            self.square + float((sent**2).sum()),
            self.rows + len(noise) - 1,
        )

    def alone(self) -> Alone:
        """Every member as if it alone differed from the others."""
        coordinates = self.product.shape[1]
        information = np.maximum(np.diag(self.matrix), _TINY)
        explained = (self.product**2).sum(axis=1) / information
        freedom = max(coordinates * (self.rows - 1), 1)
        # Members that differ for good, and what changes from round to round, are in the residuals and widen the errors.
        scale = max(1.0, (self.square - float(explained.max(initial=0.0))) / freedom)
        return Alone(self.product / information[:, None], explained / scale, np.sqrt(scale / information))

    def apart(self, member: int) -> tuple[float, float] | None:
        """Square of the distance of one member from the others' mean, noise taken off; and how much they may differ.

        The second is the mean square of the others about their mean, noise taken off, the surer ones counting more,
        and a standard error of that: who is barely known may differ more than it seems. None while the groups do not
        tell all members apart.
        """
        count, coordinates = self.product.shape
        values, vectors = np.linalg.eigh(self.matrix)
        if self.rows < count or values[1] < _APART * values[-1]:
            return None
        covariance = (vectors[:, 1:] / values[1:]) @ vectors[:, 1:].T
        others = np.arange(count) != member
        away = np.eye(count) - np.where(others, 1.0 / (count - 1), 0.0)
        noise = np.maximum(coordinates * np.einsum("ij,jk,ik->i", away, covariance, away), _TINY)
        square = ((away @ covariance @ self.product) ** 2).sum(axis=1) - noise
        sure = 1.0 / noise[others]
        spread = float(sure @ square[others]) / float(sure.sum())
        error = math.sqrt(2.0 * (count - 1) / coordinates) / float(sure.sum())
        return max(float(square[member]), 0.0), max(spread, 0.0) + error


@dataclass(frozen=True)
class Alone:
    """Of every member, as if it alone differed from the others.

    Parameters
    ----------
    by : how much it differs for each unit that it counts, f64[m, d]
    explained : what that explains of all contrasts, f64[m]; chi-square with d degrees of freedom where it does not
        differ
    errors : standard error of each coordinate of `by`, f64[m]
    """

    by: Array
    explained: Array
    errors: Array

    def size(self, member: int) -> float:
        """Length of `by`, what noise adds to its square taken off."""
        own = self.by[member]
        return math.sqrt(max(float(own @ own) - own.size * float(self.errors[member]) ** 2, 0.0))

    def score(self, member: int) -> float:
        """`explained` as a normal score (Wilson and Hilferty 1931)."""
        freedom = len(self.by[member])
        spread = 2.0 / (9.0 * freedom)
        return (math.cbrt(float(self.explained[member]) / freedom) - (1.0 - spread)) / math.sqrt(spread)

    def errors_of(self, member: int) -> float:
        """Its first coordinate in standard errors."""
        return float(self.by[member, 0]) / float(self.errors[member])
