"""The audit's statistics, against enumeration, exact fractions and simulated mechanisms of known epsilon."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.contract.errors import InputError
from hansa.privacy.audit import (
    auc_interval,
    count_right,
    epsilon_bound,
    guess,
    largest_bound,
    p_value,
    separation,
)


def exact_p_value(m: int, r: int, v: int, odds: Fraction, delta: Fraction) -> Fraction:
    """Theorem 5.2 as it is written, in fractions; odds = e^epsilon."""
    q = odds / (1 + odds)
    chance = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    worst = max((sum(chance[v - i : v], Fraction(0)) / i for i in range(1, v + 1)), default=Fraction(0))
    return min(Fraction(1), sum(chance[v:], Fraction(0)) + 2 * m * delta * worst)


@pytest.mark.parametrize("odds", [Fraction(1), Fraction(3, 2), Fraction(7), Fraction(400)])
@pytest.mark.parametrize("delta", [Fraction(0), Fraction(1, 1000), Fraction(1, 20)])
def test_a_p_value_is_the_theorems_in_exact_fractions(odds: Fraction, delta: Fraction) -> None:
    for m, r in ((1, 1), (5, 3), (12, 12), (40, 25)):
        for v in range(r + 1):
            found = p_value(canaries=m, guesses=r, right=v, epsilon=math.log(odds), delta=float(delta))
            assert found == pytest.approx(float(exact_p_value(m, r, v, odds, delta)), rel=1e-9)


def test_no_private_mechanism_is_right_more_often_than_the_p_value() -> None:
    # Every coin and every answer of randomized response on five canaries, enumerated.
    epsilon, m = 0.8, 5
    keep = 1 / (1 + math.exp(-epsilon))
    chance = [0.0] * (m + 1)
    for coins in itertools.product((0, 1), repeat=m):
        for answers in itertools.product((0, 1), repeat=m):
            likely = math.prod(keep if c == a else 1 - keep for c, a in zip(coins, answers, strict=True))
            chance[sum(c == a for c, a in zip(coins, answers, strict=True))] += likely / 2**m
    for v in range(m + 1):
        # Randomized response meets the bound exactly.
        found = p_value(canaries=m, guesses=m, right=v, epsilon=epsilon, delta=0)
        assert found == pytest.approx(sum(chance[v:]), rel=1e-12)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_a_bound_holds_in_95_of_100_runs_and_is_near_the_truth(epsilon: float) -> None:
    rng = np.random.default_rng(7)
    m, runs = 5000, 400
    keep = 1 / (1 + math.exp(-epsilon))
    bounds = {
        v: epsilon_bound(canaries=m, guesses=m, right=v, delta=1e-6)
        for v in set(rng.binomial(m, keep, size=runs).tolist())
    }
    rng = np.random.default_rng(7)
    found = np.array([bounds[v] for v in rng.binomial(m, keep, size=runs).tolist()])
    # 400 runs at 5 %: 20 expected, 33 is three standard deviations above.
    assert np.sum(found > epsilon) <= 33
    # One-sided: 1.645 standard errors of the estimated epsilon below it, on average.
    assert found.mean() > epsilon - 1.1 * 1.645 / math.sqrt(m * keep * (1 - keep)) - 0.005


@given(
    guesses=st.integers(1, 400),
    share=st.floats(0, 1),
    epsilon=st.floats(0, 12),
    delta=st.sampled_from([0.0, 1e-9, 1e-5]),
)
def test_a_p_value_falls_with_right_guesses_and_a_bound_refutes_what_it_says(
    guesses: int, share: float, epsilon: float, delta: float
) -> None:
    right = round(share * guesses)
    numbers = {"canaries": 2 * guesses, "guesses": guesses, "delta": delta}
    here = p_value(right=right, epsilon=epsilon, **numbers)
    assert 0 <= here <= 1
    bound = epsilon_bound(right=right, **numbers)
    assert bound <= largest_bound(**numbers)
    if bound > 0:
        assert p_value(right=right, epsilon=bound, **numbers) < 0.05
    assert p_value(right=right, epsilon=bound + 0.0011, **numbers) >= 0.05


def test_the_largest_bound_is_known_in_closed_form_without_delta() -> None:
    for guesses in (2, 20, 100, 1000):
        chance = 0.05 ** (1 / guesses)
        expected = max(0.0, math.log(chance / (1 - chance)))
        assert largest_bound(canaries=guesses, guesses=guesses, delta=0) == pytest.approx(expected, abs=2e-3)


def test_thousands_of_guesses_are_counted_without_underflow() -> None:
    assert epsilon_bound(canaries=20_000, guesses=20_000, right=10_000, delta=1e-5) == 0
    # All right: chance 0.05^(1 / r).
    assert largest_bound(canaries=20_000, guesses=20_000, delta=0) == pytest.approx(8.806, abs=0.002)


def test_a_large_delta_takes_from_the_bound() -> None:
    bounds = [
        epsilon_bound(canaries=1000, guesses=100, right=98, delta=delta) for delta in (0, 1e-5, 1e-4, 1e-3)
    ]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] - bounds[1] < 0.02
    assert bounds[-1] < bounds[0] - 0.1


@pytest.mark.parametrize(
    "wrong",
    [{"guesses": 11}, {"guesses": 0}, {"right": 6}, {"right": -1}, {"delta": 1.0}, {"delta": float("nan")}],
)
def test_numbers_that_cannot_be_are_an_error(wrong: dict[str, float]) -> None:
    numbers = {"canaries": 10, "guesses": 5, "right": 5, "delta": 0.0, "epsilon": 1.0} | wrong
    with pytest.raises(InputError):
        p_value(**numbers)  # type: ignore[arg-type]


def test_guesses_are_the_highest_and_the_lowest_scores() -> None:
    scores = np.array([3.0, -1.0, 0.0, 9.0, -7.0, 0.5])
    assert guess(scores, 3).tolist() == [1, 0, 0, 1, -1, 0]
    assert count_right(guess(scores, 4), np.array([True, True, True, True, False, False])) == 3
    with pytest.raises(InputError, match="7 guesses about 6 canaries"):
        guess(scores, 7)


def test_the_separation_of_normal_scores_is_their_mu() -> None:
    rng = np.random.default_rng(3)
    inside = rng.random(4000) < 0.5
    found, error = separation(rng.normal(size=4000) + 0.7 * inside, inside)
    assert abs(found - 0.7) < 4 * error
    assert error == pytest.approx(2 / math.sqrt(4000), rel=0.1)
    assert separation(inside.astype(float), inside) == (math.inf, 0.0)


def test_an_auc_and_its_interval() -> None:
    rng = np.random.default_rng(5)
    area, low, high = auc_interval(np.array([2.0, 3.0, 3.0]), np.array([1.0, 3.0]))
    # Pairs: (2,1) and both (3,1) above, (2,3) below, both (3,3) even.
    assert area == pytest.approx((1 + 0 + 2 * 1.5) / 6)
    # Two normals one sd apart: AUC = Phi(1 / sqrt 2).
    truth, covered = 0.76025, 0
    for _ in range(300):
        area, low, high = auc_interval(rng.normal(1, 1, 120), rng.normal(0, 1, 150))
        covered += low <= truth <= high
    assert 0.90 * 300 <= covered <= 0.985 * 300
    # Two pairs told apart are no proof: one in 40 times 0.158 does that too.
    assert auc_interval(np.array([5.0, 6.0]), np.array([1.0, 2.0])) == pytest.approx((1.0, 0.025**0.5, 1.0))
    assert auc_interval(np.array([1.0, 2.0]), np.array([5.0, 6.0])) == pytest.approx(
        (0.0, 0.0, 1 - 0.025**0.5)
    )
