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


def test_without_noise_there_is_no_error() -> None:
    for kind in sorted(LABELS):
        assert all(it.error is None for it in figures(contract(LABELS[kind]), summed(kind, 300, 1)).values())


def summed(kind: str, rows: int, seed: int, prevalence: float = 0.3, spread: float = 1.5) -> np.ndarray:
    """The vector of a model that is right but for chance."""
    rng = np.random.default_rng(seed)
    if kind == "binary":
        features = contract(BinaryLabel(prevalence=prevalence))
        predicted, y = calibrated(rows, prevalence, spread, seed)
    elif kind == "multiclass":
        features, predicted = contract(LABELS[kind]), rng.dirichlet(np.ones(3), rows)
        y = np.array([rng.choice(3, p=chance) for chance in predicted]).astype(float)
    else:
        features, predicted = contract(LABELS[kind]), rng.uniform(-3, 8, rows)
        y = predicted + rng.normal(size=rows)
    return score_histogram(features, y, predicted, ids(rows), 10)


REPEATED = 1500
# Standard deviation of the noise in the sum, and how few records there are.
NOISED = {
    "many records": ("binary", 2000, 0.3, 1.5, 5.0),
    "more noise": ("binary", 2000, 0.3, 1.5, 20.0),
    "few positives": ("binary", 1000, 0.08, 1.0, 5.0),
    "few records, much noise": ("binary", 400, 0.2, 1.0, 15.0),
    "rare": ("binary", 20_000, 0.02, 1.0, 30.0),
    "every score alike": ("binary", 5000, 0.5, 0.0, 20.0),
    "three classes": ("multiclass", 500, 0.0, 0.0, 20.0),
    "a number": ("regression", 500, 0.0, 0.0, 20.0),
}


@pytest.mark.parametrize("name", NOISED)
def test_as_many_noised_figures_lie_within_one_two_and_three_errors_as_that_means(name: str) -> None:
    kind, rows, prevalence, spread, noise_sd = NOISED[name]
    features = contract(BinaryLabel(prevalence=prevalence) if kind == "binary" else LABELS[kind])
    vector, rng = summed(kind, rows, 1, prevalence, spread), np.random.default_rng(2)
    exact = figures(features, vector)
    away: dict[str, list[float]] = {figure: [] for figure in exact}
    for _ in range(REPEATED):
        noised = vector + noise_sd * rng.normal(size=vector.size)
        for figure, metric in figures(features, noised, noise_sd=noise_sd).items():
            assert metric.error is not None
            away[figure].append(abs(metric.value - exact[figure].value) / metric.error)
    for figure, distances in away.items():
        # Of figures that are seldom determined, too.
        found = np.array(distances)
        assert len(found) > 0.1 * REPEATED, figure
        allowed = 4 * math.sqrt(0.25 / len(found))
        # Roots are no smaller than 0, and what lies in one bin has no known order: these are on the safe side.
        assert (found <= 1).mean() > min(0.683 - allowed, 0.6), (figure, (found <= 1).mean())
        if figure in ("log_loss", "accuracy", "mae"):
            assert (found <= 1).mean() < 0.683 + allowed + 0.05, (figure, (found <= 1).mean())
        assert (found <= 2).mean() > 0.925, (figure, (found <= 2).mean())
        assert (found <= 3).mean() > 0.985, (figure, (found <= 3).mean())


@pytest.mark.parametrize("noise_sd", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("rows", [200, 400, 1000, 5000, 20_000])
@pytest.mark.parametrize("prevalence", [0.05, 0.1, 0.5])
def test_two_errors_hold_for_nine_of_ten_noised_figures(
    prevalence: float, rows: int, noise_sd: float
) -> None:
    """Of models that are right and that are not; small tables have bins that noise hides."""
    features, rng = contract(BinaryLabel(prevalence=prevalence)), np.random.default_rng([rows, int(noise_sd)])
    draws = 60 if noise_sd > 0 else 1
    near: dict[str, list[list[bool]]] = {}
    for wrong in (0.0, 0.8) * 3:
        y = (np.arange(rows) < prevalence * rows).astype(np.float64)
        log_odds = (y - 0.5 + rng.normal(size=rows)) * (1.0 + wrong) + wrong
        chance = 1.0 / (1.0 + np.exp(-log_odds) * (1.0 - prevalence) / prevalence)
        vector = score_histogram(features, y, chance, ids(rows), 10)
        exact = figures(features, vector)
        for figure in exact:
            near.setdefault(figure, []).append([])
        for _ in range(draws):
            noised = vector + noise_sd * rng.normal(size=vector.size)
            for figure, metric in figures(features, noised, noise_sd=noise_sd).items():
                error = 0.0 if metric.error is None else metric.error
                near[figure][-1].append(abs(metric.value - exact[figure].value) <= 2.0 * error)
    assert {"log_loss", "accuracy", "calibration"} <= set(near)
    for figure, tables in near.items():
        # Where few are shown those are a selection, see `figures`.
        shown = [held for held in tables if len(held) >= draws / 2]
        assert not shown or np.mean(np.concatenate(shown)) >= 0.9, figure
        assert all(np.mean(held) >= 0.8 for held in shown), (figure, [np.mean(held) for held in shown])


@pytest.mark.parametrize("name", ["many records", "few positives", "rare"])
def test_noise_moves_no_figure_in_the_mean(name: str) -> None:
    kind, rows, prevalence, spread, noise_sd = NOISED[name]
    features = contract(BinaryLabel(prevalence=prevalence))
    vector, rng = summed(kind, rows, 1, prevalence, spread), np.random.default_rng(3)
    exact = figures(features, vector)
    found: dict[str, list[float]] = {figure: [] for figure in exact}
    for _ in range(REPEATED):
        noised = figures(features, vector + noise_sd * rng.normal(size=vector.size), noise_sd=noise_sd)
        for figure, metric in noised.items():
            found[figure].append(metric.value)
    for figure in ("auc", "log_loss", "accuracy"):
        deviation = float(np.std(found[figure]))
        limit = (4 / math.sqrt(REPEATED) + 0.03) * deviation
        assert abs(np.mean(found[figure]) - exact[figure].value) < limit, figure


def test_a_figure_that_drowns_in_noise_is_left_out() -> None:
    features = contract(BinaryLabel(prevalence=0.1))
    vector, rng = summed("binary", 300, 1, 0.1, 1.0), np.random.default_rng(4)
    left_out = [
        name
        for _ in range(200)
        for name in {"auc", "log_loss"}
        - set(figures(features, vector + 60.0 * rng.normal(size=20), noise_sd=60.0))
    ]
    assert left_out.count("auc") > 0.95 * 200
    assert left_out.count("log_loss") > 0.8 * 200
