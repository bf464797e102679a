"""What holds of every decision, whatever the demand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from demands import LIMITS, days, run

from hansa.sidecar.scaling import Scaler, ServiceLimits, Signals


@pytest.mark.parametrize("step", [1, 5, 30])
def test_a_decision_does_not_depend_on_what_comes_after_it(step: int) -> None:
    demand = days(2, step)
    other = demand.copy()
    cut = 1440 + 7 * step
    other[cut:] = np.random.default_rng(1).permutation(other[cut:]) * 3.0
    first, second = run(demand), run(other)
    assert first[:cut] == second[:cut]
    assert first[cut:] != second[cut:]


@pytest.mark.parametrize("cut", [3, 700, 2900])
def test_a_scaler_that_was_killed_goes_on_with_the_same_decisions(cut: int) -> None:
    demand = days(3, 5)
    demand[2000:2100] = np.nan
    whole, half = Scaler(LIMITS), Scaler(LIMITS)
    ready = 3
    for minute, value in enumerate(demand[: cut + 800].tolist()):
        known = None if value != value else value
        signals = Signals(60.0 * minute, known, ready, starting=minute % 2, cpu=0.5, queue=0.0)
        if minute == cut:
            half = Scaler.from_state(json.loads(json.dumps(half.state())))
        decision = whole.decide(signals)
        assert half.decide(signals) == decision
        ready = decision.wanted
    assert whole.state() == half.state()


def test_replicas_stay_within_bounds() -> None:
    limits = ServiceLimits(name="scoring", capacity=10.0, minimum=3, maximum=9, cooldown_s=0.0)
    wanted = [it.wanted for it in run(days(2), limits)]
    assert min(wanted) == 3
    assert max(wanted) == 9
    assert any(it.by == "bounds" for it in run(days(1), limits))


def test_nothing_is_taken_away_while_it_cools_down() -> None:
    limits = ServiceLimits(name="scoring", capacity=10.0, cooldown_s=1800.0)
    decisions = run(days(3), limits)
    acted = [it.at for it in decisions if it.wanted != it.current]
    down = [it.at for it in decisions if it.wanted < it.current]
    assert down
    for at in down:
        before = [it for it in acted if it < at]
        assert not before or at - before[-1] >= 1800.0


def test_a_service_that_nobody_asks_goes_down_to_its_minimum() -> None:
    limits = ServiceLimits(name="scoring", capacity=10.0, minimum=0, cooldown_s=0.0)
    demand = np.concatenate([days(1), np.zeros(4000)])
    assert run(demand, limits)[-1].wanted == 0
