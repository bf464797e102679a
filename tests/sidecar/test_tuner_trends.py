"""Trends of metrics, and the guard that asks for a probe."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.sidecar.anomaly.alarms import Reading
from hansa.sidecar.tuner import guard, trend


def line(slope: float, error: float | None, *, count: int = 10, seed: int = 0) -> list[Reading]:
    draw = random.Random(seed)
    return [
        Reading("log_loss", at, 1.0 + slope * at + draw.gauss(0.0, error or 0.0), error)
        for at in range(count)
    ]


@pytest.mark.parametrize(("slope", "direction"), [(0.02, "rising"), (-0.02, "falling")])
def test_a_line_beyond_its_noise_has_a_direction(slope: float, direction: str) -> None:
    found = trend(line(slope, 0.01))
    assert found.direction == direction
    assert found.confidence > 0.99
    assert abs(found.slope - slope) < 3 * found.error
    assert direction in found.sentence


def test_a_line_within_its_noise_is_flat() -> None:
    directions = [trend(line(0.0, 0.05, seed=seed)).direction for seed in range(400)]
    assert directions.count("flat") > 340


def test_values_that_scatter_more_than_their_errors_say_are_trusted_less() -> None:
    scattered = [
        Reading("log_loss", at, 1.0 + 0.01 * at + (0.3 if at % 2 else -0.3), 1e-4) for at in range(10)
    ]
    assert trend(scattered).direction == "flat"


def test_an_exact_line_is_sure_and_an_exact_constant_is_flat() -> None:
    assert trend(line(0.01, None)).confidence > 0.999
    assert trend(line(0.0, None)).direction == "flat"


def test_a_value_with_a_large_error_counts_little() -> None:
    readings = [*line(0.0, 0.001), Reading("log_loss", 10, 5.0, 3.0)]
    assert trend(readings).direction == "flat"


def test_few_values_make_no_trend() -> None:
    found = trend(line(1.0, 0.01, count=3))
    assert (found.direction, found.confidence) == ("flat", 0.5)
    assert found.sentence == "3 values are too few for a trend"


readings = st.lists(
    st.builds(
        Reading,
        metric=st.just("log_loss"),
        at=st.integers(0, 30).map(float),
        value=st.none() | st.floats(-1e3, 1e3) | st.sampled_from([math.nan, math.inf]),
        error=st.none() | st.floats(0, 10),
    ),
    max_size=20,
    unique_by=lambda it: it.at,
)


@given(readings, st.randoms())
def test_order_does_not_matter_and_confidence_is_a_share(values: list[Reading], draw: random.Random) -> None:
    found = trend(values)
    assert trend(draw.sample(values, len(values))) == found
    assert 0.5 <= found.confidence <= 1.0


def test_a_loss_that_rises_beyond_noise_asks_for_one_probe() -> None:
    losses = line(0.05, 0.01)
    asked = guard("j", losses, "server_rate")
    assert asked is not None
    assert (asked.key, asked.value) == ("j/9/server_rate", None)
    assert asked == guard("j", list(losses), "server_rate")
    assert guard("j", losses, "server_rate", asked=[7]) is None
    assert json.loads(json.dumps(asked.as_json()))["key"] == asked.key


def test_a_flat_loss_hardly_ever_asks() -> None:
    assert sum(guard("j", line(0.0, 0.05, seed=it), "server_rate") is not None for it in range(1000)) <= 3
