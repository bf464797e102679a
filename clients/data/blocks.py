"""One raw column as its model columns, in numpy: what training and scoring have in common."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.columns import scaled
from hansa.contract.features import CategoricalColumn, NumericColumn

Array = NDArray[np.float64]

# What Unicode calls white space, which is what polars strips; Python would strip separators of files too.
_WHITE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_WHOLE = re.compile(r"^(-?\d+)\.0+\Z")


def stand_in(column: NumericColumn) -> float:
    """The value that stands for an absent one; it is encoded as 0."""
    return column.missing if column.missing is not None else (column.low + column.high) / 2


def numeric_block(values: Array, column: NumericColumn) -> Array:
    """Numbers f64[n], NaN where absent, clipped to the declared range and scaled. Shape [n, 1 or 2]."""
    absent = np.isnan(values)
    typical = stand_in(column)
    values = np.clip(np.where(absent, typical, values), column.low, column.high)
    parts = [scaled(values, column) - scaled(np.full(1, typical), column)]
    if column.indicator:
        parts.append(absent.astype(np.float64))
    return np.stack(parts, axis=1)


def category_codes(column: CategoricalColumn) -> dict[str, int]:
    """Which of the block's columns, with the reference as 0, each category stands in."""
    return {category: index for index, category in enumerate(column.categories)}


def absent_code(column: CategoricalColumn) -> int:
    """The code of an absent value: that of the category which stands in, else one of its own."""
    return len(column.categories) if column.missing is None else category_codes(column)[column.missing]


def other_code(column: CategoricalColumn) -> int:
    """The code of a category that the contract does not list; without `other` such a row is refused before."""
    return absent_code(column) if column.other is None else category_codes(column)[column.other]


def categorical_block(codes: NDArray[np.intp], column: CategoricalColumn) -> Array:
    """0/1 columns for all categories but the first, and for "absent" where no category stands in. Shape [n, width]."""
    block = np.zeros((len(codes), len(column.encoded) + 1))
    block[np.arange(len(codes)), codes] = 1.0
    return block[:, 1:]


def as_text(value: str | int | float | bool | None) -> str | None:
    """One value as `columns.as_texts` reads it from a table: stripped, None where empty, 3.0 as 3."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value).strip(_WHITE)
    return _WHOLE.sub(r"\1", text) or None
