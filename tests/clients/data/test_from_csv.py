"""A scenario out of a folder of CSVs: what is derived, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hansa.clients.data.derive import derive_features
from hansa.clients.data.encode import encode
from hansa.clients.data.from_csv import derive_scenario, member_names
from hansa.clients.data.sources import read_source
from hansa.contract.errors import DataError, InputError
from hansa.contract.features import (
    BinaryLabel,
    CategoricalColumn,
    MulticlassLabel,
    NumericColumn,
    RegressionLabel,
)
from hansa.contract.scenario import read_scenario


def organisation(seed: int, rows: int = 120) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    age = rng.normal(50, 10, rows).round(1)
    return pl.DataFrame(
        {
            "y": rng.integers(0, 2, rows),
            "row": np.arange(rows),
            "age": age,
            "sex": rng.choice(["f", "m"], rows),
            "stage": rng.integers(1, 5, rows),
            "spent": np.exp(rng.normal(3, 2.5, rows)).round(2),
            "lab": np.where(rng.random(rows) < 0.5, np.nan, age),
            "ward": rng.choice(["a", "b"], rows) if seed else rng.choice(["a", "c"], rows),
            "note": [f"free text {seed} {row}" for row in range(rows)],
            "country": ["de"] * rows,
        }
    ).with_columns(pl.col("lab").fill_nan(None))


def tables(count: int = 3) -> dict[str, pl.DataFrame]:
    return {f"o{seed}": organisation(seed).with_columns(pl.all().cast(pl.String)) for seed in range(count)}


def write(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for seed in range(count):
        organisation(seed).write_csv(folder / f"Klinik Süd {seed}.csv")
    return folder


def test_kinds_ranges_and_categories_are_derived() -> None:
    features, notes = derive_features(tables(), "y")
    columns = {column.name: column for column in features.columns}
    assert set(columns) == {"age", "sex", "stage", "spent", "lab", "ward"}
    assert all(column.derived for column in columns.values())
    age, spent, lab = columns["age"], columns["spent"], columns["lab"]
    assert isinstance(age, NumericColumn)
    assert 15 < age.low < 35
    assert 65 < age.high < 85
    assert not age.indicator
    assert isinstance(spent, NumericColumn)
    assert spent.log
    assert isinstance(lab, NumericColumn)
    assert lab.indicator
    assert isinstance(columns["stage"], CategoricalColumn)
    assert isinstance(columns["ward"], CategoricalColumn)
    assert set(columns["ward"].categories) == {"a", "b", "c"}
    assert [sentence.split("'")[1] for sentence in notes] == ["row", "note", "country"]


def test_every_table_keeps_the_contract_that_was_derived_from_it() -> None:
    found = tables()
    features, _ = derive_features(found, "y")
    for name, table in found.items():
        records = encode(table, features, name)
        assert len(records) == table.height
        assert np.isfinite(records.X).all()
        assert np.abs(records.X).max() <= 4


def test_a_column_that_one_organisation_lacks_is_optional() -> None:
    found = tables()
    found["o1"] = found["o1"].drop("age")
    features, _ = derive_features(found, "y")
    age = next(column for column in features.columns if column.name == "age")
    assert age.optional
    assert age.indicator
    assert len(encode(found["o1"], features, "o1")) == 120


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["yes", "no", "no"], BinaryLabel(positive="yes", negative="no", prevalence=0.3)),
        (["1", "2", "2"], BinaryLabel(positive="1", negative="2", prevalence=0.3)),
        (["a", "b", "c"], MulticlassLabel(classes=("a", "b", "c"))),
        (["0", "1", "2"], MulticlassLabel(classes=("0", "1", "2"))),
        ([str(value / 7) for value in range(30)], RegressionLabel(low=0.0, high=4.2)),
    ],
)
def test_the_kind_of_the_label_is_derived(values: list[str], kind: object) -> None:
    rows = len(values)
    table = pl.DataFrame({"y": values, "n": [str(value * 1.5) for value in range(rows)]})
    table = pl.concat([table] * 4)
    assert derive_features({"o": table}, "y")[0].label == kind


def test_a_label_with_nothing_to_learn_is_refused() -> None:
    rows = {"n": ["1.5", "2.5", "9"]}
    with pytest.raises(DataError, match="always '1'"):
        derive_features({"o": pl.DataFrame({"y": ["1"] * 3, **rows})}, "y")
    with pytest.raises(DataError, match="o: the label column 'z' is missing; the table has y, n"):
        derive_features({"o": pl.DataFrame({"y": ["1"] * 3, **rows})}, "z")
    with pytest.raises(DataError, match="no column beside the label"):
        derive_features({"o": pl.DataFrame({"y": ["1", "0"], "n": ["1", "1"]})}, "y")


def test_the_written_scenario_reads_back_and_finds_its_files(tmp_path: Path) -> None:
    source = write(tmp_path / "csv")
    derived = derive_scenario(source, label="y", out=tmp_path / "out")
    scenario, features = read_scenario(tmp_path / "out")
    assert (scenario, features) == (derived.scenario, derived.features)
    assert [member.name for member in scenario.members] == ["klinik-sud-0", "klinik-sud-1", "klinik-sud-2"]
    assert all(member.records == 100 for member in scenario.members)
    for member in scenario.members:
        assert read_source(member.data, tmp_path / "elsewhere").height == 120
    assert scenario.protection.minimum_cohort is None
    assert any("derived" in sentence for sentence in derived.warnings)
    assert "derived" in (tmp_path / "out" / "README.md").read_text()


def test_two_organisations_work_with_a_warning(tmp_path: Path) -> None:
    derived = derive_scenario(write(tmp_path / "csv", 2), label="y", out=tmp_path / "out")
    assert derived.scenario.protection.minimum_cohort == 2
    assert any("nothing is hidden from the other one" in sentence for sentence in derived.warnings)


def test_nothing_is_written_when_something_is_wrong(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="no such folder"):
        derive_scenario(tmp_path / "none", label="y", out=out)
    with pytest.raises(InputError, match="1 CSV files found"):
        derive_scenario(write(tmp_path / "one", 1), label="y", out=out)
    source = write(tmp_path / "csv")
    with pytest.raises(DataError, match=r"Klinik Süd 0\.csv: the label column 'sick' is missing"):
        derive_scenario(source, label="sick", out=out)
    (source / "broken.csv").write_text("")
    with pytest.raises(DataError, match=r"broken\.csv: the file is empty"):
        derive_scenario(source, label="y", out=out)
    assert not out.exists()
    (source / "broken.csv").unlink()
    derive_scenario(source, label="y", out=out)
    with pytest.raises(InputError, match="exists already"):
        derive_scenario(source, label="y", out=out)


def test_member_names_are_slugs_and_distinct() -> None:
    paths = [Path(name) for name in ("Süd.csv", "sud.csv", "SUD!.csv", "___.csv", "a" * 100 + ".csv")]
    names = member_names(paths)
    assert names[:4] == ["sud", "sud-2", "sud-3", "member"]
    assert len(names[4]) == 63


def test_truth_values_codes_and_numbers_with_gaps_are_told_apart() -> None:
    table = pl.DataFrame(
        {
            "y": ["1", "0"] * 30,
            "flag": ["True", "False", None] * 20,
            "code": ["1.0", "2.0", None, "7.0"] * 15,
            "share": ["0.5", "0.25", "1.0"] * 20,
            "day": [f"2024-01-{1 + row % 28:02d}T{row:02d}" for row in range(60)],
        }
    )
    features, notes = derive_features({"o": table}, "y")
    kinds = {column.name: column for column in features.columns}
    assert kinds["flag"].encoded == ("flag=True", "flag=missing")
    assert kinds["code"].encoded == ("code=2", "code=7", "code=missing")
    assert kinds["share"].kind == "numeric"
    assert "day" in notes[0]
    assert len(encode(table, features, "o")) == 60
