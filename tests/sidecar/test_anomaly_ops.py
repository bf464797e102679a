"""Service metrics: what was never seen nearby alarms, once; memory is bounded; a restored watch goes on the same."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.sidecar.anomaly import OpsMetric, Reading
from hansa.sidecar.anomaly.novelty import CELLS, Seen

VALUES = st.lists(st.floats(-1e6, 1e6) | st.integers(0, 20).map(float), min_size=1, max_size=400)


def readings(values: list[float], start: int = 0) -> list[Reading]:
    return [Reading("cpu", start + number, value) for number, value in enumerate(values)]


def daily(days: int, seed: int = 0) -> list[float]:
    """Business hours and nights, 48 readings a day."""
    rng = np.random.default_rng(seed)
    hours = np.arange(48 * days) % 48
    return (np.where((hours > 17) & (hours < 36), 60.0, 20.0) + rng.normal(size=48 * days)).tolist()


def test_a_jump_out_of_all_that_was_seen_alarms_at_once_and_says_so() -> None:
    metric = OpsMetric("cpu")
    assert not [alarm for reading in readings(daily(20)) if (alarm := metric.see(reading)) is not None][3:]
    alarm = metric.see(Reading("cpu", 5000, 300.0, members=("bank",)))
    assert alarm is not None
    assert (alarm.kind, alarm.direction, alarm.severity, alarm.members) == (
        "novelty", "up", "critical", ("bank",)
    )  # fmt: skip
    assert "300" in alarm.sentence
    assert alarm.evidence["score"] > alarm.evidence["threshold"]
    json.dumps(alarm.as_json(), allow_nan=False)


def test_after_an_alarm_only_what_is_clearly_worse_alarms_until_the_rest_is_over() -> None:
    metric = OpsMetric("cpu")
    for reading in readings(daily(20)):
        metric.see(reading)
    assert metric.see(Reading("cpu", 5000, 99.0)) is not None
    assert [metric.see(reading) for reading in readings([20.5, 98.0, 99.2], 5001)] == [None] * 3
    assert metric.see(Reading("cpu", 5010, 400.0)) is not None


def test_a_day_without_its_busy_hours_is_seen() -> None:
    metric = OpsMetric("requests")
    for reading in readings(daily(20)):
        metric.see(reading)
    middle = (40.0 + 0.5 * np.random.default_rng(1).normal(size=48)).tolist()
    assert any(metric.see(reading) is not None for reading in readings(middle, 5000))


@pytest.mark.parametrize("value", [0.0, 1.0, -1e300, 5e-324])
def test_a_constant_series_never_alarms(value: float) -> None:
    metric = OpsMetric("memory")
    assert all(metric.see(reading) is None for reading in readings([value] * 600))


@given(VALUES, st.data())
@settings(max_examples=60)
def test_a_watch_cut_at_any_point_goes_on_with_the_same_scores(
    values: list[float], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(values)))
    whole, first = OpsMetric("cpu"), OpsMetric("cpu")
    expected = [whole.score(reading) for reading in readings(values)]
    found = [first.score(reading) for reading in readings(values[:cut])]
    second = OpsMetric.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    found += [second.score(reading) for reading in readings(values[cut:], cut)]
    assert found == expected


@given(
    st.lists(st.integers(-1000, 1000), min_size=200, max_size=400),
    st.integers(-4096, 4096),
    st.integers(-6, 6),
)
@settings(max_examples=30)
def test_neither_unit_nor_origin_matter(values: list[int], origin: int, power: int) -> None:
    here, there = OpsMetric("bytes"), OpsMetric("bytes")
    scores = [here.score(reading) for reading in readings([float(value) for value in values])]
    moved = [
        there.score(reading) for reading in readings([2.0**power * (value + origin) for value in values])
    ]
    assert moved == scores


@given(VALUES, st.lists(st.sampled_from([None, math.nan, math.inf, -math.inf]), min_size=1, max_size=5))
@settings(max_examples=30)
def test_what_is_missing_or_not_a_number_changes_nothing(
    values: list[float], odd: list[float | None]
) -> None:
    plain, disturbed = OpsMetric("cpu"), OpsMetric("cpu")
    for reading in readings(values):
        for value in odd:
            assert disturbed.see(Reading("cpu", reading.at - 0.5, value)) is None
        assert disturbed.score(reading) == plain.score(reading)


def test_late_and_repeated_readings_are_passed_over() -> None:
    plain, disturbed = OpsMetric("cpu"), OpsMetric("cpu")
    for reading in readings(daily(10)):
        assert disturbed.score(reading) == plain.score(reading)
        assert disturbed.see(reading) is None
        assert disturbed.see(Reading("cpu", reading.at - 7, 1e9)) is None
    assert disturbed.state() == plain.state()


def test_memory_is_bounded_whatever_comes() -> None:
    metric = OpsMetric("bytes")
    rng = np.random.default_rng(2)
    most = 0
    for number, value in enumerate((rng.standard_cauchy(30_000) * 1e3).tolist()):
        metric.see(Reading("bytes", number, value))
        most = max(most, max(len(seen._values) for seen in metric._seen))
    assert most <= 2 * CELLS + 1
    assert len(metric._highest) <= metric.rule.rest + 1
    assert len(json.dumps(metric.state())) < 400_000


@given(st.lists(st.integers(-10000, 10000).map(float), min_size=1, max_size=200))
def test_the_distance_is_that_to_the_nearest_earlier_value(values: list[float]) -> None:
    seen = Seen()
    for number, value in enumerate(values):
        distance, nearest = seen.see(value)
        earlier = values[:number]
        span = max(values[: number + 1]) - min(values[: number + 1])
        # Left out are only values nearer to another than a cell.
        if earlier and span > 0:
            true = min(abs(value - other) for other in earlier) / span
            assert true - 1e-12 <= distance <= true + 1 / CELLS + 1e-12
            assert nearest in earlier
        else:
            assert distance == 0.0


def test_a_reading_without_a_time_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs its time"):
        OpsMetric("cpu").see(Reading("cpu", math.nan, 1.0))
