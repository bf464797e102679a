"""Exact figures, and the released ones that come from summed histograms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_records import LABELS, contract

from hansa.contract.features import BinaryLabel
from hansa.contract.segments import evaluation_length
from hansa.models import metrics
from hansa.models.scores import figures, score_histogram


def slow_auc(scores: np.ndarray, y: np.ndarray) -> float:
    positives, negatives = scores[y == 1], scores[y == 0]
    wins = (positives[:, None] > negatives).sum() + 0.5 * (positives[:, None] == negatives).sum()
    return wins / (len(positives) * len(negatives))


def ids(rows: int) -> np.ndarray:
    return np.array([f"{row:032x}" for row in range(rows)], dtype="S32")


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60))
def test_auc_counts_pairs_and_ties_at_half(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([float(score) for score, _ in pairs])
    y = np.array([float(label) for _, label in pairs])
    if 0 < y.sum() < len(y):
        assert metrics.auc(scores, y) == pytest.approx(slow_auc(scores, y))
        assert metrics.auc(-scores, y) == pytest.approx(1 - metrics.auc(scores, y))
        assert metrics.auc(np.exp(scores), y) == pytest.approx(metrics.auc(scores, y))
    else:
        assert math.isnan(metrics.auc(scores, y))


def calibrated(rows: int, prevalence: float, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    log_odds = math.log(prevalence / (1 - prevalence)) + spread * rng.normal(size=rows)
    chance = 1 / (1 + np.exp(-log_odds))
    return chance, (rng.random(rows) < chance).astype(float)


@pytest.mark.parametrize("prevalence", [0.02, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_released_figures_lie_close_to_the_exact_ones(prevalence: float, spread: float) -> None:
    features = contract(BinaryLabel(prevalence=prevalence))
    chance, y = calibrated(40_000, prevalence, spread, 1)
    released = figures(features, score_histogram(features, y, chance, ids(len(y)), 10))
    assert released["auc"].value == pytest.approx(metrics.auc(chance, y), abs=0.01)
    assert released["log_loss"].value == pytest.approx(metrics.log_loss(chance, y), abs=0.015)
    assert released["accuracy"].value == pytest.approx(metrics.accuracy(chance, y), abs=0.01)
    assert released["calibration"].value < 0.06


def test_the_correction_halves_the_error_of_binning() -> None:
    features = contract(BinaryLabel())
    chance, y = calibrated(60_000, 0.5, 1.0, 2)
    histogram = score_histogram(features, y, chance, ids(len(y)), 5)
    negatives, positives = np.split(histogram, 2)
    plain = positives @ (np.cumsum(negatives) - negatives / 2) / (positives.sum() * negatives.sum())
    exact = metrics.auc(chance, y)
    assert abs(figures(features, histogram)["auc"].value - exact) < 0.5 * abs(plain - exact)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from(sorted(LABELS)))
def test_an_entity_counts_one_however_many_rows_it_has(copies: int, seed: int, kind: str) -> None:
    features = contract(LABELS[kind])
    rng = np.random.default_rng(seed)
    y = np.full(copies, {"binary": 1.0, "multiclass": 2.0, "regression": 3.0}[kind])
    predicted = rng.dirichlet(np.ones(3), copies) if kind == "multiclass" else rng.random(copies)
    vector = score_histogram(features, y, predicted, np.full(copies, b"same"), 10)
    assert vector.shape == (evaluation_length(features, 10),)
    assert (vector >= 0).all()
    assert vector.max() <= 1 + 1e-9
    total = vector.sum() if kind == "binary" else vector[0]
    assert total == pytest.approx(1.0)


@given(st.integers(0, 2**32 - 1))
def test_vectors_of_members_add_up_to_that_of_all(seed: int) -> None:
    features = contract(LABELS["binary"])
    chance, y = calibrated(50, 0.3, 1.5, seed)
    parts = [
        score_histogram(features, y[part], chance[part], ids(50)[part], 10)
        for part in (slice(20), slice(20, 50))
    ]
    np.testing.assert_allclose(sum(parts), score_histogram(features, y, chance, ids(50), 10))


def test_regression_and_multiclass_sums_give_the_exact_figures() -> None:
    rng = np.random.default_rng(0)
    features = contract(LABELS["regression"])
    y, predicted = rng.uniform(-5, 15, 100), rng.uniform(-5, 15, 100)
    released = figures(features, score_histogram(features, y, predicted, ids(100), 10))
    assert released["rmse"].value == pytest.approx(metrics.rmse(predicted, y))
    assert released["mae"].value == pytest.approx(metrics.mae(predicted, y))
    features = contract(LABELS["multiclass"])
    y, predicted = rng.integers(0, 3, 100).astype(float), rng.dirichlet(np.ones(3), 100)
    released = figures(features, score_histogram(features, y, predicted, ids(100), 10))
    assert released["accuracy"].value == pytest.approx(metrics.accuracy(predicted, y))
    assert released["log_loss"].value == pytest.approx(metrics.log_loss(predicted, y))


def test_what_a_histogram_does_not_determine_is_left_out() -> None:
    features = contract(LABELS["binary"])
    assert figures(features, np.zeros(20)) == {}
    only_negatives = score_histogram(features, np.zeros(5), np.full(5, 0.2), ids(5), 10)
    assert "auc" not in figures(features, only_negatives)
    # Sums of noised counts may be slightly negative.
    noised = only_negatives - 0.4
    assert all(math.isfinite(figure.value) for figure in figures(features, noised).values())


def test_certain_and_impossible_predictions_have_a_bin() -> None:
    features = contract(LABELS["binary"])
    histogram = score_histogram(features, np.array([0.0, 1.0]), np.array([0.0, 1.0]), ids(2), 10)
    assert histogram.sum() == 2
    assert figures(features, histogram)["auc"].value > 0.99
