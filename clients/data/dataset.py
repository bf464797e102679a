"""Encoded records, ready to train on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Dataset:
    """n records: X f64[n, p] model columns, y f64[n] labels, entities S32[n] (hex of a hash).

    y is 0/1 for binary, the class number for multiclass, label units for regression.
    Rows of one entity carry the same id.
    """

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    entities: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Dataset:
        """The records of a mask or of row numbers."""
        return Dataset(self.X[rows], self.y[rows], self.entities[rows])


def concatenate(parts: list[Dataset]) -> Dataset:
    """Records of several tables, one after another."""
    return Dataset(
        np.concatenate([part.X for part in parts]),
        np.concatenate([part.y for part in parts]),
        np.concatenate([part.entities for part in parts]),
    )
