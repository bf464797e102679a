"""Made-up rows: valid under every contract there is, the same for a seed, and read off nobody's records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from hansa.cli.data import app
from hansa.clients.data.check import check_table
from hansa.clients.data.encode import encode
from hansa.clients.data.sources import read_csv, read_parquet
from hansa.clients.data.synthetic import synthetic_rows
from hansa.contract.errors import InputError
from hansa.contract.features import (
    BinaryLabel,
    CategoricalColumn,
    FeatureContract,
    MulticlassLabel,
    NumericColumn,
    RegressionLabel,
)
from hansa.contract.library import scenario_folder, scenario_names
from hansa.contract.scenario import read_scenario

COLUMNS = (
    NumericColumn(name="age", low=0, high=120),
    NumericColumn(name="rate", low=-1.5, high=1.5, missing=-1.5, log=True, indicator=True),
    CategoricalColumn(name="ward", categories=("a", "b", "c"), other="c", optional=True),
)
LABELS = (
    BinaryLabel(positive="yes", negative="no", prevalence=0.1),
    MulticlassLabel(classes=("x", "y", "z")),
    RegressionLabel(low=-3.0, high=8.5),
)


@pytest.mark.parametrize("label", LABELS, ids=lambda it: it.kind)
def test_rows_fit_a_contract_of_every_kind_of_label(label: BinaryLabel) -> None:
    features = FeatureContract(columns=COLUMNS, label=label, entity="patient")
    table = synthetic_rows(features, 400, seed=3)
    assert check_table(table, features, "rows").errors == ()
    records = encode(table, features, "rows")
    assert len(records) == 400
    assert records.entity_count < 400
    assert np.isfinite(records.X).all()
    assert table["rate"].null_count() > 0


@pytest.mark.parametrize("name", scenario_names())
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_scenarios_rows_are_taken_as_the_loaders_read_them(name: str, kind: str, tmp_path: Path) -> None:
    out = tmp_path / f"rows.{kind}"
    done = CliRunner().invoke(app, ["describe", name, "--synthetic", "300", "--out", str(out)])
    assert done.exit_code == 0, done.output
    features = read_scenario(scenario_folder(name))[1]
    table = read_csv(out) if kind == "csv" else read_parquet(out)
    report = check_table(table, features, str(out))
    assert (report.rows, report.errors) == (300, ())
    assert len(encode(table, features, str(out))) == 300


def test_the_same_seed_gives_the_same_rows_and_another_one_others() -> None:
    features = FeatureContract(columns=COLUMNS, label=LABELS[0])
    assert synthetic_rows(features, 50, seed=1).equals(synthetic_rows(features, 50, seed=1))
    assert not synthetic_rows(features, 50, seed=1).equals(synthetic_rows(features, 50, seed=2))


def test_labels_come_at_the_declared_prevalence_and_say_nothing_of_a_column() -> None:
    features = FeatureContract(columns=COLUMNS, label=LABELS[0])
    table = synthetic_rows(features, 20_000, seed=5)
    yes = (table["label" if "label" in table.columns else "y"] == "yes").cast(pl.Float64).to_numpy()
    assert yes.mean() == pytest.approx(0.1, abs=0.01)
    age = table["age"].fill_null(60.0).to_numpy()
    assert abs(np.corrcoef(age, yes)[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--synthetic", "5"], "belong together"),
        (["--synthetic", "5", "--out", "rows.txt"], "ends in .csv or .parquet"),
    ],
)
def test_options_that_do_not_fit_are_said(options: list[str], sentence: str) -> None:
    done = CliRunner().invoke(app, ["describe", "consortium", *options])
    assert isinstance(done.exception, InputError)
    assert sentence in str(done.exception)


def test_a_file_that_is_there_or_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("mine")
    for out, sentence in (("rows.csv", "is there already"), ("rows.csv/deeper.csv", "cannot be written")):
        done = CliRunner().invoke(
            app, ["describe", "consortium", "--synthetic", "5", "--out", str(tmp_path / out)]
        )
        assert sentence in str(done.exception)
    assert (tmp_path / "rows.csv").read_text() == "mine"
