"""The simulation: who knows what when, what is paid, and the bound below everybody."""

from __future__ import annotations

import math

import numpy as np
import pytest
from demands import days

from hansa.sidecar.scaling import replay
from hansa.sidecar.scaling.fleet import Fleet
from hansa.sidecar.scaling.replay import Setting


def setting(demand: np.ndarray, scored: int = 0) -> Setting:  # type: ignore[type-arg]
    return Setting(demand / (demand.max() / 15.0), 0.0, scored)


def test_a_replica_serves_after_its_start_and_is_paid_from_the_wish_on() -> None:
    fleet = Fleet(1, 120.0)
    fleet.want(0.0, 3)
    assert (fleet.ready, fleet.paid) == (1, 3)
    fleet.pass_to(119.0)
    assert fleet.ready == 1
    fleet.pass_to(120.0)
    assert (fleet.ready, fleet.starting) == (3, 0)


def test_those_that_start_are_taken_away_first() -> None:
    fleet = Fleet(2, 120.0)
    fleet.want(0.0, 4)
    fleet.want(60.0, 3)
    assert (fleet.ready, fleet.starting, fleet.actions) == (2, 1, 2)
    fleet.want(60.0, 1)
    assert (fleet.ready, fleet.starting) == (1, 0)


def test_hindsight_pays_for_the_start_and_nothing_else() -> None:
    use = np.array([1.0, 1, 1, 1, 5, 5, 1, 1, 1, 1])
    paid = replay.clairvoyant(Setting(use)).paid
    assert paid.tolist() == [1, 1, 5, 5, 5, 5, 1, 1, 1, 1]


def test_a_jump_costs_the_rule_two_minutes() -> None:
    use = np.array([0.7] * 10 + [3.5] * 10)
    outcome = replay.hpa(Setting(use), 0.7)
    assert outcome.violations == 2 / 20
    assert outcome.paid.tolist() == [1] * 10 + [5] * 10
    assert outcome.serving.tolist() == [1] * 12 + [5] * 8


@pytest.mark.parametrize("step", [1, 5, 30])
def test_nobody_without_violations_is_cheaper_than_hindsight(step: int) -> None:
    found = setting(days(3, step))
    least = replay.clairvoyant(found)
    assert not (found.use > least.serving + 1e-9).any()
    for target in (0.2, 0.4, 0.6):
        outcome = replay.hpa(found, target)
        if outcome.violations == 0:
            assert outcome.cost >= least.cost
    assert replay.static_peak(found).cost >= least.cost
    # Any fleet that is steered at random and then never late pays at least as much.
    rng = np.random.default_rng(step)
    ahead = found.needed + rng.integers(0, 3, len(found.use))
    fleet, cost, late = Fleet(15, 120.0), 0.0, False
    for minute, use in enumerate(found.use.tolist()):
        fleet.pass_to(60.0 * minute)
        late = late or use > fleet.ready + 1e-9
        fleet.want(60.0 * minute, int(ahead[minute : minute + 3].max()))
        cost += fleet.paid
    assert not late
    assert cost >= least.cost


def test_the_warm_up_is_not_counted() -> None:
    demand = days(2, 5)
    scored = math.ceil(0.15 * len(demand))
    outcome = replay.ours(setting(demand, scored)).outcome
    assert outcome.cost == outcome.paid[scored:].sum()
    assert outcome.violations == float((setting(demand).use > outcome.serving + 1e-9)[scored:].mean())
    assert replay.static_peak(setting(demand, scored)).cost == 15 * (len(demand) - scored)


def test_the_rules_fast_path_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = setting(days(2, 30))
    for target in (0.5, 0.7, 0.9):
        quick = replay.hpa(found, target)
        with monkeypatch.context() as patched:
            patched.setattr(replay, "DOWN_WINDOW_S", 1e9)
            slow = replay.hpa(found, target)
        assert (quick.cost, quick.violations, quick.actions) == (slow.cost, slow.violations, slow.actions)


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 5, 30, 60])
def test_ours_stays_within_its_budget_and_beats_what_holds_it(step: int) -> None:
    demand = days(10, step, seed=3)
    found = setting(demand, math.ceil(0.15 * len(demand)))
    own, least = replay.ours(found).outcome, replay.clairvoyant(found)
    assert own.violations <= 0.01
    assert own.cost < 0.85 * replay.hpa(found, 0.7).cost
    assert own.cost < 1.25 * least.cost
    assert own.actions <= 2.5 * replay.hpa(found, 0.7).actions


@pytest.mark.slow
def test_a_larger_budget_costs_less_and_a_smaller_one_is_kept() -> None:
    demand = days(10, 5, seed=5)
    found = setting(demand, math.ceil(0.15 * len(demand)))
    outcomes = [replay.ours(found, replay.limits_for(found, it)).outcome for it in (0.002, 0.01, 0.04)]
    costs = [it.cost for it in outcomes]
    assert costs == sorted(costs, reverse=True)
    for allowed, outcome in zip((0.002, 0.01, 0.04), outcomes, strict=True):
        # What nobody could foresee comes on top of a very small budget.
        assert outcome.violations <= 1.25 * allowed + 0.0005


def test_hindsight_takes_the_cheapest_rule_that_holds() -> None:
    found = setting(days(3, 5))
    tried = replay.frontier(found)
    best = replay.hindsight(tried)
    assert best is not None
    assert best.violations <= 0.01
    assert all(it.cost >= best.cost for it in tried if it.violations <= 0.01)
    assert replay.hindsight([it for it in tried if it.violations > 0.01]) is None
