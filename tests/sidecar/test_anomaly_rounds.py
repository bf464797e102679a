"""Round metrics: steps and spikes alarm, errors count, oddities are survived, a restored watch goes on the same."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.sidecar.anomaly import Alarm, Reading, RoundMetric, Watch, standing_out


def curve(rounds: int, seed: int = 0, noise: float = 0.005) -> list[float]:
    """A loss that falls and levels off."""
    rng = np.random.default_rng(seed)
    number = np.arange(rounds)
    return (0.3 + 0.4 * np.exp(-number / 15) + noise * rng.normal(size=rounds)).tolist()


def watched(values: Iterable[float | None], metric: str = "loss", error: float | None = None) -> list[Alarm]:
    made = RoundMetric(metric)
    seen = (made.see(Reading(metric, number, value, error)) for number, value in enumerate(values))
    return [alarm for alarm in seen if alarm is not None]


def test_a_curve_that_levels_off_does_not_alarm() -> None:
    assert watched(curve(120)) == []


@pytest.mark.parametrize("error", [None, 0.005])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_spike_alarms_at_once_and_a_step_within_ten_rounds(sign: int, error: float | None) -> None:
    values = curve(90, seed=2)
    spiked = [*values[:60], values[60] + sign * 0.05, *values[61:]]
    stepped = [*values[:60], *(value + sign * 0.02 for value in values[60:])]
    spike, *_ = watched(spiked, error=error)
    step = watched(stepped, error=error)[-1]
    assert (spike.at, spike.kind, spike.direction) == (60, "spike", "up" if sign > 0 else "down")
    assert 60 <= step.at < 70
    assert step.direction == spike.direction
    # A loss that falls is no reason to get up at night.
    assert (spike.severity == "notice") == (sign < 0)
    for alarm in (spike, step):
        assert abs(alarm.evidence["z"]) > 3
        assert f"round {alarm.at:g}" in alarm.sentence
        json.dumps(alarm.as_json(), allow_nan=False)


def test_a_level_that_moved_for_good_alarms_once_and_the_next_move_again() -> None:
    values = np.array(curve(200, seed=3))
    values[80:] += 0.05
    values[140:] += 0.05
    alarms = watched(values.tolist())
    assert {alarm.at // 60 for alarm in alarms} == {1, 2}
    assert all(80 <= alarm.at < 95 or 140 <= alarm.at < 155 for alarm in alarms)


@given(st.integers(0, 2**32), st.floats(0.001, 100.0))
@settings(max_examples=6)
def test_nothing_alarms_inside_three_standard_errors(seed: int, error: float) -> None:
    rng = np.random.default_rng(seed)
    inside = np.clip(error * rng.normal(size=80) * rng.choice([0.1, 1, 3]), -1.4 * error, 1.4 * error)
    assert watched((5.0 + inside).tolist(), error=error) == []
    # The same values alarm where the errors are a hundredth of that.
    moved = np.where(np.arange(80) >= 60, 2.9 * error, 0.1 * inside)
    assert watched((5.0 + moved).tolist(), error=1.5 * error) == []
    assert watched((5.0 + moved).tolist(), error=0.01 * error)


@pytest.mark.parametrize("metric", ["loss", "auc", "seconds", "participation"])
@pytest.mark.parametrize("value", [1.0, 0.3, 1e-12, 1e12])
def test_a_constant_series_never_alarms(metric: str, value: float) -> None:
    assert watched([value] * 120, metric) == []


def test_after_a_constant_series_any_change_alarms() -> None:
    alarm, *_ = watched([0.5] * 40 + [0.50001], "auc")
    assert alarm.at == 40
    json.dumps(alarm.as_json(), allow_nan=False)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_alarms_at_once_and_disturbs_nothing(value: float) -> None:
    values: list[float | None] = [*curve(60)]
    alarms = watched([*values[:30], value, value, *values[32:]])
    assert [(alarm.at, alarm.kind, alarm.severity) for alarm in alarms] == [(30, "not-a-number", "critical")]
    json.dumps(alarms[0].as_json(), allow_nan=False)
    assert watched([value, *values])[0].at == 0


def test_missing_rounds_leave_a_gap_and_no_alarm() -> None:
    values: list[float | None] = [*curve(120)]
    values[20:30] = [None] * 10
    values[50:110:3] = [None] * 20
    assert watched(values) == []


def test_late_readings_are_put_in_their_place_and_repeated_ones_passed_over() -> None:
    values = curve(80)
    ordered, shuffled = RoundMetric("loss"), RoundMetric("loss")
    for number, value in enumerate(values):
        ordered.see(Reading("loss", number, value))
    for number in range(0, 80, 2):
        for late in (number + 1, number, number + 1):
            shuffled.see(Reading("loss", late, values[late]))
    assert shuffled._kept == ordered._kept
    assert shuffled.see(Reading("loss", 3, 1e9)) is None


@given(st.integers(0, 2**32), st.integers(0, 110), st.booleans())
@settings(max_examples=5)
def test_a_watch_cut_at_any_round_goes_on_with_the_same_alarms(seed: int, cut: int, told: bool) -> None:
    rng = np.random.default_rng(seed)
    values = np.array(curve(110, seed % 1000))
    values[int(rng.integers(15, 100)) :] += 0.03
    values[rng.integers(0, 110, size=4)] += rng.choice([math.nan, math.inf, 0.2, -0.1], size=4)
    inputs = [
        Reading(metric, number, value, 0.005 if told else None)
        for number, value in enumerate(values.tolist())
        for metric in ("loss", "seconds")
    ]
    whole, first = Watch("rounds"), Watch("rounds")
    expected = [whole.see(reading) for reading in inputs]
    found = [first.see(reading) for reading in inputs[:cut]]
    second = Watch.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    found += [second.see(reading) for reading in inputs[cut:]]
    # An alarm about what is not a number is equal to nothing.
    assert [str(alarm) for alarm in found] == [str(alarm) for alarm in expected]
    assert any(expected)


@given(st.integers(0, 2**32), st.sampled_from([0.001, 3.0, 1e6]), st.sampled_from([-7.0, 0.0, 100.0]))
@settings(max_examples=5)
def test_neither_unit_nor_origin_matter(seed: int, unit: float, origin: float) -> None:
    values = np.array(curve(100, seed % 1000))
    values[60:] += 0.03
    values[85] += 0.1
    here, there = watched(values.tolist()), watched((unit * (values + origin)).tolist())
    assert [(alarm.at, alarm.kind) for alarm in here] == [(alarm.at, alarm.kind) for alarm in there]


def test_memory_is_bounded_whatever_comes() -> None:
    metric = RoundMetric("loss")
    sizes = []
    for number, value in enumerate(np.random.default_rng(0).standard_cauchy(300).tolist()):
        metric.see(Reading("loss", number, value, 0.1))
        sizes.append(len(json.dumps(metric.state())))
    assert len(metric._kept) == metric.rule.window
    assert max(sizes) < 8000
    assert max(sizes[200:]) < 1.1 * max(sizes[:150])


def test_slow_rounds_are_judged_by_ratios() -> None:
    rng = np.random.default_rng(4)
    seconds = (30 * np.exp(0.2 * rng.normal(size=80))).tolist()
    assert watched(seconds, "seconds") == []
    assert watched([*seconds, 300.0], "seconds")[0].direction == "up"


def test_members_who_stand_out_are_named() -> None:
    values = {"a": 1.0, "b": 1.1, "c": 0.9, "d": 1.05, "e": 9.0, "f": math.nan}
    assert standing_out(values) == ("e", "f")
    assert standing_out({"a": 1.0, "b": 5.0}) == ()
    metric = RoundMetric("loss")
    for number, value in enumerate(curve(40)):
        metric.see(Reading("loss", number, value))
    alarm = metric.see(Reading("loss", 40, 5.0, members=standing_out(values)))
    assert alarm is not None
    assert alarm.members == ("e", "f")


def test_a_watch_has_room_for_so_many_metrics_and_reads_its_own_version() -> None:
    watch = Watch("ops")
    for number in range(64):
        watch.see(Reading(f"cpu {number}", 0, 1.0))
    with pytest.raises(ValueError, match="one metric too many"):
        watch.see(Reading("cpu", 0, 1.0))
    with pytest.raises(ValueError, match="version 2"):
        Watch.restore({"version": 2})
    with pytest.raises(ValueError, match="number of its round"):
        RoundMetric("loss").see(Reading("loss", math.nan, 1.0))
