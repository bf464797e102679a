"""The server's step: known values, laws, and the same bits whatever the order of coordinates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hansa.contract.jobs import TUNED_RECENCY, JobPlan, ServerRule
from hansa.strategies.apply import ModelState, apply, tail_start

RULES = ("fedavg", "fedavgm", "fedadam", "fedyogi")
vectors = hnp.arrays(np.float64, 5, elements=st.floats(-1e3, 1e3))


def run(
    rule: ServerRule, updates: list[np.ndarray], rate: float, start: np.ndarray | None = None
) -> ModelState:
    state = ModelState.start(np.zeros_like(updates[0]) if start is None else start)
    for update in updates:
        state = apply(state, update, rule, rate, len(updates))
    return state


def test_averaging_adds_the_mean_update() -> None:
    state = run(ServerRule(name="fedavg", tail=0.0), [np.array([1.0, -2.0]), np.array([0.5, 0.5])], 1.0)
    np.testing.assert_array_equal(state.weights, [1.5, -1.5])
    np.testing.assert_array_equal(state.released, state.weights)


def test_momentum_remembers() -> None:
    state = run(ServerRule(name="fedavgm", beta1=0.5, tail=0.0), [np.array([1.0]), np.array([1.0])], 0.1)
    assert state.weights[0] == pytest.approx(0.1 * 1.0 + 0.1 * 1.5)


@given(vectors)
def test_the_first_adaptive_step_is_the_rate_in_the_direction_of_the_sign(update: np.ndarray) -> None:
    update = np.where(np.abs(update) < 1e-3, 0.0, update)
    state = run(ServerRule(), [update], 0.2)
    np.testing.assert_allclose(state.weights, 0.2 * np.sign(update), rtol=1e-4)


def test_adam_equals_the_published_recursion() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    updates = [rng.normal(size=4) for _ in range(12)]
    weights = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([weights], lr=0.3, betas=(0.8, 0.9), eps=1e-8)
    for update in updates:
        weights.grad = torch.tensor(-update)
        optimiser.step()
    np.testing.assert_allclose(run(ServerRule(), updates, 0.3).weights, weights.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("name", RULES)
@given(data=st.data())
def test_every_rule_works_on_each_coordinate_by_itself(name: str, data: st.DataObject) -> None:
    updates = [data.draw(vectors) for _ in range(3)]
    order = data.draw(st.permutations(range(5)))
    whole = run(ServerRule(name=name), updates, 0.5)
    permuted = run(ServerRule(name=name), [update[order] for update in updates], 0.5)
    assert (whole.weights[order] == permuted.weights).all()
    alone = run(ServerRule(name=name), [update[:1] for update in updates], 0.5)
    assert whole.weights[0] == alone.weights[0]


def test_the_released_model_is_the_mean_of_the_last_iterates() -> None:
    updates = [np.array([float(number)]) for number in range(1, 9)]
    rule = ServerRule(name="fedavg", tail=0.25)
    state, iterates = ModelState.start(np.zeros(1)), []
    for update in updates:
        # A tail of one iterate is that iterate.
        assert state.released is (state.tail if len(iterates) > 7 else state.weights)
        state = apply(state, update, rule, 1.0, 8)
        iterates.append(state.weights)
    np.testing.assert_allclose(state.released, np.mean(iterates[-2:], axis=0))
    assert tail_start(8, 0.25) == 6
    assert tail_start(3, 0.0) == 2


def test_the_ridge_penalty_pulls_towards_zero() -> None:
    rule = ServerRule(name="fedavg", decay=0.1)
    state = run(rule, [np.zeros(2)], 1.0, start=np.array([1.0, -2.0]))
    np.testing.assert_allclose(state.weights, [0.9, -1.8])


@pytest.mark.parametrize("name", RULES)
def test_a_checkpoint_goes_on_with_the_same_bits(name: str) -> None:
    rng = np.random.default_rng(1)
    updates = [rng.normal(size=6) for _ in range(6)]
    whole = run(ServerRule(name=name), updates, 0.4)
    state = ModelState.start(np.zeros(6))
    for update in updates:
        state = ModelState.from_arrays(apply(state, update, ServerRule(name=name), 0.4, 6).arrays())
    for key, array in whole.arrays().items():
        assert (state.arrays()[key] == array).all(), key


@pytest.mark.parametrize("name", RULES)
def test_every_rule_finds_the_bottom_of_a_bowl(name: str) -> None:
    goal = np.array([1.0, -3.0, 0.5])
    state = ModelState.start(np.zeros(3))
    for _ in range(200):
        state = apply(state, 0.2 * (goal - state.weights), ServerRule(name=name), 0.3, 200)
    np.testing.assert_allclose(state.released, goal, atol=0.1)


def test_no_update_leaves_finite_weights() -> None:
    for name in RULES:
        assert np.isfinite(run(ServerRule(name=name), [np.zeros(3)] * 5, 1.0).weights).all()


def test_a_rule_that_knows_the_curvature_heeds_the_noise_and_no_other_does() -> None:
    start, update = np.array([2.0, -1.0]), np.array([0.3, 0.1])
    plain = ServerRule(name="fedavg")
    aware = plain.model_copy(update={"curvature": 0.01})

    def stepped(rule: ServerRule, noise: float) -> np.ndarray:
        state = ModelState.start(start)
        return apply(state, update, rule, 1.0, 60, noise=noise).weights

    np.testing.assert_array_equal(stepped(plain, 5.0), stepped(plain, 0.0))
    np.testing.assert_array_equal(stepped(aware, 0.0), stepped(plain, 0.0))
    quiet, loud = stepped(aware, 0.01), stepped(aware, 0.1)
    # Shorter steps, drawn towards zero, the more of both the louder it is.
    assert np.abs(loud - start).max() < np.abs(quiet - start).max() < np.abs(update).max()


def test_with_the_ridge_that_the_noise_deserves_more_noise_does_less_harm() -> None:
    # A bowl whose second derivative is what the rule says, and noise that would drown its bottom.
    curvature, noise, rounds = 0.05, 2.0, 60
    bottom = np.full(200, 1.0)
    errors = {}
    for name, rule in {
        "plain": ServerRule(name="fedavg", tail=0.75),
        "aware": ServerRule(name="fedavg", tail=0.75, curvature=curvature),
    }.items():
        rng, state = np.random.default_rng(0), ModelState.start(np.zeros(200))
        for _ in range(rounds):
            update = curvature * (bottom - state.weights) + noise * rng.normal(size=200)
            state = apply(state, update, rule, 10.0, rounds, noise=noise)
        errors[name] = float(np.mean((state.released - bottom) ** 2))
    assert errors["aware"] < 1.1 < 4.0 < errors["plain"]


@pytest.mark.parametrize("recency", [0.0, 1.0, 2.0])
def test_later_iterates_count_more_in_the_mean_by_as_much_as_the_rule_says(recency: float) -> None:
    rule = ServerRule(name="fedavg", tail=1.0, recency=recency)
    iterates = [np.array([float(it * it)]) for it in range(1, 7)]
    updates = [now - before for before, now in zip([np.array([0.0]), *iterates], iterates, strict=False)]
    released = run(rule, updates, 1.0).released[0]
    # The weight of the k-th of a mean with that recency: the last one's share, and what later ones leave of earlier.
    shares = [(1 + recency) / (it + recency) for it in range(1, 7)]
    expected = sum(
        share * math.prod(1 - later for later in shares[place + 1 :]) * iterates[place][0]
        for place, share in enumerate(shares)
    )
    assert released == pytest.approx(expected)
    if recency == 1.0:
        assert released == pytest.approx(sum(it * it * it for it in range(1, 7)) / sum(range(1, 7)))


def test_only_a_tuned_job_forgets_how_it_began_and_only_where_nobody_says_otherwise() -> None:
    job = {"job": "ab" * 16, "name": "one", "rounds": 3}
    assert JobPlan(**job).rule.recency is None
    tuned = JobPlan(**job, tuning="probe", rule=ServerRule(name="fedavgm"))
    assert (tuned.rule.recency, tuned.rule.name) == (TUNED_RECENCY, "fedavgm")
    assert JobPlan.model_validate(tuned.model_dump()) == tuned
    # A plan that was written down with all its fields before anybody asked for a tuner.
    assert (
        JobPlan.model_validate(JobPlan(**job).model_dump() | {"tuning": "probe"}).rule.recency
        == TUNED_RECENCY
    )
    assert JobPlan(**job, tuning="probe", rule=ServerRule(recency=0.0)).rule.recency == 0.0
