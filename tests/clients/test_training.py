"""What a member computes: one sum, a walk at home, mini-batches."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from hansa.clients.data.dataset import Dataset, concatenate
from hansa.clients.training import LocalPlan, update
from hansa.contract.charter import Training
from hansa.contract.features import BinaryLabel, FeatureContract, NumericColumn
from hansa.models.linear import LinearModel
from hansa.privacy.noise import NoiseGenerator

FEATURES = FeatureContract(
    columns=tuple(NumericColumn(name=f"n{i}", low=-2, high=2) for i in range(3)), label=BinaryLabel()
)
MODEL = LinearModel(FEATURES, {})


def dataset(rows: int, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 3))
    y = (X[:, 0] + rng.normal(size=rows) > 0).astype(float)
    return Dataset(X, y, np.array([f"{seed}-{row}" for row in range(rows)], dtype="S32"))


def seeded(name: str = "seed") -> NoiseGenerator:
    """A generator that draws the same in every run."""
    return NoiseGenerator(lambda count: hashlib.sha256(name.encode()).digest()[:count])


def test_one_step_sends_minus_the_gradient_sum_over_all_records() -> None:
    records, weights = dataset(50), MODEL.initial(0)
    plan = LocalPlan(Training(clip=0.3), records=50, holdout=0.2)
    expected = -MODEL.gradient_sum(weights, records.X, records.y, clip=0.3)
    np.testing.assert_array_equal(update(MODEL, weights, records, plan, seeded()), expected)


def test_sums_of_members_are_the_sum_over_their_records_together() -> None:
    parts = [dataset(30, 1), dataset(20, 2)]
    plan = LocalPlan(Training(clip=0.3), records=50, holdout=0.2)
    together = update(MODEL, MODEL.initial(0), concatenate(parts), plan, seeded())
    np.testing.assert_allclose(
        sum(update(MODEL, MODEL.initial(0), part, plan, seeded()) for part in parts), together
    )


def test_steps_at_home_send_the_way_times_the_public_size() -> None:
    records, weights = dataset(80), MODEL.initial(0)
    plan = LocalPlan(Training(clip=10), records=100, holdout=0.2, steps=2, client_rate=0.5)
    walked = weights
    for _ in range(2):
        walked = walked - 0.5 / 80 * MODEL.gradient_sum(walked, records.X, records.y)
    np.testing.assert_allclose(update(MODEL, weights, records, plan, seeded()), 100 * (walked - weights))


def test_the_way_is_clipped() -> None:
    plan = LocalPlan(Training(clip=10, delta_clip=0.01), records=100, holdout=0.2, steps=5, client_rate=5.0)
    sent = update(MODEL, MODEL.initial(0), dataset(80), plan, seeded())
    assert np.linalg.norm(sent) == pytest.approx(100 * 0.01)


def test_mini_batches_are_drawn_from_the_given_generator() -> None:
    training = Training(mechanism="poisson", sampling_rate=0.3)
    plan = LocalPlan(training, records=100, holdout=0.2, steps=4)
    first, again = (update(MODEL, MODEL.initial(0), dataset(80), plan, seeded()) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = update(MODEL, MODEL.initial(0), dataset(80), plan, seeded("another"))
    assert (first != other).any()


@pytest.mark.parametrize("mechanism", ["gradient", "poisson"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_member_without_records_sends_zeros(mechanism: str, steps: int) -> None:
    plan = LocalPlan(Training(mechanism=mechanism), records=10, holdout=0.2, steps=steps)
    assert not update(MODEL, MODEL.initial(0), dataset(0), plan, seeded()).any()


def test_the_divisor_is_public_whatever_the_number_of_rows() -> None:
    records = dataset(40)
    doubled = concatenate([records, records])
    plan = LocalPlan(Training(clip=10), records=100, holdout=0.2, steps=2, client_rate=1e-3)
    single, double = (update(MODEL, MODEL.initial(0), part, plan, seeded()) for part in (records, doubled))
    np.testing.assert_allclose(double, 2 * single, rtol=1e-2)
