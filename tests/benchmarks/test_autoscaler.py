"""The autoscaler's benchmark: per trace and policy cost, violations, actions, and each aim with what was measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hansa.sidecar.scaling.made import business_days

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "autoscaler.py"


@pytest.fixture
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("autoscaler_benchmark", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look themselves up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in (1, 2):
        demand = business_days(4, seed).demand
        rows = [f"{1_767_225_600 + 60 * minute},{demand[minute]}" for minute in range(0, len(demand), 30)]
        (tmp_path / f"shop{seed}.csv").write_text("timestamp,value\n" + "\n".join(rows) + "\n")
    return tmp_path


def test_every_policy_serves_every_trace(
    program: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["autoscaler.py", str(folder), "--json", "--plots", str(folder / "plots")]
    )
    program.main()
    found = json.loads(capsys.readouterr().out)
    assert set(found["traces"]) == {"shop1.csv", "shop2.csv"}
    for policies in found["traces"].values():
        wanted = {
            "ours",
            "hpa70",
            "hpa_hindsight",
            "clairvoyant",
            "static_peak",
            "static_early_peak",
            "static_mean",
        }
        assert set(policies) == wanted
        assert all(set(it) == {"cost", "violations", "actions"} for it in policies.values())
        assert policies["static_peak"]["violations"] == policies["clairvoyant"]["violations"] == 0.0
        assert policies["static_peak"]["actions"] == 0
        assert policies["clairvoyant"]["cost"] < policies["hpa70"]["cost"] < policies["static_peak"]["cost"]
        assert policies["hpa_hindsight"]["violations"] <= 0.01
    for facts in found["facts"].values():
        assert facts["minutes"] == 4 * 1440 - 30 + 1 - -(-15 * (4 * 1440 - 29) // 100)
        assert facts["step_us"] > 0
        assert facts["daily"] > 0.5
    assert {it.name for it in (folder / "plots").iterdir()} == {"shop1-frontier.svg", "shop2-frontier.svg"}


def test_an_aim_says_whether_it_is_met(program: ModuleType) -> None:
    assert program.Aim("cost", 1.1, 1.12).met is True
    assert program.Aim("cost", 1.13, 1.12).met is False
    assert program.Aim("saved", 0.4, 0.5, least=True, unit="%").line.startswith("NOT MET")
    assert "40.00 % (aim >= 50.00 %)" in program.Aim("saved", 0.4, 0.5, least=True, unit="%").line
    assert program.Aim("cost", None, 1.12).line.startswith("not measured")


def test_a_file_that_is_no_trace_ends_in_one_line(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.csv").write_text("nothing\n")
    monkeypatch.setattr(sys, "argv", ["autoscaler.py", str(tmp_path / "bad.csv")])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert "no column" in str(ended.value)
