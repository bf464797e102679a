"""How far each member goes, from sums of groups: least squares on who was in which, each beside the others. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Regression:
    """Weighted least squares of projections on who was in the group: X'X [m, m], X'y [m], y'y in units of the noise.

    What members do changes from round to round, and by more than the noise: residuals that are larger than it widen
    the errors as much.
    """

    matrix: Array
    product: Array
    square: float = 0.0
    rows: int = 0

    @classmethod
    def empty(cls, members: int) -> Regression:
        return cls(np.zeros((members, members)), np.zeros(members))

    def plus(self, row: Array, value: float, sd: float) -> Regression:
        """With one more projection."""
        row, value = row / sd, value / sd
        return Regression(
            self.matrix + np.outer(row, row),
            self.product + row * value,
            self.square + value**2,
            self.rows + 1,
        )

    def solved(self) -> tuple[Array, Array] | None:
        """Estimates and their covariance; None while the groups do not tell all members apart."""
        freedom = self.rows - len(self.product)
        if freedom < _FREEDOM or not self.matrix.any() or np.linalg.cond(self.matrix) > _CONDITION:
            return None
        covariance = np.asarray(np.linalg.inv(self.matrix), dtype=np.float64)
        estimates = covariance @ self.product
        residual = max(self.square - float(self.product @ estimates), 0.0) / freedom
        return estimates, covariance * max(1.0, residual)


# Projections beyond the number of members before their residuals say anything; and how nearly alike groups may be.
_FREEDOM, _CONDITION = 4, 1e6


@dataclass(frozen=True)
class Contrasts:
    """Of every member: its estimate, the mean of the others', the standard errors between them; each f64[m]."""

    own: Array
    errors: Array
    others: Array
    others_errors: Array
    z: Array
    covariance: Array

    @classmethod
    def of(cls, regression: Regression) -> Contrasts | None:
        solved = regression.solved()
        if solved is None:
            return None
        own, covariance = solved
        count = len(own)
        away = np.full((count, count), -1.0 / (count - 1))
        np.fill_diagonal(away, 1.0)
        mean = np.full((count, count), 1.0 / (count - 1))
        np.fill_diagonal(mean, 0.0)
        return cls(
            own=own,
            errors=_deviations(np.eye(count), covariance),
            others=mean @ own,
            others_errors=_deviations(mean, covariance),
            z=(away @ own) / _deviations(away, covariance),
            covariance=covariance,
        )

    def gap(self, one: int, other: int) -> float:
        """Standard errors between two members."""
        pair = np.zeros(len(self.own))
        pair[one], pair[other] = 1.0, -1.0
        return float(pair @ self.own) / float(_deviations(pair[None], self.covariance)[0])


def _deviations(rows: Array, covariance: Array) -> Array:
    found: Array = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", rows, covariance, rows), 1e-300))
    return found
