"""Bodies of requests to raw rows, checked against the feature contract; what is wrong is said by column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hansa.clients.scoring.coder import Value, expected, texts_of_truth
from hansa.contract.errors import DataError
from hansa.contract.features import Column, FeatureContract, NumericColumn

# Rows of JSON, and of numbers, that are worked on before other requests get their turn: about a millisecond.
CHUNK, NUMBERS = 512, 2048
# Rows of one JSON batch; split, each is an object of some 60 bytes beside its text.
MOST_ROWS = 500_000


class NotJson(DataError):
    """A body that is no JSON."""


class RowReader:
    """Reads rows of one contract from JSON objects and from raw float32.

    Every column must be named; null says that it has no value. A column that the contract calls optional may be left
    out, as a table may lack it.
    """

    def __init__(self, features: FeatureContract) -> None:
        self._features = features
        fields: list[Any] = []
        for place, column in enumerate(features.columns):
            name = f"c{place}"
            fields.append((name, _type(column), None) if column.optional else (name, _type(column)))
        names = {f"c{place}": column.name for place, column in enumerate(features.columns)}
        row = msgspec.defstruct(
            "Row", fields, rename=names, kw_only=True, forbid_unknown_fields=True, gc=False
        )
        self._one = msgspec.json.Decoder(row)
        self._many = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]
        self._raw = msgspec.json.Decoder(list[msgspec.Raw])

    def one(self, body: bytes) -> tuple[Value, ...]:
        """One row's values in the contract's order.

        Raises
        ------
        DataError : not one JSON object of this contract; names the column and what is expected
        """
        try:
            values: tuple[Value, ...] = msgspec.structs.astuple(self._one.decode(body))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise DataError(self._explain(_parsed(body))) from None
        return values

    def many(self, body: bytes) -> Iterator[Sequence[tuple[Value, ...]]]:
        """Rows of a JSON array, some at a time; errors as `one`, with the row's number from 1."""
        # Before it is split: what is split off costs many times its two or three bytes.
        rows = body.count(b"{")
        if rows > MOST_ROWS:
            raise DataError(
                f"{rows} rows; a batch of JSON has at most {MOST_ROWS}: send the others in another one"
            )
        if body.count(b",") > rows * len(self._features.columns) + 1:
            raise DataError("expected a JSON array of rows, each an object of the contract's columns")
        try:
            raw = self._raw.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            _parsed(body)
            raise DataError(
                "expected a JSON array of rows, each an object of the contract's columns"
            ) from None
        for start in range(0, len(raw), CHUNK):
            yield self._chunk(raw[start : start + CHUNK], start)

    def matrix(self, body: bytes) -> NDArray[np.float32]:
        """Rows of raw little-endian float32, one after another. Shape [n, columns].

        Raises
        ------
        DataError : the body does not hold whole rows
        """
        width = 4 * len(self._features.columns)
        if len(body) % width:
            raise DataError(
                f"expected rows of {len(self._features.columns)} float32, {width} bytes each; "
                f"{len(body)} bytes are no whole number of them"
            )
        return np.frombuffer(body, dtype="<f4").reshape(-1, len(self._features.columns))

    def _chunk(self, raw: Sequence[msgspec.Raw], start: int) -> list[tuple[Value, ...]]:
        try:
            rows = self._many.decode(b"[" + b",".join(raw) + b"]")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            for place, text in enumerate(raw):
                try:
                    self.one(bytes(text))
                except DataError as error:
                    raise type(error)(f"row {start + place + 1}: {error}") from None
            raise
        return [msgspec.structs.astuple(row) for row in rows]

    def _explain(self, row: Any) -> str:
        """The first thing that is wrong with a row."""
        features = self._features
        if not isinstance(row, dict):
            return "expected one JSON object of the contract's columns"
        columns = {column.name: column for column in features.columns}
        for name in row:
            if name == features.label.column:
                return f"column '{name}' is the label: it is what is predicted, leave it out"
            if name == features.entity:
                return f"column '{name}' says whom a row belongs to and is no input, leave it out"
            if name not in columns:
                known = ", ".join(list(columns)[:8]) + (", ..." if len(columns) > 8 else "")
                return f"column '{name[:60]}' is not in the contract; it has {known}"
        for name, column in columns.items():
            if name not in row:
                if not column.optional:
                    return f"column '{name}' is missing: {expected(column)}"
            elif not _fits(row[name], column):
                return f"column '{name}': {expected(column)}, found {_shown(row[name])}"
        return "not a row of the contract"


def _type(column: Column) -> Any:
    if isinstance(column, NumericColumn):
        return float | bool | None
    return str | int | float | bool | None if texts_of_truth(column) else str | int | float | None


def _fits(value: Any, column: Column) -> bool:
    try:
        msgspec.convert(value, _type(column))
    except msgspec.ValidationError:
        return False
    return True


def _parsed(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise NotJson(f"the body is no JSON: {error}") from None
    except UnicodeDecodeError:
        raise NotJson("the body is no JSON: it is not UTF-8") from None


def _shown(value: Any) -> str:
    kind = {str: "the text ", bool: "", dict: "an object", list: "a list"}.get(type(value), "")
    if isinstance(value, dict | list):
        return kind
    text = f"'{value[:60]}'" if isinstance(value, str) else msgspec.json.encode(value).decode()[:60]
    return kind + text
