"""Encoded records, ready to train on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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

    @property
    def entity_count(self) -> int:
        """How many entities there are."""
        return self._owners[1]

    @cached_property
    def rows_of_entity(self) -> NDArray[np.intp]:
        """How many rows the entity of each row has. Shape [n]."""
        owner, entities = self._owners
        rows: NDArray[np.intp] = np.bincount(owner, minlength=entities)[owner]
        return rows

    def of_entities(self, chosen: NDArray[np.bool_]) -> Dataset:
        """All rows of the chosen entities, by a mask over `entity_count`."""
        owner, entities = self._owners
        rows = (chosen if entities == len(self) else chosen[owner]).nonzero()[0]
        part = Dataset(self.X.take(rows, axis=0), self.y.take(rows), self.entities.take(rows))
        # They come whole, so each has as many rows as here: what is known need not be counted again.
        part.__dict__["rows_of_entity"] = self.rows_of_entity.take(rows)
        return part

    @cached_property
    def _owners(self) -> tuple[NDArray[np.intp], int]:
        """Number of each row's entity, and how many there are; the row's own number where each has one row."""
        ids, owner = np.unique(self.entities, return_inverse=True)
        return (np.arange(len(self)) if len(ids) == len(self) else owner), len(ids)


def concatenate(parts: list[Dataset]) -> Dataset:
    """Records of several tables, one after another."""
    return Dataset(
        np.concatenate([part.X for part in parts]),
        np.concatenate([part.y for part in parts]),
        np.concatenate([part.entities for part in parts]),
    )
