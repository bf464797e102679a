"""The benchmark scores as NAB does, by hand; on the recorded series, where they are, the watch holds its numbers."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARK = ROOT / "benchmarks" / "anomaly.py"
TRACES = ROOT.parent / "shared" / "traces"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("anomaly_benchmark", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


NAB = loaded()


def item(scores: dict[int, float], windows: list[tuple[int, int]], readings: int = 100) -> object:
    series = NAB.Series("made up", [0.0] * readings, windows)
    return NAB.scored(series, [scores.get(row, 0.0) for row in range(readings)])


def test_the_sigmoid_has_the_values_that_nab_writes_down() -> None:
    assert NAB.sigmoid(-1.0) == pytest.approx(0.98661, abs=5e-6)
    assert NAB.sigmoid(-0.5) == pytest.approx(0.84828, abs=5e-6)
    assert NAB.sigmoid(0.0) == 0.0
    assert NAB.sigmoid(1.0) == pytest.approx(-0.98661, abs=5e-6)
    assert NAB.sigmoid(3.01) == -1.0


def test_the_first_alarm_of_a_window_counts_and_the_earliest_is_worth_one() -> None:
    windows = [(50, 59)]
    assert NAB.raw(item({}, windows), 1.0) == -1.0
    assert NAB.raw(item({50: 1.0}, windows), 1.0) == pytest.approx(1.0)
    assert NAB.raw(item({50: 1.0, 51: 1.0, 59: 1.0}, windows), 1.0) == pytest.approx(1.0)
    # Position -(59 - 55 + 1) / 10 = -0.5.
    assert NAB.raw(item({55: 1.0}, windows), 1.0) == pytest.approx(0.84828 / 0.98661, abs=1e-5)
    # The last reading: position -0.1.
    last = (2 / (1 + math.exp(-0.5)) - 1) / NAB.sigmoid(-1.0)
    assert NAB.raw(item({59: 1.0}, windows), 1.0) == pytest.approx(last)


def test_an_alarm_outside_costs_less_soon_after_a_window() -> None:
    windows = [(50, 59)]
    assert NAB.raw(item({30: 1.0}, windows), 1.0) == pytest.approx(-1.0 - 0.11)
    # One reading after the window: position 1 / 9 past it.
    soon = 0.11 * (2 / (1 + math.exp(5 / 9)) - 1)
    assert NAB.raw(item({60: 1.0}, windows), 1.0) == pytest.approx(-1.0 + soon)
    assert NAB.raw(item({95: 1.0}, windows), 1.0) == pytest.approx(-1.0 - 0.11)


def test_the_first_readings_do_not_count() -> None:
    assert [NAB.probation(readings) for readings in (100, 4032, 5000, 22695)] == [15, 604, 750, 750]
    assert NAB.raw(item({14: 1.0}, []), 1.0) == 0.0
    assert NAB.raw(item({15: 1.0}, []), 1.0) == pytest.approx(-0.11)


def test_scores_are_normalised_between_silence_and_perfection() -> None:
    assert NAB.normalised(-3.0, 3) == 0.0
    assert NAB.normalised(3.0, 3) == 100.0
    assert NAB.normalised(-0.11, 1) == pytest.approx(44.5)
    assert NAB.normalised(0.0, 0) is None


def test_one_threshold_is_chosen_for_all_series() -> None:
    first = item({50: 5.0, 30: 3.0}, [(50, 59)])
    second = item({50: 2.0, 20: 4.0}, [(50, 59)])
    # At 5: 1 - 1 = 0; at 2: 2 - 0.22; at 3 the false alarm costs and finds nothing.
    assert NAB.best_threshold([first, second]) == 2.0
    assert NAB.best_threshold([first]) == 5.0
    noisy = item(dict.fromkeys(range(20, 45), 3.0) | {50: 2.0}, [(50, 59)])
    assert NAB.best_threshold([noisy]) == math.inf
    assert NAB.raw(noisy, math.inf) == -1.0


def test_a_folder_laid_out_as_nab_does_is_scored(tmp_path: Path) -> None:
    (tmp_path / "data" / "kind").mkdir(parents=True)
    (tmp_path / "labels").mkdir()
    values = [10.0 + row % 7 for row in range(1000)]
    values[700] = 90.0
    stamp = "2014-04-{day:02d} {hour:02d}:{minute:02d}:00"
    stamps = [
        stamp.format(day=1 + row // 288, hour=row // 12 % 24, minute=5 * (row % 12)) for row in range(1000)
    ]
    rows = "".join(f"{when},{value}\n" for when, value in zip(stamps, values, strict=True))
    for name in ("one", "quiet"):
        (tmp_path / "data" / "kind" / f"{name}.csv").write_text("timestamp,value\n" + rows)
    labels = {
        "kind/one.csv": [[f"{stamps[690]}.000000", f"{stamps[740]}.000000"]],
        "kind/quiet.csv": [],
        "kind/absent.csv": [],
    }
    (tmp_path / "labels" / "combined_windows.json").write_text(json.dumps(labels))
    command = [sys.executable, str(BENCHMARK), str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "kind/absent.csv" in done.stderr
    found = json.loads(done.stdout)
    assert set(found["series"]) == {"kind/one.csv", "kind/quiet.csv"}
    # Found ten readings into a window of 51; the quiet series is the same, where it is a false alarm.
    worth = NAB.sigmoid(-41 / 51) / NAB.sigmoid(-1.0)
    assert found["series"]["kind/one.csv"]["score"] == pytest.approx(50 * (worth + 1))
    assert found["series"]["kind/quiet.csv"]["score"] is None
    assert found["score"] == pytest.approx(50 * (worth - 0.11 + 1))
    assert {"us_per_point", "bytes_per_series"} <= set(found) & set(found["series"]["kind/one.csv"])


@pytest.mark.slow
@pytest.mark.skipif(not TRACES.is_dir(), reason="the recorded series are not there")
def test_the_recorded_series_are_watched_as_well_as_the_page_says() -> None:
    found = NAB.measure_series(TRACES)
    assert found["score"] >= 80
    assert found["score_at_default"] >= 80
    # A busy machine is allowed for.
    assert found["us_per_point"] <= 150
    assert found["bytes_per_series"] <= 200_000


@pytest.mark.long
def test_round_metrics_are_watched_as_well_as_the_page_says() -> None:
    found = NAB.measure_rounds(curves=60, seed=3)
    # Of 12,000 rounds and 60 curves each: what chance does not hide.
    assert found["false_alarms_per_1000"] <= 1.5
    assert found["steps_seen"] >= 0.85
    assert found["spikes_seen"] >= 0.9
