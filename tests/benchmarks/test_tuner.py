"""The tuner's benchmark runs on a folder of CSVs and says what it promises."""

from __future__ import annotations

import csv
import importlib.util
import json
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "tuner.py"


@pytest.fixture
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tuner_benchmark", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look themselves up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = random.Random(7)
    for name in ("north", "south", "west"):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["a", "b", "y"])
            for _ in range(300):
                a, b = draw.gauss(0, 1), draw.gauss(0, 1)
                rows.writerow([a, b, int(a + b + draw.gauss(0, 1) > 0)])
    return tmp_path


@pytest.mark.slow
def test_one_table_is_measured_from_every_start(
    program: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["tuner.py", str(folder), "--model", "linear", "--seeds", "1", "--quick", "--json"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(program, "GRID", (0.25, 0.5, 1.0, 2.0, 4.0))
    program.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(found["tasks"]) == 2
    for task in found["tasks"].values():
        for kind in ("noised", "without"):
            assert set(task[kind]) == {"0.01", "0.1", "10", "100"}
            for cell in task[kind].values():
                wanted = {"ratio_auc", "ratio_loss", "default_ratio", "final_auc", "evaluations_ratio"}
                assert wanted <= set(cell)
                assert cell["final_auc"] > 0.7
                assert cell["evaluations_ratio"] <= 1.4
