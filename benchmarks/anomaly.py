"""What the anomaly watch sees: service metrics on labelled recordings, round metrics on made-up curves.

    python benchmarks/anomaly.py FOLDER [--json]
    python benchmarks/anomaly.py --rounds [--curves 300] [--seed 0] [--json]

FOLDER is laid out as the Numenta Anomaly Benchmark (NAB) is: series in data/**.csv with the columns timestamp and
value, windows in labels/combined_windows.json; or series and anomaly_windows.json side by side. Each series is read
once, in order, with one set of parameters.

score
    NAB's (Lavin and Ahmad 2015, 1510.03336), standard profile: the first alarm in a window earns up to 1, the earlier
    the more; a missed window costs 1, an alarm outside a window 0.11 (less just after one); the first 15 % of a
    series, at most 750 readings, do not count. Normalised: 0 is a detector that never alarms, 100 a perfect one. NAB
    chooses one threshold for the whole corpus, the one with the best score, and so does this program.
score_at_default
    The same at the threshold that the watch has by default.
us_per_point, bytes_per_series
    Processor time a reading takes, and the most memory a series has held at its end.

Rounds: loss and AUC that rise or fall exponentially and level off, 200 rounds each, with time constants of 3 to 120
rounds and noise of 0.1 to 2 points, the standard error unknown, known, or known and changing from round to round.
Undisturbed curves give the false alarms in 1,000 rounds, curves with one step of three standard deviations or one
spike of seven, from round 40 on, the shares that are seen: a step within ten rounds, a spike at once.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from hansa.sidecar.anomaly import OpsMetric, OpsRule, Reading, RoundMetric

FALSE_ALARM = 0.11
ROUNDS = 200
FIRST = 40


@dataclass(frozen=True)
class Series:
    """One recorded series; windows are first and last row numbers."""

    name: str
    values: list[float]
    windows: list[tuple[int, int]]


@dataclass(frozen=True)
class Scored:
    """Per reading: the detector's score, what an alarm there is worth, and its window (None outside)."""

    series: Series
    scores: Sequence[float]
    worths: list[float]
    places: list[int | None]
    probation: int


def sigmoid(position: float) -> float:
    """NAB's scaled sigmoid: -1 is the left edge of a window, 0 the right one, above it is outside."""
    return -1.0 if position > 3.0 else 2.0 / (1.0 + math.exp(5.0 * position)) - 1.0


def probation(readings: int) -> int:
    """Readings at the beginning that do not count."""
    return int(min(math.floor(0.15 * readings), 0.15 * 5000))


def worths(readings: int, windows: list[tuple[int, int]]) -> tuple[list[float], list[int | None]]:
    """What an alarm at each reading is worth, and the window it lies in."""
    worth, places = [-FALSE_ALARM] * readings, [None] * readings  # type: list[float], list[int | None]
    for number, (first, last) in enumerate(windows):
        width = last - first + 1
        for row in range(first, last + 1):
            worth[row] = sigmoid(-(last - row + 1) / width) / sigmoid(-1.0)
            places[row] = number
        following = windows[number + 1][0] if number + 1 < len(windows) else readings
        for row in range(last + 1, following):
            # A window of one reading has no width to measure by: two of them count as past.
            past = (row - last) / (width - 1) if width > 1 else 2.0
            worth[row] = FALSE_ALARM * sigmoid(past)
    return worth, places


def scored(series: Series, scores: Sequence[float]) -> Scored:
    """A series beside what a detector says."""
    worth, places = worths(len(series.values), series.windows)
    return Scored(series, scores, worth, places, probation(len(series.values)))


def raw(item: Scored, threshold: float) -> float:
    """NAB's score of one series before it is normalised: from minus the number of its windows up to that."""
    best: dict[int, float] = {}
    total = 0.0
    for row in range(item.probation, len(item.scores)):
        if item.scores[row] < threshold:
            continue
        place = item.places[row]
        if place is None:
            total += item.worths[row]
        else:
            best[place] = max(best.get(place, -1.0), item.worths[row])
    return total + sum(best.values()) - (len(item.series.windows) - len(best))


def normalised(total: float, windows: int) -> float | None:
    """0 for a detector that never alarms, 100 for a perfect one; None without windows."""
    return 100.0 * (total + windows) / (2.0 * windows) if windows else None


