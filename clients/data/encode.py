"""From a table to model columns, by the feature contract alone: every member builds the same ones."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.blocks import (
    absent_code,
    categorical_block,
    category_codes,
    numeric_block,
    other_code,
)
from hansa.clients.data.check import DataReport, check_table
from hansa.clients.data.columns import as_numbers, as_texts
from hansa.clients.data.dataset import Dataset
from hansa.contract.errors import DataError
from hansa.contract.features import (
    BinaryLabel,
    CategoricalColumn,
    Column,
    FeatureContract,
    Label,
    NumericColumn,
    RegressionLabel,
)

if TYPE_CHECKING:
    import polars as pl

Array = NDArray[np.float64]


def encode(table: pl.DataFrame, features: FeatureContract, origin: str) -> Dataset:
    """Records of a table; rows without a label are left out.

    Raises
    ------
    DataError : the table departs from the contract; names file, column, row and what was expected
    """
    report = check_table(table, features, origin)
    if report.errors:
        raise DataError(_summary(report))
    entities = entity_ids(table, features)
    labelled = as_texts(table[features.label.column]).is_not_null().to_numpy()
    blocks: list[Array] = []
    for column in features.columns:
        series = _series(table, column)
        blocks.append(
            numeric_block(as_numbers(series).values, column)
            if isinstance(column, NumericColumn)
            else _categorical(series, column)
        )
    records = Dataset(np.concatenate(blocks, axis=1), _labels(table, features.label), entities)
    return records.take(labelled)


def entity_ids(table: pl.DataFrame, features: FeatureContract) -> NDArray[np.bytes_]:
    """Whom each row belongs to, as 32 hex digits. Shape [n].

    Without an entity column a row is its own entity: the hash of its contract columns and
    which occurrence of that content it is, so that neither order nor other rows matter, nor
    whether an optional column is not there or holds no value.
    """
    import polars as pl

    if features.entity is not None:
        names = as_texts(table[features.entity]).fill_null("").to_list()
        return np.array([_digest(name.encode()) for name in names], dtype="S32")
    texts, numbers = [], []
    for column in features.columns:
        series = _series(table, column)
        if isinstance(column, NumericColumn):
            values = as_numbers(series).values + 0.0  # -0.0 becomes 0.0
            numbers.append(np.where(np.isnan(values), np.nan, values))
        else:
            texts.append(as_texts(series).fill_null("\x00"))
    label = as_texts(table[features.label.column]).fill_null("\x00")
    joined = pl.select(pl.concat_str([label, *texts], separator="\x1f")).to_series().to_list()
    matrix = np.stack(numbers, axis=1) if numbers else np.zeros((table.height, 0))
    ids, seen = [], dict[bytes, int]()
    for row, text in zip(matrix, joined, strict=True):
        content = hashlib.sha256(text.encode() + b"\x1e" + row.tobytes()).digest()
        occurrence = seen.get(content, 0)
        seen[content] = occurrence + 1
        ids.append(_digest(content + occurrence.to_bytes(8, "big")))
    return np.array(ids, dtype="S32")


def entity_id(name: str) -> bytes:
    """The id of an entity by what stands in the contract's entity column, read as the column is."""
    import polars as pl

    (text,) = as_texts(pl.Series([name], dtype=pl.String)).fill_null("").to_list()
    return _digest(text.encode())


def identifying(table: pl.DataFrame, features: FeatureContract) -> tuple[str, ...]:
    """The contract's columns that hold a value in some row: where one comes to, every row gets another id."""
    return tuple(column.name for column in features.columns if _holds_values(table, column))


def _holds_values(table: pl.DataFrame, column: Column) -> bool:
    series = _series(table, column)
    if isinstance(column, NumericColumn):
        return not np.isnan(as_numbers(series).values).all()
    return as_texts(series).null_count() < table.height


def _series(table: pl.DataFrame, column: Column) -> pl.Series:
    """A column of the contract, without a value in any row where the table does not have it."""
    import polars as pl

    if column.name in table.columns:
        return table[column.name]
    return pl.Series(column.name, [None] * table.height, dtype=pl.String)


def _categorical(series: pl.Series, column: CategoricalColumn) -> Array:
    position, absent, other = category_codes(column), absent_code(column), other_code(column)
    codes = [absent if text is None else position.get(text, other) for text in as_texts(series).to_list()]
    return categorical_block(np.array(codes, dtype=np.intp), column)


def _labels(table: pl.DataFrame, label: Label) -> Array:
    if isinstance(label, RegressionLabel):
        return np.clip(as_numbers(table[label.column]).values, label.low, label.high)
    texts = as_texts(table[label.column]).to_list()
    if isinstance(label, BinaryLabel):
        return np.array([1.0 if text == label.positive else 0.0 for text in texts])
    position = {name: float(index) for index, name in enumerate(label.classes)}
    return np.array([position.get(text, 0.0) for text in texts])


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest()[:32].encode()


def _summary(report: DataReport) -> str:
    more = len(report.errors) - 1
    return report.errors[0] + (f"; and {more} more problem{'s' if more > 1 else ''}" if more else "")
