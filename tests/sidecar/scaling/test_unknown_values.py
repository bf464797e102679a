"""What is no finite number is not known: nothing is decided on it, and nothing ends over it."""

from __future__ import annotations

import math

import pytest

from hansa.sidecar.scaler.by_demand import ByDemand
from hansa.sidecar.scaling import ServiceLimits, Signals
from hansa.sidecar.scaling.pressure import pressure

LIMITS = ServiceLimits("web", capacity=10.0, maximum=5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_demand_that_is_not_finite_changes_nothing_and_is_no_violation(value: float) -> None:
    decision = ByDemand(LIMITS).decide(Signals(at=60.0, demand=value, ready=3))
    assert (decision.wanted, decision.by, decision.violated) == (3, "hold", 0.0)
    assert "demand is not known" in decision.reason


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_load_and_queues_that_are_not_finite_ask_for_nothing(value: float) -> None:
    signals = Signals(at=60.0, demand=20.0, ready=2, cpu=value, memory=value, queue=value)
    assert pressure(signals, LIMITS, 2) == (0, "")