def best_threshold(items: Iterable[Scored]) -> float:
    """The threshold with the best score over all series; infinite where never to alarm is best."""
    items = list(items)
    rows = sorted(
        (
            (item.scores[row], number, item.places[row], item.worths[row])
            for number, item in enumerate(items)
            for row in range(item.probation, len(item.scores))
            if item.scores[row] > 0
        ),
        key=lambda row: -row[0],
    )
    found: dict[tuple[int, int], float] = {}
    total = top = 0.0
    threshold = math.inf
    for place, (score, number, window, worth) in enumerate(rows):
        if window is None:
            total += worth
        else:
            before = found.get((number, window), -1.0)
            total += max(worth - before, 0.0)
            found[number, window] = max(worth, before)
        last = place + 1 == len(rows) or rows[place + 1][0] != score
        if last and total > top:
            top, threshold = total, score
    return threshold


def load(folder: Path) -> list[Series]:
    """Every labelled series below a folder."""
    labels, data = folder / "labels" / "combined_windows.json", folder / "data"
    if not labels.exists():
        labels, data = folder / "anomaly_windows.json", folder
    if not labels.exists():
        raise SystemExit(f"{folder} has neither labels/combined_windows.json nor anomaly_windows.json")
    found = []
    for name, windows in sorted(json.loads(labels.read_text()).items()):
        path = data / name
        if not path.exists():
            print(f"{name} is labelled but not there", file=sys.stderr)
            continue
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
        limits = [
            (
                bisect_left(times, datetime.fromisoformat(first)),
                bisect_right(times, datetime.fromisoformat(last)) - 1,
            )
            for first, last in windows
        ]
        found.append(Series(name, [_number(row["value"]) for row in rows], sorted(limits)))
    return found


def watch_series(series: Series) -> tuple[list[float], float, int]:
    """Scores of one series, microseconds a reading took, and bytes held at the end."""
    metric = OpsMetric(series.name)
    began = time.process_time()
    scores = [metric.score(Reading(series.name, row, value)) for row, value in enumerate(series.values)]
    took = time.process_time() - began
    return scores, 1e6 * took / max(len(scores), 1), held(metric)


def held(thing: Any) -> int:
    """Bytes of an object and of all it holds."""
    size = sys.getsizeof(thing)
    if isinstance(thing, dict):
        return size + sum(held(key) + held(value) for key, value in thing.items())
    if isinstance(thing, list | tuple):
        return size + sum(held(part) for part in thing)
    size += held(thing.__dict__) if hasattr(thing, "__dict__") else 0
    return size + sum(held(getattr(thing, name)) for name in getattr(type(thing), "__slots__", ()))


def measure_series(folder: Path) -> dict[str, Any]:
    """Scores, time and memory of every series below a folder, and of all."""
    items, speeds, sizes = [], [], []
    for series in load(folder):
        scores, microseconds, size = watch_series(series)
        items.append(scored(series, scores))
        speeds.append(microseconds)
        sizes.append(size)
    threshold, default = best_threshold(items), OpsRule().threshold
    windows = sum(len(item.series.windows) for item in items)
    result: dict[str, Any] = {
        "score": normalised(sum(raw(item, threshold) for item in items), windows),
        "threshold": threshold,
        "score_at_default": normalised(sum(raw(item, default) for item in items), windows),
        "default_threshold": default,
        "us_per_point": sum(
            speed * len(item.scores) for speed, item in zip(speeds, items, strict=True)
        ) / max(1, sum(len(item.scores) for item in items)),
        "bytes_per_series": max(sizes, default=0),
        "series": {},
    }  # fmt: skip
    for item, speed, size in zip(items, speeds, sizes, strict=True):
        count = len(item.series.windows)
        result["series"][item.series.name] = {
            "score": normalised(raw(item, threshold), count),
            "score_at_default": normalised(raw(item, default), count),
            "raw": raw(item, threshold),
            "windows": count,
            "us_per_point": speed,
            "bytes_per_series": size,
        }
    return result


@dataclass(frozen=True)
class Curve:
    """One metric of a run without its noise, the noise of each round, and how its error is told."""

    metric: str
    clean: np.ndarray[Any, np.dtype[np.float64]]
    sigmas: np.ndarray[Any, np.dtype[np.float64]]
    told: bool

    def alarms(self, values: np.ndarray[Any, np.dtype[np.float64]]) -> list[int]:
        """Rounds in which the watch alarms."""
        metric = RoundMetric(self.metric)
        found = []
        for number, (value, sigma) in enumerate(zip(values.tolist(), self.sigmas.tolist(), strict=True)):
            if metric.see(Reading(self.metric, number, value, sigma if self.told else None)):
                found.append(number)
        return found


