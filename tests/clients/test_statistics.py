"""Sums of the contract check and of moments: what they are, and how far one person moves them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.clients.data.dataset import Dataset, concatenate
from hansa.clients.statistics import moments_sum, statistics_sum
from hansa.contract.features import (
    BinaryLabel,
    CategoricalColumn,
    FeatureContract,
    MulticlassLabel,
    NumericColumn,
    RegressionLabel,
)
from hansa.contract.statistics import moments_length, statistics_layout
from hansa.models.additive import AdditiveModel
from hansa.models.linear import LinearModel

FEATURES = FeatureContract(
    columns=(
        NumericColumn(name="a", low=0, high=1, indicator=True),
        CategoricalColumn(name="c", categories=("x", "y", "z")),
        NumericColumn(name="b", low=0, high=1),
    ),
    label=BinaryLabel(prevalence=0.3),
)
MODELS = [LinearModel(FEATURES, {}), AdditiveModel(FEATURES, {})]


def make(rows: int, seed: int = 0, *, spread: float = 0.3) -> Dataset:
    rng = np.random.default_rng(seed)
    X = np.zeros((rows, len(FEATURES.encoded)))
    X[:, [0, 5]] = np.clip(spread * rng.normal(size=(rows, 2)), -4, 4)
    X[:, 2] = rng.integers(0, 2, size=rows)
    y = (rng.uniform(size=rows) < 0.3).astype(float)
    return Dataset(X, y, np.array([f"{seed}-{row}".encode() for row in range(rows)]))


def person(rows: int, scale: float, seed: int) -> Dataset:
    """So many rows of one person, all at the edge of what can be encoded."""
    rng = np.random.default_rng(seed)
    X = scale * np.sign(rng.normal(size=(1, len(FEATURES.encoded))))
    return Dataset(np.repeat(X, rows, axis=0), np.ones(rows), np.full(rows, b"person", dtype="S32"))


def plain_moments(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.concatenate([(z.T @ z)[np.triu_indices(z.shape[1])], z.T @ y])


def test_the_check_counts_and_sums_what_it_says() -> None:
    made = make(500, spread=0.1)
    sums = statistics_sum(made, FEATURES)
    numbers, others = made.X[:, [0, 5]], made.X[:, [1, 2, 3, 4]]
    expected = np.concatenate(
        [[500, made.y.sum()], numbers.sum(axis=0), (numbers**2).sum(axis=0), others.sum(axis=0)]
    )
    layout = statistics_layout(FEATURES)
    assert layout.numeric == (0, 5)
    assert layout.counted == (1, 2, 3, 4)
    np.testing.assert_allclose(sums, expected)
    assert not statistics_sum(made.take(np.zeros(500, dtype=bool)), FEATURES).any()


@pytest.mark.parametrize("model", MODELS, ids=["linear", "additive"])
def test_moments_are_those_of_the_rows_of_the_design(model: LinearModel) -> None:
    made = make(300)
    z = model.design(made.X)
    sums = moments_sum(model, made, FEATURES, clip=100.0)
    assert sums.size == moments_length(model.parameters)
    np.testing.assert_allclose(sums, plain_moments(z, made.y - 0.3), atol=1e-9)


def test_moments_of_a_number_take_it_scaled_to_its_range() -> None:
    features = FEATURES.model_copy(update={"label": RegressionLabel(low=10.0, high=30.0)})
    model, made = LinearModel(features, {}), make(50)
    made = Dataset(made.X, 20.0 + 10.0 * made.y, made.entities)
    sums = moments_sum(model, made, features, clip=100.0)
    np.testing.assert_allclose(sums, plain_moments(model.design(made.X), (made.y - 20.0) / 10.0), atol=1e-9)
    with pytest.raises(ValueError, match="classes"):
        moments_sum(
            LinearModel(FEATURES, {}),
            made,
            FEATURES.model_copy(update={"label": MulticlassLabel(classes=("a", "b", "c"))}),
            clip=1.0,
        )


@pytest.mark.parametrize("clip", [0.05, 0.5])
def test_a_clipped_sum_is_that_of_clipped_records(clip: float) -> None:
    model, made = LinearModel(FEATURES, {}), make(40)
    expected = np.zeros(moments_length(model.parameters))
    for row in range(40):
        z = model.design(made.X[row : row + 1])
        part = plain_moments(z, made.y[row : row + 1] - 0.3)
        # The label's part of the norm is bounded by the largest label, not by this one.
        square = float(z[0] @ z[0])
        norm = np.sqrt((part[: -z.shape[1]] ** 2).sum() + 0.7**2 * square)
        expected += part * min(1.0, clip / norm)
    np.testing.assert_allclose(moments_sum(model, made, FEATURES, clip=clip), expected, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    scale=st.floats(0.0, 64.0),
    clip=st.floats(0.01, 3.0),
    seed=st.integers(0, 2**31),
)
def test_one_person_moves_no_sum_by_more_than_the_clip(
    rows: int, scale: float, clip: float, seed: int
) -> None:
    without = make(30)
    everybody = concatenate([without, person(rows, scale, seed)])
    moved = statistics_sum(everybody, FEATURES) - statistics_sum(without, FEATURES)
    assert np.linalg.norm(moved) <= statistics_layout(FEATURES).clip * (1 + 1e-9)
    for model in MODELS:
        moved = moments_sum(model, everybody, FEATURES, clip) - moments_sum(model, without, FEATURES, clip)
        assert np.linalg.norm(moved) <= clip * (1 + 1e-9)


def test_chunks_do_not_change_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    made = concatenate([make(60), person(40, 3.0, 1)])
    whole = statistics_sum(made, FEATURES), moments_sum(MODELS[0], made, FEATURES, 0.5)
    monkeypatch.setattr("hansa.clients.statistics.CHUNK", 7)
    np.testing.assert_allclose(statistics_sum(made, FEATURES), whole[0])
    np.testing.assert_allclose(moments_sum(MODELS[0], made, FEATURES, 0.5), whole[1])
