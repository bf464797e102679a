"""The parts of a scaler: rhythm, season, errors, budgets, patterns, made-up days, drawings."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from demands import days

from hansa.sidecar.scaling import plot
from hansa.sidecar.scaling.budget import ActionBudget, ViolationBudget
from hansa.sidecar.scaling.conformal import KEPT, Errors
from hansa.sidecar.scaling.made import START, business_days
from hansa.sidecar.scaling.patterns import pattern
from hansa.sidecar.scaling.regression import Regression
from hansa.sidecar.scaling.rhythm import Rhythm
from hansa.sidecar.scaling.season import Season


@pytest.mark.parametrize("step", [1, 5, 30, 60])
def test_the_period_of_a_held_value_is_found(step: int) -> None:
    rhythm, new = Rhythm(), []
    rng = np.random.default_rng(0)
    # Whole numbers repeat now and then: that must not make the period longer.
    for minute, value in enumerate(np.repeat(rng.integers(0, 6, 60), step).tolist()):
        new.append(rhythm.look(60.0 * minute, float(value)))
    assert rhythm.period == 60.0 * step
    late = np.flatnonzero(new[30 * step :]) + 30 * step
    assert (late % step == 0).all()
    assert len(late) == 30
    assert rhythm.next_at == 60.0 * 60 * step


def test_a_regression_finds_the_weights_of_a_line() -> None:
    rng = np.random.default_rng(0)
    found = Regression(np.zeros(3))
    for _ in range(500):
        features = np.array([1.0, *rng.normal(size=2)])
        truth = float(features @ [2.0, -1.0, 0.5])
        found.learn(features, truth - found.predict(features))
    assert found.weights == pytest.approx([2.0, -1.0, 0.5], abs=0.01)


def test_errors_forget_the_oldest_and_rank_the_rest() -> None:
    errors = Errors()
    for number in range(2 * KEPT):
        errors.add(float(number))
    assert len(errors) == KEPT
    above = errors.above(np.array([KEPT - 1.0, 1.5 * KEPT - 1, 2.0 * KEPT]))
    assert above == pytest.approx([1.0, 0.5, 0.0], abs=0.001)
    assert errors.quantile(0.5) == 1.5 * KEPT
    assert Errors.from_state(errors.state()).state() == errors.state()


def test_a_season_knows_the_days_before_across_gaps() -> None:
    season = Season(24)
    for hour in range(24 * 9):
        if not 50 <= hour < 60:
            season.put(3600.0 * hour, float(hour))
    then = season.days(3600.0 * 24 * 9)
    assert then.tolist() == [24.0 * (9 - back) for back in range(1, 8)]
    assert np.isnan(season.days(3600.0 * (24 * 9 + 5))[6])  # hour 53 was in the gap
    assert Season.from_state(season.state()).days(3600.0 * 24 * 9).tolist() == then.tolist()


def test_violations_get_dearer_as_their_budget_empties() -> None:
    budget = ViolationBudget(0.01)
    prices = []
    for _ in range(12):
        prices.append(budget.price)
        budget.pass_by(1.0, 1.0)
    assert prices == sorted(prices)
    assert budget.spent
    budget.pass_by(4000.0, 0.0)
    assert budget.saved == budget.MOST


def test_changes_get_dearer_than_the_rules_and_good_ones_count_half() -> None:
    budget = ActionBudget()
    budget.spend(0.0)
    assert budget.dearness > 1.0
    budget.earn()
    assert budget.saved == pytest.approx(budget.RATE - 1.0)
    budget.spend(budget.GOOD)
    assert budget.saved == pytest.approx(budget.RATE - 1.5)


def test_patterns_are_said_in_words() -> None:
    trace = business_days(8, seed=1, burst=False)
    season = Season(288)
    for minute in range(0, len(trace.demand), 5):
        season.put(trace.start + 60.0 * minute, float(trace.demand[minute]))
    wednesday = START + 8 * 86_400.0
    saturday = wednesday + 3 * 86_400.0
    names = {hour: pattern(season, wednesday + 3600.0 * hour).name for hour in (3, 9.2, 11, 22)}
    assert names == {3: "off-hours", 9.2: "business hours", 11: "peak", 22: "off-hours"}
    assert pattern(season, saturday + 3600.0 * 11).name == "weekend"
    found = pattern(season, wednesday + 3600.0 * 11)
    assert found.start < 11.0 < found.end
    assert found.low < found.high
    assert found.trust > 0.8
    assert "peak (" in found.words


def test_noise_has_no_pattern_and_an_hour_neither() -> None:
    season = Season(288)
    for minute in range(0, 12):
        season.put(300.0 * minute, 1.0)
    assert pattern(season, 3600.0).name == "unknown"
    rng = np.random.default_rng(2)
    for number in range(7 * 288):
        season.put(300.0 * number, float(rng.gamma(2.0)))
    assert pattern(season, 7 * 86_400.0).words == "unknown"


def test_a_day_and_frontiers_are_drawn_as_svg() -> None:
    demand = days(1, 5) / 10.0
    high = demand + 1.0
    high[:100] = np.nan
    day = ET.fromstring(plot.day("a <day>", 0.0, demand, np.ceil(demand), demand - 0.5, high))
    kinds = [it.tag.split("}")[1] for it in day]
    assert kinds.count("polyline") == 2
    assert kinds.count("polygon") == 1
    curves = (plot.Curve("one", [(0.01, 120.0), (0.02, 110.0)]), plot.Curve("two", [(0.005, 105.0)]))
    drawn = ET.fromstring(plot.frontiers("both", curves, 100.0))
    assert sum(it.tag.endswith("circle") for it in drawn) == 3
