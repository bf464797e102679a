"""Synthetic organisations and the scenarios built from them."""

from __future__ import annotations

import numpy as np
import pytest

from hansa.clients.data.check import check_data
from hansa.clients.data.encode import encode
from hansa.clients.data.generators import GENERATORS, generate
from hansa.clients.data.sources import origin, read_source
from hansa.contract.errors import DataError, InputError
from hansa.contract.library import scenario_folder, scenario_names
from hansa.contract.scenario import read_scenario
from hansa.contract.sources import SyntheticSource
from hansa.models.fit import fit
from hansa.models.metrics import auc
from hansa.models.registry import load_model


def source(generator: str, seed: int = 1, **options: float) -> SyntheticSource:
    return SyntheticSource(generator=generator, rows=3000, seed=seed, options=options)


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_seed_fixes_the_table_and_options_change_it(generator: str) -> None:
    first = generate(source(generator))
    assert first.height == 3000
    assert first.equals(generate(source(generator)))
    assert not first.equals(generate(source(generator, seed=2)))
    label = first.columns[0]
    often = generate(source(generator, prevalence=0.4))
    assert often[label].mean() == pytest.approx(0.4, abs=0.04)
    gaps = generate(source(generator, missing=0.3))
    assert _absent(gaps) > _absent(first) + 0.02


def _absent(table: object) -> float:
    cells = [value is None or value != value for row in table.iter_rows() for value in row]  # type: ignore[attr-defined]
    return float(np.mean(cells))


def test_unknown_generators_and_options_are_named() -> None:
    with pytest.raises(DataError, match="'casino' is not known; known are bank, claims"):
        generate(source("casino"))
    with pytest.raises(DataError, match="no option 'colour'; its options are prevalence"):
        generate(source("bank", colour=1.0))


def test_the_five_scenarios_come_with_the_package() -> None:
    assert scenario_names() == ("banks", "consortium", "hospitals", "manufacturers", "retailers")
    assert (scenario_folder("banks") / "README.md").is_file()
    with pytest.raises(InputError, match="'bank' is not known; known are banks, consortium"):
        scenario_folder("bank")


@pytest.mark.parametrize("name", scenario_names())
def test_a_scenario_is_whole_and_can_be_learnt(name: str) -> None:
    folder = scenario_folder(name)
    scenario, features = read_scenario(folder)
    assert len(scenario.members) >= 4
    model = load_model(scenario.model, features)
    aucs = []
    for member in scenario.members:
        report = check_data(member.data, features, folder)
        assert report.errors == ()
        records = encode(read_source(member.data, folder), features, origin(member.data, folder))
        assert abs(len(records) - member.records) <= 0.34 * member.records
        weights = fit(model, model.initial(0), records.X, records.y, iterations=40)
        aucs.append(auc(model.predict(weights, records.X), records.y))
    assert 0.7 < np.mean(aucs) < 0.92
    if name == "consortium":
        assert len(scenario.members) == 5
        assert min(member.records for member in scenario.members) >= 4000
        assert {member.sector for member in scenario.members} == {"banking", "health care", "retail"}
