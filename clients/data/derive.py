"""A feature contract from the tables of all organisations, for trying things out.

Looking at everybody's tables is what a real consortium cannot do: there the contract is
declared, and everything made here says `derived = true`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.columns import as_numbers, as_texts
from hansa.clients.data.derive_label import derive_label
from hansa.contract.errors import DataError
from hansa.contract.features import CategoricalColumn, Column, FeatureContract, NumericColumn

if TYPE_CHECKING:
    import polars as pl

Array = NDArray[np.float64]

# Whole numbers with at most this many values are codes: one column a value.
MOST_CODES = 10
# Categories above this many, by frequency, and those with fewer records than the floor become "other".
MOST_CATEGORIES = 30
FEWEST_RECORDS = 10
# A numeric column gets an indicator when this share is absent over all, or in one organisation.
OFTEN_ABSENT, OFTEN_ABSENT_IN_ONE = 0.02, 0.2
# Ranges go from this quantile to its mirror image.
TAIL = 0.002
# The upper side is this many times as long as the lower one: take the logarithm.
HEAVY = 20.0


def derive_features(
    tables: Mapping[str, pl.DataFrame], label: str, *, entity: str | None = None
) -> tuple[FeatureContract, tuple[str, ...]]:
    """A contract that all tables keep, and sentences about columns that it leaves out.

    Raises
    ------
    DataError : a table without the label, a label with one value, or no column to learn from
    """
    for name, table in tables.items():
        if label not in table.columns:
            found = ", ".join(table.columns[:8]) + (", ..." if table.width > 8 else "")
            raise DataError(f"{name}: the label column '{label}' is missing; the table has {found}")
        if entity is not None and entity not in table.columns:
            raise DataError(f"{name}: the entity column '{entity}' is missing")
    names = dict.fromkeys(column for table in tables.values() for column in table.columns)
    columns, notes = [], []
    for name in names:
        if name in (label, entity):
            continue
        parts = [table[name] if name in table.columns else None for table in tables.values()]
        column = _column(name, parts)
        if isinstance(column, str):
            notes.append(f"column '{name}' is left out: {column}")
        else:
            columns.append(column)
    if not columns:
        raise DataError(f"no column beside the label '{label}' can be learnt from; " + "; ".join(notes))
    target = derive_label(label, [table[label] for table in tables.values()])
    return FeatureContract(columns=tuple(columns), label=target, entity=entity), tuple(notes)


def _column(name: str, parts: list[pl.Series | None]) -> Column | str:
    """The contract of one column, or why it is left out."""
    present = [part for part in parts if part is not None]
    texts = [as_texts(part) for part in present]
    counts = _counts(texts)
    if not counts:
        return "it is empty everywhere"
    if len(counts) == 1:
        return f"it is always '{next(iter(counts))}'"
    optional = len(present) < len(parts)
    numbers = [as_numbers(part) for part in present]
    rows = sum(len(part) for part in present)
    if any(number.bad for number in numbers):
        if len(counts) > max(MOST_CATEGORIES, rows // 2):
            return "nearly every row has another text; it looks like an identifier, a date or free text"
        return _categorical(name, counts, sum(counts.values()) < rows, optional)
    values = [number.values for number in numbers]
    if all(_counts_rows(part) for part in values):
        return "it counts the rows"
    if len(counts) <= MOST_CODES and all(whole(part) for part in values):
        return _categorical(name, counts, sum(counts.values()) < rows, optional)
    return _numeric(name, values, optional)


def whole(values: Array) -> bool:
    """Whether all numbers of a column are integers; absent ones do not count."""
    known = values[~np.isnan(values)]
    return bool((known == np.rint(known)).all())


def _numeric(name: str, parts: list[Array], optional: bool) -> NumericColumn:
    values = np.concatenate(parts)
    known = values[~np.isnan(values)]
    absent = [float(np.isnan(part).mean()) for part in parts if len(part)]
    low, middle, high = (float(bound) for bound in np.quantile(known, [TAIL, 0.5, 1 - TAIL]))
    if not low < high:
        low, high = float(known.min()), float(known.max())
    log = low >= 0 and high - middle > HEAVY * (middle - low) and high - low > 10
    low, high = rounded_range(low, high)
    return NumericColumn(
        name=name,
        low=low,
        high=high,
        missing=min(max(rounded(middle, (high - low) / 100), low), high),
        indicator=float(np.isnan(values).mean()) > OFTEN_ABSENT
        or max(absent) > OFTEN_ABSENT_IN_ONE
        or optional,
        log=log,
        optional=optional,
        derived=True,
    )


def _categorical(name: str, counts: dict[str, int], absent: bool, optional: bool) -> CategoricalColumn:
    """The most frequent category comes first and is the reference; rare ones share one."""
    ranked = sorted(counts, key=lambda text: (-counts[text], text))
    kept = [text for text in ranked[:MOST_CATEGORIES] if counts[text] >= FEWEST_RECORDS] or ranked[:1]
    other = None
    if len(ranked) - len(kept) >= 2 or len(kept) < 2:
        other = "other" if "other" not in kept else "other (rare)"
        kept.append(other)
    else:
        kept = ranked
    return CategoricalColumn(
        name=name,
        categories=tuple(kept),
        missing=None if absent or optional else kept[0],
        other=other,
        optional=optional,
        derived=True,
    )


def rounded_range(low: float, high: float) -> tuple[float, float]:
    """A range widened to two readable digits of its width."""
    unit = 10.0 ** (math.floor(math.log10(high - low)) - 1)
    return rounded(math.floor(low / unit) * unit, unit), rounded(math.ceil(high / unit) * unit, unit)


def rounded(value: float, unit: float) -> float:
    """The value with the decimals that a step of `unit` needs."""
    return round(value, max(0, -math.floor(math.log10(unit))))


def _counts(texts: list[pl.Series]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for series in texts:
        table = series.drop_nulls().value_counts()
        for text, count in table.iter_rows():
            totals[text] = totals.get(text, 0) + count
    return totals


def _counts_rows(values: Array) -> bool:
    """Whether a column only numbers the rows of its file."""
    return len(values) > 2 and bool(np.all(np.diff(values) == 1.0))
