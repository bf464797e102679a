"""How far to step: laws of the policy, and what it does on made-up curves."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.contract.jobs import ServerRule, evaluations
from hansa.strategies.dog import Dog
from hansa.strategies.slopes import slopes
from hansa.strategies.stepping import (
    LEAST_KEPT,
    MOST_EVALUATIONS,
    NARROW,
    WIDE,
    Choice,
    Knob,
    Slopes,
    Trial,
    choose,
    follow,
    moved,
    outer_share,
    planned,
)

KNOB = Knob("server_rate", 1.0, 0.001, 1000.0)
RULE = ServerRule()

numbers = st.floats(allow_nan=True, allow_infinity=True)
trials = st.lists(
    st.builds(
        Trial,
        factor=st.floats(1e-3, 1e3),
        loss=st.none() | numbers,
        error=st.none() | st.floats(0, 10),
        outer=st.none() | st.floats(-1, 2),
        outer_error=st.floats(0, 1),
    ),
    max_size=9,
    unique_by=lambda it: it.factor,
)
bases = st.none() | st.builds(
    Trial, factor=st.just(0.0), loss=st.none() | numbers, error=st.none() | st.floats(0, 10)
)


@st.composite
def knobs(draw: st.DrawFn) -> Knob:
    low, value, high = sorted(draw(st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=3)))
    return Knob("server_rate", value, low, high, pinned=draw(st.booleans()))


def curve(
    kappa: float, factors: tuple[float, ...] = WIDE, *, error: float = 0.0, seed: int = 0
) -> list[Trial]:
    """A loss of 0.7 that falls to 0.5 at `kappa` and is bad, but bounded, beyond."""
    draw = random.Random(seed)
    found = []
    for k in factors:
        u = k / kappa
        loss = 0.7 + min(0.2 * (u * u - 2.0 * u), 3.0)
        found.append(Trial(k, loss + draw.gauss(0.0, error), error))
    return found


def before(error: float = 0.0) -> Trial:
    return Trial(0.0, 0.7, error)


# --- laws ---------------------------------------------------------------------------------------------


@given(trials, bases, knobs())
def test_a_rate_stays_in_its_range_and_a_pinned_one_stays(
    tried: list[Trial], base: Trial | None, knob: Knob
) -> None:
    choice = choose(tried, base=base, knob=knob, rule=RULE)
    assert knob.low <= choice.value <= knob.high
    assert choice.factor >= 0.0
    assert math.isfinite(choice.factor)
    assert choice.sentence
    if knob.pinned:
        assert choice.value == knob.value


@given(trials, bases, knobs(), st.randoms())
def test_the_order_of_trials_does_not_matter(
    tried: list[Trial], base: Trial | None, knob: Knob, draw: random.Random
) -> None:
    shuffled = draw.sample(tried, len(tried))
    assert choose(shuffled, base=base, knob=knob) == choose(tried, base=base, knob=knob)


@given(
    st.sets(st.floats(1e-3, 1e3), min_size=1, max_size=9),
    st.sampled_from([math.nan, math.inf, -math.inf]),
    bases,
)
def test_a_step_without_a_finite_loss_is_dropped_and_the_rate_cut(
    factors: set[float], loss: float, base: Trial | None
) -> None:
    choice = choose([Trial(it, loss) for it in factors], base=base, knob=KNOB)
    assert choice.factor == 0.0
    assert choice.value < KNOB.value
    assert "dropped" in choice.sentence


@given(st.floats(0.02, 50), st.floats(0.0, 0.01), st.integers(0, 5))
def test_a_choice_is_within_what_was_tried_and_a_factor_two(kappa: float, error: float, seed: int) -> None:
    choice = choose(curve(kappa, error=error, seed=seed), base=before(error), knob=KNOB)
    assert WIDE[0] / 2.1 <= choice.factor <= WIDE[-1] * 2.1


@given(st.integers(1, 200), st.integers(1, 50), st.booleans())
def test_a_schedule_probes_widely_at_first_only_and_evaluations_grow_no_more_than_they_may(
    rounds: int, every: int, seen: bool
) -> None:
    lengths = [len(planned(made, rounds=rounds, evaluate_every=every, slopes=seen)) for made in range(rounds)]
    assert lengths[0] in (0, len(WIDE))
    assert set(lengths[1:]) <= {0, len(NARROW)}
    assert not any(lengths[6:])
    beside = sum(1 for made, it in enumerate(lengths, start=1) if it and made % every and made != rounds)
    plan = evaluations(rounds, every)
    assert plan + beside <= MOST_EVALUATIONS * plan


@given(numbers, numbers, st.floats(0, 1e3), knobs(), st.floats(1e-6, 1e6))
def test_following_keeps_a_part_of_a_step_and_the_rate_in_its_range(
    first: float, following: float, error: float, knob: Knob, rate: float
) -> None:
    choice = follow(Slopes(first, following, error), made=1, knob=knob, step_rate=rate, rule=RULE)
    assert LEAST_KEPT <= choice.factor <= 1.0
    assert knob.low <= choice.value <= knob.high
    if knob.pinned:
        assert choice.value == knob.value


@given(st.floats(0, 1), st.floats(0.1, 10))
def test_a_steeper_slope_after_a_step_never_means_a_smaller_rate(share: float, error: float) -> None:
    for doubt in (0.0, 0.01 * error):
        values = [
            follow(Slopes(1.0, it, doubt), made=1, knob=KNOB, step_rate=1.0).value
            for it in (share - 0.5, share)
        ]
        assert values[0] <= values[1] * (1 + 1e-9)


@given(st.floats(1e-6, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_dog_takes_no_step_longer_than_it_went_and_remembers_the_farthest(
    start: float, distance: float, gradient: float
) -> None:
    dog, rate = Dog.start(start).step(distance, gradient)
    assert dog.farthest >= distance
    assert rate * gradient <= dog.farthest * (1 + 1e-12)
    assert Dog(**json.loads(json.dumps(asdict(dog)))) == dog


# --- curves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [0.01, 0.1, 1.0, 10.0, 100.0])
def test_without_noise_the_lowest_point_is_found_over_four_decades(kappa: float) -> None:
    choice = choose(curve(kappa), base=before(), knob=Knob("server_rate", 2.0, 1e-6, 1e6))
    assert kappa / 1.8 < choice.factor <= kappa * 1.5
    assert choice.value == pytest.approx(2.0 * choice.factor)


def test_a_loss_that_is_too_noisy_moves_the_rate_little_and_mostly_down() -> None:
    values = [choose(curve(1.0, error=2.0, seed=it), base=before(2.0), knob=KNOB).value for it in range(60)]
    assert 0.05 < sorted(values)[30] <= 1.0
    assert sorted(values)[57] < 30


def test_hidden_losses_leave_a_step_as_it_is() -> None:
    choice = choose([Trial(it, None) for it in WIDE], base=None, knob=KNOB)
    assert (choice.factor, choice.value) == (1.0, 1.0)
    assert "noise hides" in choice.sentence


def test_a_step_that_is_worse_at_every_length_is_dropped() -> None:
    choice = choose([Trial(it, 0.9, 0.01) for it in NARROW], base=Trial(0.0, 0.7, 0.01), knob=KNOB)
    assert (choice.factor, choice.value) == (0.0, 0.25)
    assert choice.sentence == (
        "every step is worse than the loss before, 0.7, beyond noise: the best of 3 lengths has 0.9; the step is "
        "dropped, server_rate 1 -> 0.25"
    )


def test_a_step_that_may_be_worse_by_noise_is_not_dropped() -> None:
    choice = choose([Trial(it, 0.75, 0.1) for it in NARROW], base=Trial(0.0, 0.7, 0.1), knob=KNOB)
    assert choice.factor > 0.0


def test_lengths_at_which_the_model_breaks_bound_the_choice() -> None:
    tried = [Trial(k, 0.7 - 0.05 * k if k <= 1 else math.nan, 0.0) for k in WIDE]
    assert choose(tried, base=before(), knob=KNOB).factor <= WIDE[5]


def test_scores_outside_the_bins_bound_the_choice_where_the_loss_is_lost_in_noise() -> None:
    hidden = [Trial(k, 0.7, 5.0, 0.9 if k > 0.1 else 0.05, 0.1) for k in WIDE]
    assert choose(hidden, base=before(5.0), knob=KNOB).factor <= 0.1


def test_a_rule_that_normalises_its_steps_goes_on_with_less() -> None:
    plain = choose(curve(1.0), base=before(), knob=KNOB, rule=ServerRule(name="fedavg"))
    normalised = choose(curve(1.0), base=before(), knob=KNOB, rule=ServerRule(name="fedadam", beta1=0.8))
    assert normalised.factor == plain.factor
    assert normalised.value == pytest.approx(0.2 * plain.value)
    assert f"the rate follows by {0.2 * plain.factor:.3g}" in normalised.sentence
    assert "follows" not in plain.sentence


def test_a_sentence_says_that_a_rate_is_at_the_end_of_its_range() -> None:
    longer = choose(curve(100.0), base=before(), knob=Knob("server_rate", 1.0, 0.1, 2.0))
    assert longer.value == 2.0
    assert longer.sentence.endswith("server_rate 1 -> 2, the end of its range")
    pinned = choose(curve(100.0), base=before(), knob=Knob("server_rate", 1.0, 0.1, 2.0, pinned=True))
    assert pinned.sentence.endswith("server_rate stays 1")


def test_a_factor_speaks_of_the_client_rate_where_members_walk_and_the_rule_keeps_its_length() -> None:
    assert moved(ServerRule(name="fedavg"), 5) == "client_rate"
    assert moved(ServerRule(name="fedavgm"), 1) == "server_rate"
    assert moved(ServerRule(name="fedadam"), 5) == "server_rate"
    assert moved(ServerRule(name="fedyogi"), 1) == "server_rate"


def test_the_schedule_of_a_job_that_is_evaluated_each_round() -> None:
    lengths = [len(planned(made, rounds=60, evaluate_every=1)) for made in range(60)]
    assert lengths == [9, 3, 3, 3, 3, 3] + [0] * 54
    assert planned(30, rounds=60, evaluate_every=1, alarm=True) == NARROW
    assert planned(0, rounds=60, evaluate_every=1, alarm=True) == WIDE


def test_a_job_that_is_evaluated_seldom_has_room_for_two_probes_and_for_one_where_sums_are_followed() -> None:
    assert [made for made in range(60) if planned(made, rounds=60, evaluate_every=10)] == [0, 1]
    assert [made for made in range(60) if planned(made, rounds=60, evaluate_every=10, slopes=True)] == [0]


def test_outer_bins_of_either_label_count() -> None:
    histogram = [5.0, 1.0, 1.0, 2.0, 3.0, 1.0, 1.0, 6.0]
    assert outer_share(histogram, 0.5, 20) == (16.0 / 20, 1.0 / 20)


# --- sums ---------------------------------------------------------------------------------------------


def test_a_step_far_too_short_is_lengthened_tenfold_and_one_just_right_hardly() -> None:
    short = follow(Slopes(1.0, 0.99), made=1, knob=KNOB, step_rate=1.0)
    right = follow(Slopes(1.0, 0.3), made=1, knob=KNOB, step_rate=1.0)
    assert (short.factor, short.value) == (1.0, pytest.approx(10.0))
    assert right.value == pytest.approx(1.0)


def test_later_a_step_is_lengthened_less() -> None:
    assert follow(Slopes(1.0, 0.99), made=40, knob=KNOB, step_rate=1.0).value == 2.0


def test_noise_on_the_slopes_makes_the_rate_move_less() -> None:
    loud = follow(Slopes(1.0, 0.99, 0.3), made=1, knob=KNOB, step_rate=1.0).value
    assert 1.0 < loud < 2.0
    assert follow(Slopes(1.0, -5.0, 3.0), made=1, knob=KNOB, step_rate=1.0).value == 1.0


def test_a_step_after_which_the_slope_turned_is_taken_back_to_where_it_ended() -> None:
    choice = follow(Slopes(1.0, -9.0), made=1, knob=KNOB, step_rate=4.0)
    assert choice == Choice(0.1, "server_rate", 0.4, choice.sentence)
    assert choice.sentence == (
        "the slope along the last step turned to -9 of it: 0.1 of that step is kept, server_rate 1 -> 0.4"
    )
    assert follow(Slopes(1.0, math.nan), made=1, knob=KNOB, step_rate=1.0).factor == LEAST_KEPT


def test_a_heavy_ball_may_swing_farther_before_a_step_is_taken_back() -> None:
    turned = Slopes(1.0, -2.0)
    assert follow(turned, made=1, knob=KNOB, step_rate=1.0, rule=ServerRule(name="fedavgm")).factor == 1.0
    assert follow(turned, made=1, knob=KNOB, step_rate=1.0, rule=ServerRule(name="fedavg")).factor < 1.0


@given(st.integers(0, 10))
@settings(max_examples=5)
def test_slopes_of_noised_updates_are_right_in_the_mean(seed: int) -> None:
    rng, size, noise, rate = np.random.default_rng(seed), 400, 0.5, 2.0
    first, following = rng.normal(size=size), rng.normal(size=size)
    found = []
    for _ in range(400):
        mean = first + noise * rng.normal(size=size)
        after = following + noise * rng.normal(size=size)
        found.append(slopes(rate * mean, mean, after, noise=noise, own=rate))
    expected = rate * first @ first
    spread = np.std([it.before for it in found]) / math.sqrt(len(found))
    assert abs(np.mean([it.before for it in found]) - expected) < 4.0 * spread
    assert np.std([it.after for it in found]) > 0
    assert found[0].error == pytest.approx(noise * rate * np.linalg.norm(first), rel=0.3)


def test_following_the_slopes_of_a_quadratic_reaches_its_bottom_from_any_rate() -> None:
    curvature = np.array([1.0, 0.3, 0.1])
    for start in (1e-3, 1e-1, 30.0, 1e3):
        knob = Knob("server_rate", start, start / 1e6, start * 1e6)
        weights, last = np.ones(3), None
        for _ in range(60):
            mean = -curvature * weights
            if last is not None:
                origin, update, rate = last
                seen = slopes(weights - origin, update, mean)
                choice = follow(seen, made=1, knob=knob, step_rate=rate)
                knob = Knob(knob.name, choice.value, knob.low, knob.high)
                if choice.factor < 1.0:
                    weights, last = (
                        origin + choice.factor * rate * update,
                        (origin, update, rate * choice.factor),
                    )
                    continue
            last, weights = (weights, mean, knob.value), weights + knob.value * mean
        assert 0.5 * curvature @ weights**2 < 1e-3
