"""What is served is encoded as what was trained on, whichever way it comes in."""

from __future__ import annotations

import io

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scoring_side import COLUMNS, LABELS, Uncounted

from hansa.clients.data.blocks import as_text
from hansa.clients.data.columns import as_texts
from hansa.clients.data.encode import encode
from hansa.clients.scoring.arrow import encode_arrow, read_arrow
from hansa.clients.scoring.coder import Coder
from hansa.clients.scoring.rows import RowReader
from hansa.contract.errors import DataError
from hansa.contract.features import BinaryLabel, CategoricalColumn, FeatureContract, NumericColumn

NAMES = ("a", "b", "3", "7", "true", "x y")
ranges = st.tuples(st.floats(-1e6, 1e6, width=32), st.floats(0.5, 1e6, width=32))


@st.composite
def numeric_columns(draw: st.DrawFn, name: str) -> NumericColumn:
    low, width = draw(ranges)
    missing = draw(st.none() | st.floats(0, 1))
    return NumericColumn(
        name=name,
        low=low,
        high=low + width,
        missing=None if missing is None else min(low + missing * width, low + width),
        indicator=draw(st.booleans()),
        log=draw(st.booleans()),
    )


@st.composite
def categorical_columns(draw: st.DrawFn, name: str) -> CategoricalColumn:
    categories = draw(st.lists(st.sampled_from(NAMES), min_size=2, unique=True))
    stand_ins = st.none() | st.sampled_from(categories)
    return CategoricalColumn(
        name=name, categories=tuple(categories), missing=draw(stand_ins), other=draw(stand_ins)
    )


@st.composite
def tables(draw: st.DrawFn) -> tuple[FeatureContract, list[dict[str, object]]]:
    """A contract and rows that a table of it may hold; numbers are whole in single precision."""
    columns = [
        draw(numeric_columns(f"c {place}") | categorical_columns(f"c {place}"))
        for place in range(draw(st.integers(1, 5)))
    ]
    numbers = st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-999, 999)
    rows = []
    for _ in range(draw(st.integers(1, 6))):
        row: dict[str, object] = {}
        for column in columns:
            if isinstance(column, NumericColumn):
                row[column.name] = draw(numbers)
            else:
                known = [*column.categories, *(int(it) for it in column.categories if it.isdecimal())]
                written = [f" {it} " for it in column.categories] + ([] if column.other is None else ["new"])
                row[column.name] = draw(st.none() | st.sampled_from([*known, *written, ""]))
        rows.append(row)
    return FeatureContract(columns=tuple(columns), label=BinaryLabel()), rows


def as_table(features: FeatureContract, rows: list[dict[str, object]]) -> pl.DataFrame:
    """The rows as a file would hold them: every cell a text."""
    columns = {
        column.name: pl.Series(
            [None if row[column.name] is None else str(row[column.name]) for row in rows], dtype=pl.String
        )
        for column in features.columns
    }
    return pl.DataFrame({**columns, "y": ["0"] * len(rows)})


@given(tables())
def test_a_row_and_a_batch_are_encoded_as_the_table_that_an_agent_trains_on(
    drawn: tuple[FeatureContract, list[dict[str, object]]],
) -> None:
    features, rows = drawn
    trained_on = encode(as_table(features, rows), features, "t").X
    coder, reader = Coder(features, Uncounted()), RowReader(features)
    one = [coder.row(reader.one(msgspec.json.encode(row))) for row in rows]
    (batch,) = reader.many(msgspec.json.encode(rows))
    np.testing.assert_allclose(one, trained_on, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(coder.rows(batch), trained_on)


@given(tables())
def test_raw_numbers_and_arrow_are_encoded_as_that_table_too(
    drawn: tuple[FeatureContract, list[dict[str, object]]],
) -> None:
    features, rows = drawn
    table = as_table(features, rows)
    trained_on = encode(table, features, "t").X
    coder, reader = Coder(features, Uncounted()), RowReader(features)
    raw = np.array([[raw_value(row[it.name], it) for it in features.columns] for row in rows], dtype="<f4")
    np.testing.assert_array_equal(coder.matrix(reader.matrix(raw.tobytes())), trained_on)
    stream = io.BytesIO()
    table.drop("y").write_ipc_stream(stream)
    np.testing.assert_array_equal(encode_arrow(read_arrow(stream.getvalue(), features), coder), trained_on)


def raw_value(value: object, column: NumericColumn | CategoricalColumn) -> float:
    """How a value is written in a raw body."""
    if isinstance(column, CategoricalColumn):
        value = None if value is None else str(value).strip() or None
        if value is not None:
            return float(column.categories.index(value)) if value in column.categories else -1.0
    return float("nan") if value is None else float(value)  # type: ignore[arg-type]


@given(st.text(st.sampled_from("0123-. a\t\x1f\x85\xa0é٣"), max_size=8) | st.integers() | st.booleans())
def test_one_text_is_read_as_a_table_s_are(value: str | int | bool) -> None:
    cell = ("true" if value else "false") if isinstance(value, bool) else str(value)
    assert as_text(value) == as_texts(pl.Series([cell], dtype=pl.String)).to_list()[0]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("[1]", "expected one JSON object of the contract's columns"),
        (
            '{"age": 1, "height": 2}',
            "column 'height' is not in the contract; it has age, sum paid, ward, code, extra",
        ),
        ('{"age": 1, "y": 1}', "column 'y' is the label: it is what is predicted, leave it out"),
        ('{"age": "old"}', r"column 'age': expected a number \(20 to 60.*\) or null, found the text 'old'"),
        ('{"age": [1]}', "column 'age': .*, found a list"),
        ('{"age": 1, "ward": "a", "code": "1"}', "column 'sum paid' is missing: expected a number"),
        (
            '{"age": 1, "sum paid": 1, "ward": true, "code": "1"}',
            "column 'ward': expected one of 'a', 'b'.*found true",
        ),
        (
            '{"age": 1, "sum paid": 1, "ward": "d", "code": "1"}',
            "column 'ward': expected one of 'a', 'b', 'c' or null",
        ),
    ],
)
def test_a_row_that_departs_from_the_contract_gets_its_column_named(row: str, sentence: str) -> None:
    features = FeatureContract(columns=COLUMNS, label=LABELS["binary"])
    coder, reader = Coder(features, Uncounted()), RowReader(features)
    with pytest.raises(DataError, match=sentence):
        coder.row(reader.one(row.encode()))
    with pytest.raises(DataError, match=sentence):
        coder.rows(next(reader.many(b"[" + row.encode() + b"]")))


def test_raw_numbers_that_no_table_holds_are_refused() -> None:
    features = FeatureContract(columns=COLUMNS, label=LABELS["binary"])
    coder, reader = Coder(features, Uncounted()), RowReader(features)
    good = [44.5, 12.0, 1.0, 1.0, np.nan]
    with pytest.raises(DataError, match=r"rows of 5 float32, 20 bytes each; 21 bytes"):
        reader.matrix(b"x" * 21)
    for place, value, sentence in ((0, np.inf, "age.*found inf"), (2, 3, "ward.*0 to 2"), (2, 0.5, "ward")):
        bad = np.array([good, [*good[:place], value, *good[place + 1 :]]], dtype="<f4")
        with pytest.raises(DataError, match=sentence) as caught:
            coder.matrix(bad)
        assert caught.value.row == 1  # type: ignore[attr-defined]
