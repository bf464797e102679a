"""Rows that a feature contract allows, made of the contract alone: for debugging, never for a claim.

Numbers lie in the declared range around what stands in for a missing one, categories and classes are drawn evenly, a
binary label by its declared prevalence. Columns are independent of each other and of the label: nothing can be
learnt from such rows, and nothing of anybody's records is in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hansa.contract.errors import InputError
from hansa.contract.features import (
    BinaryLabel,
    CategoricalColumn,
    Column,
    FeatureContract,
    Label,
    MulticlassLabel,
    NumericColumn,
)

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")

# Share of absent values where the contract says what stands in for one, and of the range a spread is.
ABSENT, SPREAD = 0.03, 0.2
_ROWS_OF_ENTITY = 3


def synthetic_rows(features: FeatureContract, rows: int, seed: int = 0) -> pl.DataFrame:
    """So many rows, the same for the same contract, number and seed; raises `InputError` for fewer than one."""
    import polars as pl

    if rows < 1:
        raise InputError(f"rows: expected at least 1 (got {rows})")
    if seed < 0:
        raise InputError(f"seed: expected at least 0 (got {seed})")
    rng = np.random.default_rng(seed)
    columns = {it.name: _column(it, rows, rng) for it in features.columns}
    columns[features.label.column] = _label(features.label, rows, rng)
    if features.entity is not None:
        owners = rng.integers(0, max(1, rows // _ROWS_OF_ENTITY), rows)
        columns[features.entity] = [f"made-up-{number}" for number in owners]
    return pl.DataFrame(columns)


def _column(column: Column, rows: int, rng: np.random.Generator) -> list[Any]:
    absent = rng.random(rows) < ABSENT
    if isinstance(column, NumericColumn):
        return _with_gaps(_numbers(column, rows, rng).tolist(), absent)
    return _with_gaps(_categories(column, rows, rng), absent)


def _numbers(column: NumericColumn, rows: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Around the typical value, on the scale that the contract has; nothing outside the range."""
    width = column.high - column.low
    above = width / 2 if column.missing is None else column.missing - column.low
    middle = np.log1p(above) / np.log1p(width) if column.log else above / width
    share = np.clip(middle + SPREAD * rng.standard_normal(rows), 0.0, 1.0)
    values = column.low + (np.expm1(share * np.log1p(width)) if column.log else share * width)
    # Counts and years have whole bounds some way apart.
    whole = float(column.low).is_integer() and float(column.high).is_integer() and width > 2
    found: NDArray[np.float64] = np.clip(np.round(values, 0 if whole else 6), column.low, column.high)
    return found


def _categories(column: CategoricalColumn, rows: int, rng: np.random.Generator) -> list[str]:
    return [str(it) for it in rng.choice(column.categories, rows)]


def _label(label: Label, rows: int, rng: np.random.Generator) -> list[Any]:
    if isinstance(label, BinaryLabel):
        yes = rng.random(rows) < label.prevalence
        return [label.positive if it else label.negative for it in yes]
    if isinstance(label, MulticlassLabel):
        return [str(it) for it in rng.choice(label.classes, rows)]
    return [float(it) for it in np.round(rng.uniform(label.low, label.high, rows), 6)]


def _with_gaps(values: list[T], absent: NDArray[np.bool_]) -> list[T | None]:
    return [None if gone else value for value, gone in zip(values, absent, strict=True)]