def curve(rng: np.random.Generator) -> Curve:
    """A loss or an AUC that moves exponentially and levels off."""
    rounds = np.arange(ROUNDS)
    approach = np.exp(-rounds / rng.choice([3, 8, 20, 50, 120]))
    metric = str(rng.choice(["loss", "auc"]))
    clean = (
        0.2 + rng.uniform(0.1, 0.6) * approach if metric == "loss" else 0.9 - rng.uniform(0.1, 0.4) * approach
    )
    sigmas = np.full(ROUNDS, rng.choice([0.001, 0.005, 0.02]))
    kind = rng.integers(3)
    if kind == 2:
        sigmas = sigmas * np.exp(0.5 * rng.normal(size=ROUNDS))
    return Curve(metric, clean, sigmas, told=bool(kind > 0))


def measure_rounds(curves: int, seed: int) -> dict[str, Any]:
    """False alarms in 1,000 rounds, and shares of steps and spikes that are seen."""
    rng = np.random.default_rng(seed)
    false, steps, spikes, times = 0, [], [], 0.0
    size = 0
    for _ in range(curves):
        run = curve(rng)
        noise = run.sigmas * rng.normal(size=ROUNDS)
        began = time.process_time()
        false += len(run.alarms(run.clean + noise))
        times += time.process_time() - began
        at, sign = int(rng.integers(FIRST, ROUNDS - 10)), rng.choice([-1.0, 1.0])
        usual = float(np.median(run.sigmas))
        noise = run.sigmas * rng.normal(size=ROUNDS)
        moved = run.clean + noise + 3.0 * sign * usual * (np.arange(ROUNDS) >= at)
        steps.append(any(at <= number < at + 10 for number in run.alarms(moved)))
        noise = run.sigmas * rng.normal(size=ROUNDS)
        noise[at] += 7.0 * sign * run.sigmas[at]
        spikes.append(at in run.alarms(run.clean + noise))
    metric = RoundMetric("loss")
    for number in range(ROUNDS):
        metric.see(Reading("loss", number, float(rng.normal()), 1.0))
    size = held(metric)
    return {
        "false_alarms_per_1000": 1000.0 * false / (curves * ROUNDS),
        "steps_seen": sum(steps) / curves,
        "spikes_seen": sum(spikes) / curves,
        "rounds": curves * ROUNDS,
        "us_per_point": 1e6 * times / (curves * ROUNDS),
        "bytes_per_series": size,
    }


def main() -> None:
    """Measure, print figures, and the JSON where it is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="series with labelled windows")
    parser.add_argument("--rounds", action="store_true", help="measure round metrics; so without a folder")
    parser.add_argument(
        "--curves", type=int, default=300, help="undisturbed, with a step, with a spike: each"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result: dict[str, Any] = measure_series(options.folder) if options.folder else {}
    if options.rounds or not options.folder:
        found = measure_rounds(options.curves, options.seed)
        result = result | {"rounds": found} if options.folder else found
    if options.json:
        print(json.dumps(_jsonable(result)))
        return
    if options.folder:
        for name, row in result["series"].items():
            print(
                f"{name}: score {_figure(row['score'])} of {row['windows']} windows, {row['us_per_point']:.0f} us a "
                f"reading, {row['bytes_per_series'] / 1000:.0f} KB"
            )
        print(
            f"all: score {_figure(result['score'])} at threshold {result['threshold']:.2f}, the best for this folder, "
            f"as NAB chooses it; {_figure(result['score_at_default'])} at ours, {result['default_threshold']:g}; "
            f"{result['us_per_point']:.0f} us a reading, at most {result['bytes_per_series'] / 1000:.0f} KB a series"
        )
    if options.rounds or not options.folder:
        print(
            f"rounds: {found['false_alarms_per_1000']:.2f} false alarms in 1,000 of {found['rounds']} rounds; "
            f"steps of 3 sigma seen within 10 rounds: {100 * found['steps_seen']:.1f} %, "
            f"spikes of 7 sigma seen at once: {100 * found['spikes_seen']:.1f} %; "
            f"{found['us_per_point']:.0f} us a reading, {found['bytes_per_series'] / 1000:.0f} KB"
        )


def _figure(score: float | None) -> str:
    return "-" if score is None else f"{score:.1f}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _jsonable(thing: Any) -> Any:
    """Without what JSON does not have."""
    if isinstance(thing, dict):
        return {key: _jsonable(value) for key, value in thing.items()}
    return None if isinstance(thing, float) and not math.isfinite(thing) else thing


if __name__ == "__main__":
    main()
