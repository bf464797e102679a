"""Synthetic organisations and the scenarios built from them."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa.clients.data.check import check_data
from hansa.clients.data.encode import encode
from hansa.clients.data.generators import GENERATORS, generate
from hansa.clients.data.sources import origin, read_source
from hansa.contract.errors import DataError, InputError
from hansa.contract.features import BinaryLabel, Label, MulticlassLabel
from hansa.contract.library import scenario_folder, scenario_names
from hansa.contract.scenario import read_scenario
from hansa.contract.sources import SyntheticSource
from hansa.models.fit import fit
from hansa.models.metrics import auc, log_loss, rmse
from hansa.models.registry import load_model


def source(generator: str, seed: int = 1, **options: float) -> SyntheticSource:
    return SyntheticSource(generator=generator, rows=3000, seed=seed, options=options)


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_seed_fixes_the_table_and_options_change_it(generator: str) -> None:
    first = generate(source(generator))
    assert first.height == 3000
    assert first.equals(generate(source(generator)))
    assert not first.equals(generate(source(generator, seed=2)))
    if "prevalence" in options_of(generator):
        often = generate(source(generator, prevalence=0.4))
        assert often[first.columns[0]].mean() == pytest.approx(0.4, abs=0.04)
    gaps = generate(source(generator, missing=0.3))
    assert _absent(gaps) > _absent(first) + 0.02


@pytest.mark.parametrize("generator", GENERATORS)
def test_every_option_changes_the_table(generator: str) -> None:
    first = generate(source(generator))
    for name, value in options_of(generator).items():
        assert not first.equals(generate(source(generator, **{name: value + 0.15}))), name


def options_of(generator: str) -> dict[str, float]:
    found: dict[str, float] = import_module(f"hansa.clients.data.generators.{generator}").OPTIONS
    return found


def _absent(table: object) -> float:
    cells = [value is None or value != value for row in table.iter_rows() for value in row]  # type: ignore[attr-defined]
    return float(np.mean(cells))


def test_unknown_generators_and_options_are_named() -> None:
    with pytest.raises(DataError, match="'casino' is not known; known are bank, basket"):
        generate(source("casino"))
    with pytest.raises(DataError, match="no option 'colour'; its options are prevalence"):
        generate(source("bank", colour=1.0))


def test_the_scenarios_come_with_the_package() -> None:
    assert scenario_names() == (
        *("banks", "consortium", "credit-risk", "diagnosis", "hospitals", "inventory-demand"),
        *("manufacturers", "next-purchase", "quality-control", "retailers", "supply-demand"),
    )
    assert (scenario_folder("banks") / "README.md").is_file()
    with pytest.raises(InputError, match="'bank' is not known; known are banks, consortium, credit-risk"):
        scenario_folder("bank")


@pytest.mark.parametrize("name", scenario_names())
def test_a_scenario_is_whole_and_can_be_learnt(name: str) -> None:
    folder = scenario_folder(name)
    scenario, features = read_scenario(folder)
    assert len(scenario.members) >= 4
    model = load_model(scenario.model, features)
    values = []
    for member in scenario.members:
        report = check_data(member.data, features, folder)
        assert report.errors == ()
        records = encode(read_source(member.data, folder), features, origin(member.data, folder))
        assert abs(len(records) - member.records) <= 0.34 * member.records
        records = records.take(np.arange(min(len(records), 3000)))
        weights = fit(model, model.initial(0), records.X, records.y, iterations=40)
        values.append(_learnt(model.predict(weights, records.X), records.y, features.label))
    # More than guessing, and less than what no real table gives; a class of seven is hard to tell.
    least = 0.1 if isinstance(features.label, MulticlassLabel) else 0.4
    assert least < np.mean(values) < 0.88
    assert scenario.industry in ("banking", "cross-sector", "health care", "manufacturing", "retail")
    assert {member.sector for member in scenario.members} <= {
        "banking",
        "health care",
        "manufacturing",
        "retail",
    }
    if name == "consortium":
        assert len(scenario.members) == 5
        assert min(member.records for member in scenario.members) >= 4000
        assert {member.sector for member in scenario.members} == {"banking", "health care", "retail"}


def _learnt(predicted: NDArray[np.float64], y: NDArray[np.float64], label: Label) -> float:
    """How much is learnt: of an AUC what is above chance, of classes the log-loss, of a number the variance."""
    if isinstance(label, BinaryLabel):
        return 2.0 * auc(predicted, y) - 1.0
    if isinstance(label, MulticlassLabel):
        shares = np.bincount(y.astype(np.intp), minlength=len(label.classes)) / len(y)
        return 1.0 - log_loss(predicted, y) / log_loss(np.tile(shares, (len(y), 1)), y)
    return 1.0 - (rmse(predicted, y) / float(y.std())) ** 2


def test_payment_fraud_is_as_rare_as_it_is() -> None:
    scenario, features = read_scenario(scenario_folder("banks"))
    tables = [
        generate(member.data) for member in scenario.members if isinstance(member.data, SyntheticSource)
    ]
    share = sum(table["fraud"].sum() for table in tables) / sum(table.height for table in tables)
    assert share == pytest.approx(0.012, abs=0.003)
    assert isinstance(features.label, BinaryLabel)
    assert features.label.prevalence == 0.01
