"""Gaps, outliers, clocks that go back, signals that disagree: nothing of it breaks a scaler."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from demands import LIMITS, days, run

from hansa.sidecar.scaling import Scaler, ServiceLimits, Signals
from hansa.sidecar.scaling.fleet import Fleet


def late(demand: np.ndarray, decisions: list, first: int) -> float:  # type: ignore[type-arg]
    """Share of minutes from `first` on in which what was wanted two minutes before was not enough."""
    wanted = np.array([it.wanted for it in decisions])
    return float((demand[first:] > 10.0 * wanted[first - 2 : -2] + 1e-9).mean())


def test_gaps_are_bridged_and_what_was_learned_stays() -> None:
    demand = days(6, 5)
    holes = demand.copy()
    for first in (1000, 3000, 5000):
        holes[first : first + 180] = np.nan
    decisions = run(holes)
    assert all(it.wanted >= 1 for it in decisions)
    assert {it.by for it in decisions[1000:1180]} == {"hold"}
    assert decisions[1100].reason == "demand is not known"
    assert late(demand, decisions, 7200) <= 0.02


def test_one_outlier_is_served_and_forgotten() -> None:
    demand = days(6, 5)
    hit = demand.copy()
    hit[5000:5005] = 100_000.0
    decisions = run(hit)
    assert max(it.wanted for it in decisions) == LIMITS.maximum
    assert max(it.wanted for it in decisions[5000 + 2 * 1440 :]) <= 25
    assert math.isfinite(decisions[-1].cost)


@pytest.mark.parametrize("value", [math.nan, math.inf, -5.0, None])
def test_a_value_that_is_no_demand_is_no_error(value: float | None) -> None:
    scaler = Scaler(LIMITS)
    run(days(0.5, 5), scaler=scaler)
    decision = scaler.decide(Signals(1e6, value, 3))
    assert 1 <= decision.wanted <= LIMITS.maximum
    json.dumps(scaler.state(), allow_nan=False)


def test_a_clock_that_goes_back_teaches_nothing_and_books_nothing() -> None:
    scaler = Scaler(LIMITS)
    run(days(1, 5), scaler=scaler)
    counts = {"acted": None, "actions": None, "excess": None, "looks": 0, "behind": 0}
    before = json.dumps({**scaler.state(), **counts})
    decision = scaler.decide(Signals(3600.0, 95.0, 2))
    assert decision.wanted >= 10
    assert json.dumps({**scaler.state(), **counts}) == before
    assert scaler.decide(Signals(1440 * 60.0, 20.0, 10)).wanted >= 2


def jumped(demand: np.ndarray, ahead_s: float, first: int, looks: int, restart: bool) -> tuple[list, Scaler]:  # type: ignore[type-arg]
    """Decisions where the clock runs ahead for some looks, and what is left of the scaler."""
    scaler, fleet, found = Scaler(LIMITS), Fleet(1, LIMITS.startup_s), []
    for minute, value in enumerate(demand.tolist()):
        at = 60.0 * minute
        fleet.pass_to(at)
        told = at + (ahead_s if first <= minute < first + looks else 0.0)
        found.append(scaler.decide(Signals(told, value, fleet.ready, fleet.starting)))
        fleet.want(at, found[-1].wanted)
        if restart and minute == first + looks - 1:
            scaler = Scaler.from_state(json.loads(json.dumps(scaler.state())))
    return found, scaler


@pytest.mark.parametrize(("ahead_s", "looks"), [(30 * 86_400.0, 1), (30 * 86_400.0, 45), (7200.0, 3)])
@pytest.mark.parametrize("restart", [False, True])
def test_a_clock_that_ran_ahead_and_is_right_again_changes_little(
    ahead_s: float, looks: int, restart: bool
) -> None:
    demand = days(5, 5)
    plain, right = jumped(demand, 0.0, 4000, looks, restart=False)
    found, scaler = jumped(demand, ahead_s, 4000, looks, restart)
    assert late(demand, found, 4100) <= late(demand, plain, 4100) + 0.01
    assert scaler.regret.spent == pytest.approx(right.regret.spent, rel=0.1)
    changes = [sum(a.wanted != b.wanted for a, b in pairwise(it[4100:])) for it in (plain, found)]
    assert changes[1] <= 1.5 * changes[0] + 10


def test_a_clock_that_stays_behind_is_believed_after_a_while() -> None:
    scaler = Scaler(LIMITS)
    run(days(3, 5), scaler=scaler, start=400 * 86_400.0)
    demand = days(4, 5)
    decisions = run(demand, scaler=scaler)
    assert late(demand, decisions, 3000) <= 0.03
    assert scaler.trusted


def test_a_sidecar_that_slept_goes_on() -> None:
    scaler = Scaler(LIMITS)
    run(days(3, 5), scaler=scaler)
    decision = scaler.decide(Signals(10 * 86_400.0, 40.0, 2))
    assert decision.wanted >= 4
    assert len(run(days(1, 5), scaler=scaler, start=10 * 86_400.0 + 60.0)) == 1440


def test_hot_replicas_and_a_queue_ask_for_more_than_demand_does() -> None:
    def fresh() -> Scaler:
        scaler = Scaler(LIMITS)
        run(np.full(200, 15.0), scaler=scaler)
        return scaler

    calm = fresh().decide(Signals(12_000.0, 15.0, 4))
    hot = fresh().decide(Signals(12_000.0, 15.0, 4, cpu=0.98))
    full = fresh().decide(Signals(12_000.0, 15.0, 4, memory=0.95))
    queued = fresh().decide(Signals(12_000.0, 15.0, 2, queue=40.0))
    assert calm.wanted <= 4
    assert (hot.wanted, hot.by) == (6, "reactive")
    assert "CPU is at 98 %" in hot.reason
    assert full.wanted == 6
    assert queued.wanted == 4
    assert "40 wait" in queued.reason


def test_without_demand_the_other_signals_decide() -> None:
    decision = Scaler(LIMITS).decide(Signals(60.0, None, 4, cpu=1.2))
    assert (decision.wanted, decision.by) == (7, "reactive")


def test_a_forecast_without_experience_follows_the_reactive_rule() -> None:
    decisions = run(days(0.2, 5))
    assert not decisions[60].trusted
    assert decisions[60].pattern == "unknown"
    assert "the reactive rule's" in decisions[60].reason
    assert run(days(2, 5))[-1].trusted


def test_a_spent_budget_holds_the_recent_peak() -> None:
    scaler = Scaler(LIMITS)
    run(days(2, 5), scaler=scaler)
    scaler.violations.saved = -5.0
    first = scaler.decide(Signals(2 * 86_400.0, 175.0, 3))
    assert first.wanted >= 18
    later = scaler.decide(Signals(2 * 86_400.0 + 60.0, 25.0, 3))
    assert scaler.violations.spent
    assert later.wanted >= 18
    assert later.by == "guard"
    assert "the violation budget is spent" in later.reason
    held = scaler.decide(Signals(2 * 86_400.0 + 120.0, 25.0, later.wanted))
    assert held.wanted == later.wanted


def test_what_was_spent_and_what_hindsight_would_have_is_counted() -> None:
    limits = ServiceLimits(name="scoring", capacity=10.0, cooldown_s=0.0, price=3.0)
    decisions = run(days(4, 5), limits)
    last = decisions[-1]
    paid = sum(it.current for it in decisions) / 60.0 * 3.0
    assert last.cost == pytest.approx(paid)
    assert last.regret is not None
    needed = np.maximum(np.ceil(days(4, 5) / 10.0 - 1e-9), 1)
    least = needed.copy()
    for ahead in (1, 2):
        least[:-ahead] = np.maximum(least[:-ahead], needed[ahead:])
    # The last two minutes are not judged yet.
    hindsight = least[:-2].sum() / 60.0 * 3.0
    spent = sum(it.current for it in decisions[:-2]) / 60.0 * 3.0
    assert last.regret == pytest.approx(spent - hindsight)


def test_other_limits_keep_what_was_learned_but_for_another_capacity() -> None:
    scaler = Scaler(LIMITS)
    run(days(2, 5), scaler=scaler)
    kept = Scaler.from_state(scaler.state(), ServiceLimits("scoring", 10.0, maximum=4, cooldown_s=0.0))
    assert kept.trusted
    assert kept.decide(Signals(2 * 86_400.0, 95.0, 3)).wanted == 4
    assert not Scaler.from_state(scaler.state(), ServiceLimits("scoring", 20.0)).trusted
