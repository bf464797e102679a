"""From raw values to model columns: one row in plain Python, many by the blocks that training uses.

A property test holds the two to each other and to `clients.data.encode`. As there, a number outside its declared
range is clipped, and counted, so that an organisation sees when its records leave the ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.blocks import (
    absent_code,
    as_text,
    categorical_block,
    category_codes,
    numeric_block,
    other_code,
    stand_in,
)
from hansa.clients.data.columns import scaled
from hansa.contract.errors import DataError
from hansa.contract.features import CategoricalColumn, Column, FeatureContract, NumericColumn

Array = NDArray[np.float64]
Value = float | int | str | bool | None
_Encode = Callable[[Value, list[float]], None]


class ValueRefused(DataError):
    """A value that no table of this contract may hold; the sentence names its column, `row` its place in a batch."""

    def __init__(self, column: Column, wrong: str, row: int = 0) -> None:
        super().__init__(f"column '{column.name}': {wrong}")
        self.row = row


class Counts(Protocol):
    """Who counts what is unusual in the values."""

    def clipped(self, column: int, count: int = 1) -> None:
        """Numbers outside their column's declared range."""
        ...

    def absent(self, column: int, count: int = 1) -> None:
        """Absent values of a column."""
        ...


class Coder:
    """Encodes rows of one contract.

    Parameters
    ----------
    counts : told of numbers outside their range and of absent values
    """

    def __init__(self, features: FeatureContract, counts: Counts) -> None:
        self.features, self._counts = features, counts
        self._codes = [_codes(it) if isinstance(it, CategoricalColumn) else None for it in features.columns]
        self._encoders = tuple(
            self._number(place, it) if isinstance(it, NumericColumn) else self._category(place, it)
            for place, it in enumerate(features.columns)
        )

    def row(self, values: Sequence[Value]) -> list[float]:
        """The model columns of one row, its values in the contract's order.

        Raises
        ------
        ValueRefused : a category that the contract does not know
        """
        row: list[float] = []
        for encode, value in zip(self._encoders, values, strict=True):
            encode(value, row)
        return row

    def rows(self, rows: Sequence[Sequence[Value]]) -> Array:
        """The model columns of many rows. Shape [n, p]; errors as `row`, with the row's place."""
        return self.columns(list(zip(*rows, strict=True)))

    def columns(self, columns: Sequence[Sequence[Value] | Array]) -> Array:
        """As `rows`, from the values of each column."""
        blocks = []
        for place, (column, values) in enumerate(zip(self.features.columns, columns, strict=True)):
            if isinstance(column, NumericColumn):
                blocks.append(self._numbers(place, column, np.asarray(values, dtype=np.float64)))
            else:
                blocks.append(categorical_block(self._category_codes(place, values), column))
        return np.concatenate(blocks, axis=1)

    def matrix(self, raw: NDArray[np.float32]) -> Array:
        """The model columns of rows f32[n, columns]: NaN is absent, a category is its place in the contract's list."""
        blocks = []
        for place, column in enumerate(self.features.columns):
            values = raw[:, place].astype(np.float64)
            if isinstance(column, NumericColumn):
                blocks.append(self._numbers(place, column, values))
            else:
                blocks.append(categorical_block(self._numbered_codes(place, column, values), column))
        return np.concatenate(blocks, axis=1)

    def _numbers(self, place: int, column: NumericColumn, values: Array) -> Array:
        unbounded = np.isinf(values)
        if unbounded.any():
            row = int(unbounded.argmax())
            raise ValueRefused(column, f"{expected(column)}, found {values[row]}", row)
        self._counts.clipped(place, int(((values < column.low) | (values > column.high)).sum()))
        self._counts.absent(place, int(np.isnan(values).sum()))
        return numeric_block(values, column)

    def _numbered_codes(self, place: int, column: CategoricalColumn, values: Array) -> NDArray[np.intp]:
        absent = np.isnan(values)
        self._counts.absent(place, int(absent.sum()))
        whole = np.where(absent, 0.0, values)
        outside = (whole < 0) | (whole >= len(column.categories)) | (whole != np.floor(whole))
        if outside.any():
            row = int(outside.argmax())
            if column.other is None:
                last = len(column.categories) - 1
                wrong = f"expected the category's place, 0 to {last}, or NaN, found {values[row]:g}"
                raise ValueRefused(column, wrong, row)
            whole = np.where(outside, other_code(column), whole)
        codes: NDArray[np.intp] = np.where(absent, absent_code(column), whole).astype(np.intp)
        return codes

    def _category_codes(self, place: int, values: Sequence[Value] | Array) -> NDArray[np.intp]:
        codes = self._codes[place]
        assert codes is not None
        try:
            return np.fromiter(map(codes.__getitem__, values), np.intp, len(values))
        except KeyError:
            found = [
                codes[value] if value in codes else self._unusual(place, value, row)
                for row, value in enumerate(values)
            ]
            return np.array(found, dtype=np.intp)

    def _unusual(self, place: int, value: Value, row: int = 0) -> int:
        """The code of a value that is not written as the contract writes its categories."""
        column, codes = self.features.columns[place], self._codes[place]
        assert isinstance(column, CategoricalColumn)
        assert codes is not None
        text = as_text(value)
        if text is None:
            self._counts.absent(place)
            return absent_code(column)
        if text in codes:
            return codes[text]
        if column.other is None:
            raise ValueRefused(column, f"{expected(column)}, found '{text[:60]}'", row)
        return other_code(column)

    def _number(self, place: int, column: NumericColumn) -> _Encode:
        low, high, indicator, log = column.low, column.high, column.indicator, column.log
        width = math.log1p(high - low) if log else high - low
        offset = float(scaled(np.full(1, stand_in(column)), column)[0])
        clipped, absent = self._counts.clipped, self._counts.absent

        def encode(value: Value, row: list[float]) -> None:
            if value is None:
                absent(place)
                row.append(0.0)
                if indicator:
                    row.append(1.0)
                return
            number = float(value)
            if number < low or number > high:
                clipped(place)
                number = low if number < low else high
            above = math.log1p(number - low) if log else number - low
            row.append(4.0 * (above / width) - offset)
            if indicator:
                row.append(0.0)

        return encode

    def _category(self, place: int, column: CategoricalColumn) -> _Encode:
        codes = self._codes[place]
        assert codes is not None
        known = np.arange(len(column.encoded) + 1)
        blocks = [tuple(it) for it in categorical_block(known, column).tolist()]
        by_value = {value: blocks[code] for value, code in codes.items()}

        def encode(value: Value, row: list[float]) -> None:
            block = by_value.get(value)
            row.extend(blocks[self._unusual(place, value)] if block is None else block)

        return encode


def expected(column: Column) -> str:
    """What a column's value must be, for a sentence."""
    if isinstance(column, NumericColumn):
        return f"expected a number ({column.low:g} to {column.high:g}; beyond that it is clipped) or null"
    known = ", ".join(f"'{it}'" for it in column.categories[:8])
    return f"expected one of {known}{', ...' if len(column.categories) > 8 else ''} or null"


def texts_of_truth(column: CategoricalColumn) -> bool:
    """Whether the column's categories are true and false, which JSON has values for."""
    return not {"true", "false"}.isdisjoint(column.categories) and {"0", "1"}.isdisjoint(column.categories)


def _codes(column: CategoricalColumn) -> dict[Value, int]:
    """Codes by text, and by the whole numbers that are read as such texts: 3 and 3.0 as "3"."""
    codes: dict[Value, int] = {}
    for text, code in category_codes(column).items():
        codes[text] = code
        if text.lstrip("-").isdecimal() and str(int(text)) == text:
            codes[int(text)] = code
    if texts_of_truth(column):
        codes |= {truth: codes[as_text(truth)] for truth in (True, False) if as_text(truth) in codes}
    return codes
