"""One column of a table as numbers or as texts, whatever the file stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hansa.contract.features import NumericColumn

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Numbers:
    """Values f64[n] with NaN where absent; `bad` is the first row (from 0) that is no number, and its text."""

    values: NDArray[np.float64]
    bad: tuple[int, str] | None


def as_numbers(series: pl.Series) -> Numbers:
    """Read a column as numbers; true and false count as 1 and 0, infinities as no number."""
    import polars as pl

    source = series
    if series.dtype == pl.String:
        source = series.str.strip_chars()
        source = source.set(source.is_in(["true", "True", "TRUE"]), "1").set(
            source.is_in(["false", "False", "FALSE"]), "0"
        )
    if source.dtype.is_temporal() or source.dtype.is_nested():
        values = pl.Series(series.name, [None] * len(series), dtype=pl.Float64)
    else:
        values = source.cast(pl.Float64, strict=False)
    values = values.set(values.is_infinite(), None)
    lost = values.is_null() & series.is_not_null()
    row = lost.arg_max()
    bad = (row, str(series[row])) if row is not None and lost[row] else None
    return Numbers(values.fill_null(float("nan")).to_numpy().astype(np.float64), bad)


def as_texts(series: pl.Series) -> pl.Series:
    """Read a column as stripped texts, absent ones null.

    Whole numbers lose their ".0": the same code is written 3 in a complete column and 3.0 in one with gaps.
    """
    import polars as pl

    texts = series.cast(pl.String).str.strip_chars()
    texts = texts.set(texts == "", None)
    return texts.str.replace(r"^(-?\d+)\.0+$", "$1")


def scaled(values: NDArray[np.float64], column: NumericColumn) -> NDArray[np.float64]:
    """Numbers inside the column's range as [0, 4], by their logarithm where the contract says so."""
    above, width = values - column.low, column.high - column.low
    share: NDArray[np.float64] = np.log1p(above) / np.log1p(width) if column.log else above / width
    return 4.0 * share
