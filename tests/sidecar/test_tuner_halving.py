"""Successive halving, and decisions that are never made twice."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hansa.sidecar.tuner import Decision, KnobState, Segment, decided, halve

KNOB = KnobState("server_rate", 1.0, 0.01, 100.0)
VALUES = (0.1, 1.0, 10.0, 100.0)
GAINS = {0.1: 0.01, 1.0: 0.03, 10.0: 0.05, 100.0: -0.2}


def play(values: tuple[float, ...], knob: KnobState, turns: int) -> tuple[list[float], list[Segment]]:
    """A job that does what it is told; the values in force, a segment each."""
    segments: list[Segment] = []
    for turn in range(turns):
        decision = halve("j", values, segments, knob)
        if decision is not None:
            knob = replace(knob, value=decision.value)
        gain = GAINS.get(knob.value, 0.0)
        segments.append(Segment(knob.value, 10 * (turn + 1), 10, 1.0, 1.0 - 10 * gain, 0.01))
    return [it.value for it in segments], segments


def test_all_values_take_turns_and_the_best_stays() -> None:
    taken, _ = play(VALUES, KNOB, 9)
    assert taken[:4] == [0.1, 1.0, 10.0, 100.0]
    assert taken[4:6] == [1.0, 10.0]
    assert set(taken[6:]) == {10.0}


def test_a_value_at_which_the_model_broke_loses() -> None:
    segments = [Segment(1.0, 10, 10, 1.0, math.nan), Segment(10.0, 20, 10, 1.0, 1.2)]
    decision = halve("j", (1.0, 10.0), segments, KNOB)
    assert decision is not None
    assert decision.value == 10.0
    assert decision.as_json()["inputs"]["gain at 1 up to round 10"] is None


def test_the_same_segments_give_the_same_decision_once() -> None:
    _, segments = play(VALUES, KNOB, 3)
    first = halve("j", VALUES, segments, KNOB)
    assert first is not None
    assert first == halve("j", VALUES, list(segments), KNOB)
    assert decided(first, {first.key}, KNOB) is None
    assert decided(first, set(), KNOB) == first


@given(st.lists(st.floats(1e-3, 1e3), max_size=6), st.integers(0, 12), st.booleans())
def test_values_stay_in_the_range_and_a_pinned_knob_where_it_is(
    values: list[float], turns: int, pinned: bool
) -> None:
    taken, _ = play(tuple(values), replace(KNOB, pinned=pinned), turns)
    assert all(KNOB.low <= it <= KNOB.high for it in taken)
    if pinned:
        assert set(taken) <= {KNOB.value}


def test_a_pinned_knob_gets_no_decision_and_one_that_changes_nothing_is_none() -> None:
    decision = Decision("j", 3, "server_rate", "halving", 2.0, "why")
    assert decided(decision, (), replace(KNOB, pinned=True)) is None
    assert decided(replace(decision, value=1.0), (), KNOB) is None
    assert decided(None, (), KNOB) is None
