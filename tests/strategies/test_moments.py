"""From noised moments to a model: as good as the plain fit without noise, finite under any noise."""

from __future__ import annotations

import numpy as np
import pytest

from hansa.clients.data.dataset import Dataset
from hansa.clients.statistics import moments_sum
from hansa.contract.features import BinaryLabel, FeatureContract, Label, NumericColumn, RegressionLabel
from hansa.models.fit import fit
from hansa.models.linear import LinearModel
from hansa.models.metrics import auc, log_loss, rmse
from hansa.strategies.moments import solve

COLUMNS = tuple(NumericColumn(name=f"n{number}", low=-2, high=2) for number in range(6))
BINARY = FeatureContract(columns=COLUMNS, label=BinaryLabel(prevalence=0.4))
NUMBER = FeatureContract(columns=COLUMNS, label=RegressionLabel(low=-10.0, high=30.0))
TRUTH = np.array([1.2, -0.8, 0.5, 0.0, 0.0, 0.3])


def make(rows: int, label: Label, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    X = np.clip(rng.normal(size=(rows, 6)), -2, 2)
    score = X @ TRUTH - 0.7
    if isinstance(label, BinaryLabel):
        y = (score + rng.logistic(size=rows) > 0).astype(float)
    else:
        y = np.clip(10.0 + 3.0 * score + rng.normal(size=rows), label.low, label.high)
    return Dataset(X, y, np.array([f"{seed}-{row}".encode() for row in range(rows)]))


def test_without_noise_or_clipping_a_number_is_fitted_exactly() -> None:
    made, model = make(800, NUMBER.label), LinearModel(NUMBER, {})
    weights = solve(moments_sum(model, made, NUMBER, 1e6), 0.0, model, NUMBER)
    rows = np.column_stack([made.X, np.ones(800)])
    least, *_ = np.linalg.lstsq(rows, (made.y - 10.0) / 20.0, rcond=None)
    np.testing.assert_allclose(weights * model.intercept, least, atol=1e-4)
    assert rmse(model.predict(weights, made.X), made.y) < 1.1


def test_without_noise_a_binary_label_is_predicted_as_logistic_regression_does() -> None:
    made, test, model = make(3000, BINARY.label), make(3000, BINARY.label, 1), LinearModel(BINARY, {})
    solved = solve(moments_sum(model, made, BINARY, 0.5), 0.0, model, BINARY)
    fitted = fit(model, model.initial(0), made.X, made.y)
    ours, best = (model.predict(weights, test.X) for weights in (solved, fitted))
    assert auc(ours, test.y) > auc(best, test.y) - 0.002
    # Recalibrated: the scores of least squares alone lose far more.
    assert log_loss(ours, test.y) < log_loss(best, test.y) + 0.01
    assert ours.mean() == pytest.approx(test.y.mean(), abs=0.03)


@pytest.mark.parametrize("features", [BINARY, NUMBER], ids=["binary", "regression"])
def test_more_noise_predicts_less_but_never_nonsense(features: FeatureContract) -> None:
    made, test, model = make(1500, features.label), make(1500, features.label, 1), LinearModel(features, {})
    sums = moments_sum(model, made, features, 0.5)
    worth = []
    for noise in (0.0, 5.0, 2000.0):
        rng = np.random.default_rng(3)
        losses = []
        for _ in range(50):
            weights = solve(sums + noise * rng.normal(size=sums.size), noise, model, features)
            assert np.isfinite(weights).all()
            predicted = model.predict(weights, test.X)
            if features is BINARY:
                losses.append(1.0 - auc(predicted, test.y))
            else:
                losses.append(rmse(predicted, test.y))
        worth.append(float(np.mean(losses)))
    assert worth[0] < worth[1] < worth[2]
    assert worth[1] < worth[0] + 0.3 * (worth[2] - worth[0])


def test_the_penalty_follows_the_noise_that_is_known_to_be_there() -> None:
    made, test, model = make(300, BINARY.label), make(3000, BINARY.label, 1), LinearModel(BINARY, {})
    sums, noise = moments_sum(model, made, BINARY, 0.5), 6.0
    rng = np.random.default_rng(0)
    known, ignored = [], []
    for _ in range(60):
        noised = sums + noise * rng.normal(size=sums.size)
        for told, reached in ((noise, known), (0.0, ignored)):
            reached.append(auc(model.predict(solve(noised, told, model, BINARY), test.X), test.y))
    assert np.mean(known) > np.mean(ignored) + 0.02
