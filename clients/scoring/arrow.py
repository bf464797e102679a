"""Rows in an Arrow IPC stream, read as training reads a table. Imports polars when called."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hansa.clients.data.columns import as_numbers, as_texts
from hansa.clients.scoring.coder import Array, Coder, Value, ValueRefused, expected
from hansa.contract.errors import DataError
from hansa.contract.features import FeatureContract, NumericColumn

if TYPE_CHECKING:
    import polars as pl


def read_arrow(body: bytes, features: FeatureContract) -> pl.DataFrame:
    """The table of a stream, with the contract's columns in its order.

    Raises
    ------
    DataError : not such a stream, or its columns are not those of the contract
    """
    import polars as pl

    try:
        table = pl.read_ipc_stream(io.BytesIO(body))
    # Polars' errors, and the panics of its own reader on bytes that are something else.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise DataError(f"the body is no Arrow IPC stream: {str(error).splitlines()[0][:200]}") from None
    names = [column.name for column in features.columns]
    for name in table.columns:
        if name not in names:
            raise DataError(f"column '{name[:60]}' is not in the contract; it has {', '.join(names[:8])}")
    for column in features.columns:
        if column.name not in table.columns:
            if not column.optional:
                raise DataError(f"column '{column.name}' is missing: {expected(column)}")
            table = table.with_columns(pl.lit(None, dtype=pl.String).alias(column.name))
    return table.select(names)


def encode_arrow(table: pl.DataFrame, coder: Coder) -> Array:
    """The model columns of a table that `read_arrow` gave. Shape [n, p]; raises `ValueRefused`."""
    import polars as pl

    columns: list[Sequence[Value] | Array] = []
    for column in coder.features.columns:
        series = table[column.name]
        try:
            if isinstance(column, NumericColumn):
                numbers = as_numbers(series)
                if numbers.bad:
                    row, text = numbers.bad
                    raise ValueRefused(column, f"{expected(column)}, found '{text[:60]}'", row)
                columns.append(numbers.values)
            else:
                columns.append(as_texts(series).to_list())
        # Lists, structures and bytes are neither numbers nor texts.
        except pl.exceptions.PolarsError:
            raise ValueRefused(column, f"{expected(column)}, found values of type {series.dtype}") from None
    return coder.columns(columns)
