"""Likelihoods of a reversed sign and of other labels are those of the normal law that they claim, and accuse seldom."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hansa.strategies.audit_direction import KEPT_FIRST, KEPT_LATEST, Direction
from hansa.strategies.audit_likelihood import KINDS, Array, Kind, Likelihoods, Setting, Sums, settings

MEMBERS, COORDINATES, SIZE = 6, 12, 100.0
SQUARE, CURVATURE = 0.09 / COORDINATES, 0.05


def drawn(seed: int, setting: Setting, *, rounds: int = 12, poisoned: tuple[Kind, int] | None = None) -> Sums:
    """Sums of two groups a round, drawn by the law of a setting."""
    rng = np.random.default_rng(seed)
    found = Sums.empty(MEMBERS, COORDINATES)
    start = rng.normal(size=COORDINATES)
    start *= math.sqrt(COORDINATES * setting.start) / np.linalg.norm(start)
    bend = math.sqrt(setting.bend) * rng.normal(size=(COORDINATES, COORDINATES))
    own = math.sqrt(setting.own / SIZE) * rng.normal(size=(MEMBERS, COORDINATES))
    way = np.zeros(COORDINATES)
    for _ in range(rounds):
        mean = start - setting.slope * way + bend @ way
        gradients = mean + own
        if poisoned is not None:
            kind, place = poisoned
            gradients[place] = -gradients[place] if kind == "sign" else gradients[place] - 2.0 * start
        side = rng.permutation(MEMBERS) < MEMBERS // 2
        rows = SIZE * np.array([side, ~side], dtype=float)
        totals = rows @ gradients + 3.0 * rng.normal(size=(2, COORDINATES))
        found = found.plus(rows, totals, way, np.full(2, 3.0))
        way = way + 2.0 * mean + 0.1 * rng.normal(size=COORDINATES)
    return found


def steady(sums: Sums) -> Setting:
    """A setting of the grid: what members have of their own is small, and every round is like the others."""
    return next(
        it for it, _ in settings(sums, SQUARE, CURVATURE) if it.start > 0.02 * SQUARE and it.drift == 0.0
    )


def ratios_of(sums: Sums) -> Array:
    likelihoods = Likelihoods(sums, SQUARE, CURVATURE)
    suspects = [(kind, (place,)) for kind in KINDS for place in range(MEMBERS)]
    return likelihoods.ratios(suspects).reshape(len(KINDS), MEMBERS)


ONE = Sums.empty(MEMBERS, COORDINATES).plus(
    np.ones((1, MEMBERS)), np.ones((1, COORDINATES)), np.zeros(COORDINATES), np.ones(1)
)
SETTING = steady(ONE)


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_is_poisoned_is_far_likelier_than_nobody_and_than_anybody_else(kind: Kind) -> None:
    for seed in range(8):
        ratios = ratios_of(drawn(seed, SETTING, rounds=25, poisoned=(kind, seed % MEMBERS)))
        assert int(ratios.max(axis=0).argmax()) == seed % MEMBERS
        assert ratios.max() > math.log(20.0)


def test_nobody_is_likely_to_be_poisoned_where_nobody_is() -> None:
    found = np.array([ratios_of(drawn(seed, SETTING)) for seed in range(25)])
    # By Markov's inequality a ratio of 20 comes in one of twenty draws at most.
    assert (found > math.log(20.0)).mean() <= 0.05
    assert np.median(found) < 0.0


def test_a_ratio_of_nobody_to_nobody_is_one() -> None:
    likelihoods = Likelihoods(drawn(1, SETTING), SQUARE, CURVATURE)
    [nobody] = likelihoods.ratios([("sign", ())])
    assert -0.2 < nobody <= 1e-9


def test_members_names_say_nothing() -> None:
    sums, order = drawn(3, SETTING, poisoned=("sign", 2)), np.array([4, 0, 5, 2, 1, 3])
    turned = Sums(sums.rows[:, order], sums.totals, sums.ways, sums.noise, sums.rounds)
    assert ratios_of(turned) == pytest.approx(ratios_of(sums)[:, order], rel=1e-6)


def test_a_likelihood_is_that_of_the_normal_law() -> None:
    sums = drawn(5, SETTING, rounds=3)
    likelihoods = Likelihoods(sums, SQUARE, CURVATURE)
    size, way = sums.rows.sum(axis=1), sums.ways

    def straight(now: Array) -> float:
        gradients = SETTING.start + SETTING.bend * way @ way.T
        own = SETTING.own / SIZE * sums.rows @ sums.rows.T
        factor = SETTING.factor * (sums.rows @ sums.rows.T)
        covariance = np.outer(now, now) * gradients + own + np.diag(sums.noise**2)
        covariance += factor * (gradients + SETTING.slope**2 / COORDINATES * way @ way.T)
        rest = sums.totals + SETTING.slope * now[:, None] * way
        log = float(np.linalg.slogdet(covariance)[1])
        return -0.5 * float(np.trace(rest.T @ np.linalg.inv(covariance) @ rest)) - 0.5 * COORDINATES * log

    scale = MEMBERS / (MEMBERS - 2)
    nobody, first = likelihoods._under([None, ("sign", (0,))], SETTING)
    expected = straight((size - 2.0 * sums.rows[:, 0]) * scale) - straight(size)
    assert first - nobody == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_trail_keeps_a_jobs_first_rounds_and_its_latest() -> None:
    direction = Direction.start(np.zeros(2))
    for number in range(60):
        direction = direction.at(np.full(2, float(number)), 0.0).after(np.full(2, float(number)), 0.1)
    kept = direction.trail.means[:, 0].tolist()
    assert kept == [*range(KEPT_FIRST), *range(60 - KEPT_LATEST, 60)]
    assert direction.trail.ways[:, 0].tolist() == kept
    again = Direction.from_arrays(direction.arrays())
    assert again.trail.means.tolist() == direction.trail.means.tolist()
    assert again.way.tolist() == direction.way.tolist()
