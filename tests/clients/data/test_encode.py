"""From CSV text to model columns, and what a table that departs from the contract gets."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hansa.clients.data.check import check_data, check_table
from hansa.clients.data.encode import encode, identifying
from hansa.clients.data.sources import read_csv
from hansa.contract.errors import DataError
from hansa.contract.features import (
    BinaryLabel,
    CategoricalColumn,
    FeatureContract,
    MulticlassLabel,
    NumericColumn,
    RegressionLabel,
)
from hansa.contract.sources import CsvSource

FEATURES = FeatureContract(
    columns=(
        NumericColumn(name="age", low=20, high=60, missing=30, indicator=True),
        CategoricalColumn(name="ward", categories=("a", "b", "c")),
        CategoricalColumn(name="code", categories=("1", "2", "other"), missing="1", other="other"),
    ),
    label=BinaryLabel(),
)


def table(tmp_path: Path, text: str) -> pl.DataFrame:
    path = tmp_path / "org.csv"
    path.write_text(text)
    return read_csv(path)


def test_columns_are_built_from_the_contract_alone(tmp_path: Path) -> None:
    records = encode(
        table(tmp_path, "y,age,ward,code\n1,60,a,1.0\n0,,b,2\n1,100,,9\n0,20,c,\n"), FEATURES, "org.csv"
    )
    # age, age absent | ward b, c, absent | code 2, other
    expected = [[3, 0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 1, 0], [3, 0, 0, 0, 1, 0, 1], [-1, 0, 0, 1, 0, 0, 0]]
    np.testing.assert_allclose(records.X, expected)
    np.testing.assert_array_equal(records.y, [1, 0, 1, 0])
    assert records.X.shape[1] == len(FEATURES.encoded)


def test_a_logarithm_is_taken_inside_the_range() -> None:
    column = NumericColumn(name="n", low=0, high=99, missing=0, log=True)
    features = FeatureContract(columns=(column,), label=BinaryLabel())
    records = encode(pl.DataFrame({"y": [1, 0, 1], "n": [0.0, 9.0, 1e9]}), features, "t")
    np.testing.assert_allclose(records.X[:, 0], [0, 2, 4])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "age,ward,code\n30,a,1\n",
            r"org\.csv: column 'y' is missing: it is the label; the table has age, ward, code",
        ),
        (
            "y,age,ward,code\n1,30,a,1\n0,old,a,1\n",
            r"org\.csv: column 'age', row 2: expected a number, found 'old'",
        ),
        (
            "y,age,ward,code\n1,30,d,1\n",
            r"org\.csv: column 'ward', row 1: category 'd' is not in the contract \(a, b",
        ),
        ("y,age,code\n1,30,1\n", r"org\.csv: column 'ward' is missing: the contract has it as categorical"),
        ("y,age,ward,code\n,30,a,1\n,31,a,1\n", r"org\.csv: column 'y': no row has a label"),
        (
            "y,age,ward,code\nmaybe,30,a,1\n",
            r"org\.csv: column 'y', row 1: expected '0' or '1', found 'maybe'",
        ),
    ],
)
def test_a_departure_from_the_contract_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        encode(table(tmp_path, text), FEATURES, "org.csv")


def test_further_problems_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="and 2 more problems"):
        encode(table(tmp_path, "y,age,ward,code\n7,x,d,1\n"), FEATURES, "org.csv")


@pytest.mark.parametrize(
    ("text", "sentence"), [("", "the file is empty"), ("y,age\n", "no records below its header")]
)
def test_an_empty_file_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        table(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        read_csv(tmp_path / "none.csv")


def test_ragged_rows_and_other_encodings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a CSV file"):
        table(tmp_path, "y,age\n1,2,3,4\n")
    (tmp_path / "latin.csv").write_bytes("y,stra\xdfe\n1,\xe4\n".encode("latin-1"))
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        read_csv(tmp_path / "latin.csv")


BINARY = {
    "two bytes of nothing": (b"\xff\xfe\x00\x01,y\n1,0\n", "line 1 has bytes that are no text"),
    "UTF-16": ("y,age\n1,2\n".encode("utf-16-le"), "line 1 has a NUL byte"),
    "a NUL far below": (b"y,age\n" + b"1,2\n" * 300_000 + b"1,\x00\n", "line 300002 has a NUL byte"),
    "a character cut off": ("y,age\n1,€".encode()[:-1], "line 2 has bytes that are no text"),
}


@pytest.mark.parametrize("name", BINARY)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, name: str) -> None:
    content, sentence = BINARY[name]
    (tmp_path / "odd.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"odd\.csv: not a CSV file in UTF-8: {sentence}"):
        read_csv(tmp_path / "odd.csv")


def test_a_character_may_lie_across_two_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hansa.clients.data.sources._BLOCK_BYTES", 1)
    assert table(tmp_path, "y,straße\n1,€\n").rows() == [("1", "€")]
    (tmp_path / "odd.csv").write_bytes(b"y,age\n1,\xe2\x82\n3,4\n")
    with pytest.raises(DataError, match="line 2 has bytes"):
        read_csv(tmp_path / "odd.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_byte_order_marks_and_blanks_are_understood(tmp_path: Path, separator: str) -> None:
    lines = [("y", " age ", "ward", "code"), ("1", " 30", "a ", "1"), ("0", "NA", "", "?")]
    text = "\ufeff" + "\r\n".join(separator.join(line) for line in lines) + "\r\n"
    records = encode(table(tmp_path, text), FEATURES, "org.csv")
    np.testing.assert_allclose(records.X, [[0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 1, 0, 0]])


def test_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    records = encode(table(tmp_path, "y,age,ward,code\n1,30,a,1\n,31,a,1\n0,32,a,1\n"), FEATURES, "org.csv")
    assert len(records) == 2


def test_classes_and_numbers_are_labels_too() -> None:
    column = NumericColumn(name="n", low=0, high=1)
    rows = {"n": [0.1, 0.2, 0.3]}
    classes = FeatureContract(columns=(column,), label=MulticlassLabel(classes=("lo", "mid", "hi")))
    assert encode(pl.DataFrame({**rows, "y": ["hi", "lo", "mid"]}), classes, "t").y.tolist() == [2, 0, 1]
    number = FeatureContract(columns=(column,), label=RegressionLabel(low=0, high=10))
    assert encode(pl.DataFrame({**rows, "y": [-5.0, 5.0, 50.0]}), number, "t").y.tolist() == [0, 5, 10]
    with pytest.raises(DataError, match="column 'y', row 1: expected a number, found 'x'"):
        encode(pl.DataFrame({"n": [0.1], "y": ["x"]}), number, "t")


def test_typed_tables_encode_as_their_csv_does(tmp_path: Path) -> None:
    text = "y,age,ward,code\n1,30,a,1\n0,,b,2\n1,41.5,c,3\n"
    typed = pl.DataFrame(
        {
            "y": [True, False, True],
            "age": [30.0, None, 41.5],
            "ward": ["a", "b", "c"],
            "code": [1.0, 2.0, 3.0],
        }
    ).with_columns(pl.col("y").cast(pl.Int8), pl.col("ward").cast(pl.Categorical))
    from_csv = encode(table(tmp_path, text), FEATURES, "csv")
    from_types = encode(typed, FEATURES, "types")
    np.testing.assert_array_equal(from_csv.X, from_types.X)
    np.testing.assert_array_equal(from_csv.entities, from_types.entities)


def test_an_optional_column_may_be_absent() -> None:
    columns = (
        NumericColumn(name="n", low=0, high=4),
        NumericColumn(name="m", low=0, high=4, optional=True, indicator=True),
    )
    features = FeatureContract(columns=columns, label=BinaryLabel())
    records = encode(pl.DataFrame({"y": [1, 0], "n": [1, 2]}), features, "t")
    np.testing.assert_allclose(records.X[:, 1:], [[0, 1], [0, 1]])
    assert any(
        "optional" in sentence
        for sentence in check_table(pl.DataFrame({"y": [1], "n": [1]}), features, "t").warnings
    )


OPTIONAL = FeatureContract(
    columns=(
        NumericColumn(name="n", low=0, high=9),
        NumericColumn(name="m", low=0, high=9, optional=True),
        CategoricalColumn(name="k", categories=("a", "b"), optional=True),
    ),
    label=BinaryLabel(),
)


def test_an_optional_column_without_values_gives_nobody_another_id() -> None:
    rows = pl.DataFrame({"y": [1, 0, 1], "n": [1.0, 2.0, 3.0]})
    before = encode(rows, OPTIONAL, "t").entities.tolist()
    for m, k in (([None] * 3, ["", None, " "]), ([float("nan"), -float("nan"), None], [None] * 3)):
        empty = rows.with_columns(m=pl.Series(m, dtype=pl.Float64), k=pl.Series(k, dtype=pl.String))
        assert encode(empty, OPTIONAL, "t").entities.tolist() == before
        assert identifying(empty, OPTIONAL) == identifying(rows, OPTIONAL) == ("n",)
    # Rows in which it stays empty keep theirs, too.
    some = rows.with_columns(m=pl.Series([None, 4.0, None]), k=pl.Series([None, None, "b"]))
    after = encode(some, OPTIONAL, "t").entities.tolist()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False]
    assert identifying(some, OPTIONAL) == ("n", "m", "k")


def test_equal_rows_are_different_entities_and_order_does_not_matter() -> None:
    features = FeatureContract(columns=(NumericColumn(name="n", low=0, high=9),), label=BinaryLabel())
    rows = [(1, 3), (0, 4), (1, 3), (1, 5)]
    ids = set()
    for order in itertools.permutations(rows):
        frame = pl.DataFrame({"y": [y for y, _ in order], "n": [n for _, n in order]})
        entities = encode(frame, features, "t").entities.tolist()
        assert len(set(entities)) == 4
        ids.add(tuple(sorted(entities)))
    assert len(ids) == 1


def test_the_report_says_column_by_column_what_departs(tmp_path: Path) -> None:
    features = FeatureContract(
        columns=(
            NumericColumn(name="wide", low=-1000, high=1000),
            NumericColumn(name="clipped", low=0, high=5),
            NumericColumn(name="same", low=0, high=5),
            NumericColumn(name="gone", low=0, high=5),
            CategoricalColumn(name="kind", categories=("a", "b"), other="b"),
        ),
        label=BinaryLabel(),
    )
    lines = [f"{row % 2},{row / 10},{row},3,,{'a' if row % 3 else 'z'},extra" for row in range(20)]
    (tmp_path / "org.csv").write_text("y,wide,clipped,same,gone,kind,more\n" + "\n".join(lines))
    report = check_data(CsvSource(path="org.csv"), features, tmp_path)
    found = {column.name: column for column in report.columns}
    assert report.errors == ()
    assert report.extra == ("more",)
    assert found["clipped"].clipped_rows == 14
    assert found["kind"].unknown == ("z",)
    assert found["gone"].missing == 1.0
    text = "\n".join(report.warnings)
    for phrase in (
        "'wide': the declared range",
        "'clipped': 70%",
        "'same': constant",
        "'gone': every value",
        "'kind': 35.0%",
    ):
        assert phrase in text


@pytest.mark.parametrize(("deviation", "warned"), [(1.0, False), (0.6, False), (0.4, True), (0.05, True)])
def test_a_range_is_called_too_wide_under_half_its_spread(
    tmp_path: Path, deviation: float, warned: bool
) -> None:
    # Declared is 0 to 40: what fits it has standard deviation 10 around 20.
    features = FeatureContract(columns=(NumericColumn(name="age", low=0, high=40),), label=BinaryLabel())
    draws = np.random.default_rng(3).normal(20.0, 10.0 * deviation, 400)
    lines = [f"{row % 2},{value}" for row, value in enumerate(draws)]
    (tmp_path / "org.csv").write_text("y,age\n" + "\n".join(lines))
    warnings = check_data(CsvSource(path="org.csv"), features, tmp_path).warnings
    assert any("looks too wide" in it and "contract check" in it for it in warnings) == warned
