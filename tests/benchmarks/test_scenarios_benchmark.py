"""The benchmark of scenarios: every way to train has a figure of each kind of label, and the table shows them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hansa.contract.library import scenario_names

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "scenarios.py"


@pytest.fixture
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scenarios_benchmark", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_scenarios_figures_are_printed(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["scenarios.py", "diagnosis", "--splits", "1", "--rounds", "5", "--json"]
    )
    program.main()
    *table, last = capsys.readouterr().out.splitlines()
    (found,) = json.loads(last)["scenarios"]
    assert found["figure"] == "auc"
    assert all(0.6 < found[way] < 1.0 for way in ("own", "federated", "personalised", "pooled"))
    assert found["ratio"] == pytest.approx((found["federated"] - 0.5) / (found["pooled"] - 0.5))
    assert table[-1].startswith(f"| diagnosis | 5 | 7,100 | auc | {found['own']:.3f} |")


def test_figures_of_classes_and_numbers_are_what_they_say(program: ModuleType) -> None:
    scores = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    assert program._among_three(scores, np.array([2.0, 0.0])) == 0.5
    y = np.array([1.0, 2.0, 3.0, 6.0])
    assert program._explained(y, y) == 1.0
    assert program._explained(np.full(4, y.mean()), y) == pytest.approx(0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_can_be_simulated(program: ModuleType, name: str) -> None:
    for found in program.reached(name, splits=1, rounds=4):
        assert found.federated > {"auc": 0.55, "explained": 0.0}.get(found.figure, 0.2), found
        assert found.federated <= found.pooled + 0.05
