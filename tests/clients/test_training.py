"""What a member computes: one sum, a walk at home, mini-batches."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from hansa.clients.data.dataset import Dataset, concatenate
from hansa.clients.training import LocalPlan, sampled, update, walk
from hansa.contract.charter import ModelChoice, Training
from hansa.contract.features import BinaryLabel, FeatureContract, NumericColumn
from hansa.models.linear import LinearModel
from hansa.models.model import Model
from hansa.models.registry import load_model
from hansa.models.torch_module import TorchModel
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


PEOPLE = {
    "linear": ModelChoice(name="linear"),
    "additive": ModelChoice(name="additive"),
    "mlp": ModelChoice(name="mlp", options={"hidden": [5, 3]}),
    "module": None,
}
RATE = 0.5


def model_named(name: str) -> Model:
    choice = PEOPLE[name]
    return Wide(FEATURES, {}) if choice is None else load_model(choice, FEATURES)


class Wide(TorchModel):
    """A module that goes through Opacus."""

    def build(self, features: FeatureContract, options: object) -> torch.nn.Module:
        layers = (
            torch.nn.Linear(len(features.encoded), 4),
            torch.nn.Tanh(),
            torch.nn.Linear(4, features.outputs),
        )
        return torch.nn.Sequential(*layers)


def with_a_person(rows: int, *, one_entity: bool) -> Dataset:
    """Twenty people and one more with `rows` rows, all of them the same; or so many people that are alike."""
    others = dataset(20)
    X = np.repeat([[2.0, -2.0, 2.0]], rows, axis=0)
    names = [b"she" if one_entity else f"she {row}".encode() for row in range(rows)]
    return concatenate([others, Dataset(X, np.zeros(rows), np.array(names, dtype="S32"))])


def plan_of(mechanism: str, steps: int = 1) -> LocalPlan:
    training = Training(mechanism=mechanism, clip=0.2, sampling_rate=1.0, delta_clip=1e9, max_records=40)
    return LocalPlan(training, records=100, holdout=0.2, steps=steps, client_rate=RATE)


def reach(plan: LocalPlan) -> float:
    """How far one entity may move an update of one step."""
    return plan.training.clip * (plan.records * RATE / 80 if plan.walks else 1.0)


@pytest.mark.parametrize("mechanism", ["gradient", "poisson"])
@pytest.mark.parametrize("name", PEOPLE)
def test_forty_rows_of_one_person_move_a_step_no_further_than_the_clip(name: str, mechanism: str) -> None:
    model, plan = model_named(name), plan_of(mechanism)
    weights = model.initial(0)
    without = update(model, weights, dataset(20), plan, seeded())
    together = update(model, weights, with_a_person(40, one_entity=True), plan, seeded())
    apart = update(model, weights, with_a_person(40, one_entity=False), plan, seeded())
    assert np.linalg.norm(together - without) <= reach(plan) * (1 + 1e-4)
    # The same rows as forty people: the bound holds for a person, not because the rows are small.
    assert np.linalg.norm(apart - without) > 10 * reach(plan)
    # Her rows reach what one row could.
    assert np.linalg.norm(together - without) > 0.9 * reach(plan)


def test_each_step_at_home_is_bounded_by_entity() -> None:
    class Spy(LinearModel):
        seen: list[np.ndarray] = []

        def gradient_sum(self, weights: np.ndarray, X: np.ndarray, y: np.ndarray, **named: Any) -> np.ndarray:
            self.seen.append(np.asarray(named["clip"]))
            return super().gradient_sum(weights, X, y, **named)

    model = Spy(FEATURES, {})
    records = with_a_person(40, one_entity=True)
    for mechanism in ("gradient", "poisson"):
        update(model, model.initial(0), records, plan_of(mechanism, steps=3), seeded())
    assert len(model.seen) == 6
    for limits in model.seen:
        np.testing.assert_allclose(limits[:20], 0.2)
        np.testing.assert_allclose(limits[20:], 0.2 / 40)


def test_a_batch_holds_people_whole_and_each_as_often_as_the_rate_says() -> None:
    records = with_a_person(40, one_entity=True)
    generator, rate, draws = seeded(), 0.3, 2_000
    counts = np.zeros(21)
    for _ in range(draws):
        batch = sampled(records, rate, generator)
        names, rows = np.unique(batch.entities, return_counts=True)
        assert set(rows[names == b"she"]) <= {40}
        assert set(rows[names != b"she"]) <= {1}
        np.testing.assert_array_equal(batch.rows_of_entity, np.where(batch.entities == b"she", 40, 1))
        counts[np.searchsorted(np.unique(records.entities), names)] += 1
    spread = np.sqrt(draws * rate * (1 - rate))
    # Six standard errors, for 21 of them.
    assert (np.abs(counts - draws * rate) < 6 * spread).all()
    assert len(sampled(records, 1.0, generator)) == len(records)


@pytest.mark.parametrize("mechanism", ["gradient", "poisson"])
def test_a_walk_adds_noise_of_z_times_the_clip_at_each_step(mechanism: str) -> None:
    # No record: all that is sent is noise, and an empty batch is a step.
    features = FeatureContract(
        columns=tuple(NumericColumn(name=f"n{i}", low=-2, high=2) for i in range(9_999)), label=BinaryLabel()
    )
    model = LinearModel(features, {})
    empty = Dataset(np.zeros((0, 9_999)), np.zeros(0), np.zeros(0, dtype="S32"))
    training = Training(mechanism=mechanism, clip=0.3, sampling_rate=0.1, delta_clip=1e9)
    steps, z = 4, 1.7
    plan = LocalPlan(training, records=1000, holdout=0.2, steps=steps, client_rate=RATE, noise=z)
    sent = update(model, model.initial(0), empty, plan, seeded())
    divisor = 800 * (0.1 if mechanism == "poisson" else 1.0)
    sd = 1000 * RATE / divisor * z * 0.3 * np.sqrt(steps)
    assert kstest(sent / sd, "norm").pvalue > 1e-6
    assert kstest(sent / sd / 1.05, "norm").pvalue < 1e-2
    assert np.std(sent / sd) == pytest.approx(1.0, abs=0.04)
    assert (sent != update(model, model.initial(0), empty, plan, NoiseGenerator())).all()


def test_noise_is_drawn_anew_at_each_step() -> None:
    plan = LocalPlan(Training(clip=0.3, delta_clip=1e9), records=80, holdout=0.0, steps=2, noise=1.0)
    ends = [
        walk(MODEL, MODEL.initial(0), dataset(0), replace(plan, steps=steps), seeded()) for steps in (1, 2)
    ]
    first, second = ends[0] - MODEL.initial(0), ends[1] - ends[0]
    assert (first != second).all()


def test_one_sum_over_all_records_comes_back_exact() -> None:
    records, weights = dataset(50), MODEL.initial(0)
    plain = LocalPlan(Training(clip=0.3), records=50, holdout=0.2)
    for noise in (0.5, 5.0):
        noised = update(MODEL, weights, records, replace(plain, noise=noise), seeded())
        np.testing.assert_array_equal(noised, update(MODEL, weights, records, plain, seeded()))


@pytest.mark.parametrize("noise", [0.0, -1.0, np.inf, np.nan])
def test_noise_that_protects_nothing_is_refused(noise: float) -> None:
    with pytest.raises(ValueError, match="noise multiplier"):
        LocalPlan(Training(), records=50, holdout=0.2, noise=noise)


@pytest.mark.parametrize("name", PEOPLE)
def test_a_batch_above_the_physical_maximum_is_split_and_not_cut(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, plan, records = model_named(name), plan_of("poisson", steps=2), with_a_person(40, one_entity=True)
    whole = update(model, model.initial(0), records, plan, seeded())
    for module in ("linear.CHUNK", "mlp.CHUNK", "torch_module.ROWS"):
        monkeypatch.setattr(f"hansa.models.{module}", 7)
    np.testing.assert_allclose(
        update(model, model.initial(0), records, plan, seeded()), whole, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("name", ["linear", "additive", "mlp"])
def test_weights_that_overflow_make_no_record_stand_out(name: str) -> None:
    model, plan = model_named(name), plan_of("gradient")
    for size in (1e30, 1e200, 1e308):
        weights = size * np.where(np.arange(model.parameters) % 2, 1.0, -1.0)
        without = update(model, weights, dataset(20), plan, seeded())
        whole = update(model, weights, with_a_person(40, one_entity=True), plan, seeded())
        assert np.isfinite(whole).all()
        assert np.linalg.norm(whole - without) <= reach(plan) * (1 + 1e-4)


def test_training_says_nothing_of_its_batches(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    caplog.set_level("DEBUG")
    for name in PEOPLE:
        model = model_named(name)
        caplog.clear()
        plan = replace(plan_of("poisson", steps=3), noise=1.0, dropout=0.2)
        weights = np.where(np.arange(model.parameters) % 2, 1e308, model.initial(0))
        for start in (model.initial(0), weights):
            for rows in (0, 3, 40):
                update(model, start, with_a_person(rows, one_entity=True), plan, seeded())
        assert not caplog.records
    assert capfd.readouterr() == ("", "")
    assert not [str(it.message) for it in recwarn.list]
