"""Class weights: the weighted loss's gradient, never longer than the clip, and predictions of records as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hansa.contract.errors import InputError
from hansa.contract.features import (
    BinaryLabel,
    FeatureContract,
    Label,
    MulticlassLabel,
    NumericColumn,
    RegressionLabel,
)
from hansa.models.additive import AdditiveModel
from hansa.models.fit import fit
from hansa.models.linear import LinearModel
from hansa.models.mlp import MlpModel
from hansa.models.weighting import Weighting

COLUMNS = (NumericColumn(name="a", low=-2, high=2), NumericColumn(name="b", low=-2, high=2))
BINARY, CLASSES = BinaryLabel(prevalence=0.1), MulticlassLabel(classes=("x", "y", "z"))
MODELS = [
    (LinearModel, {}),
    (AdditiveModel, {}),
    (MlpModel, {"hidden": [5]}),
]
WEIGHTS: list[tuple[Label, list[float]]] = [(BINARY, [1.0, 9.0]), (CLASSES, [0.5, 2.0, 30.0])]


def contract(label: Label) -> FeatureContract:
    return FeatureContract(columns=COLUMNS, label=label)


def records(label: Label, rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    X = rng.uniform(-2, 2, (rows, 2))
    classes = 2 if isinstance(label, BinaryLabel) else 3
    return X, rng.integers(0, classes, rows).astype(np.float64)


@pytest.mark.parametrize(("kind", "options"), MODELS, ids=lambda it: getattr(it, "__name__", ""))
@pytest.mark.parametrize(("label", "weights"), WEIGHTS, ids=["binary", "classes"])
class TestEveryModel:
    def test_the_sum_is_that_of_each_class_times_its_weight(
        self, kind: Any, options: dict[str, Any], label: Label, weights: list[float]
    ) -> None:
        plain = kind(contract(label), options)
        weighted = kind(contract(label), {**options, "class_weights": weights})
        X, y = records(label)
        at = weighted.initial(3)
        apart = sum(
            weight / max(weights) * plain.gradient_sum(at, X[y == number], y[y == number])
            for number, weight in enumerate(weights)
        )
        np.testing.assert_allclose(weighted.gradient_sum(at, X, y), apart, rtol=2e-4, atol=2e-4)
        losses = sum(
            weight / max(weights) * plain.loss(at, X[y == n], y[y == n]) for n, weight in enumerate(weights)
        )
        assert weighted.loss(at, X, y) == pytest.approx(losses, rel=1e-5)

    def test_no_record_moves_a_sum_by_more_than_the_clip(
        self, kind: Any, options: dict[str, Any], label: Label, weights: list[float]
    ) -> None:
        model = kind(contract(label), {**options, "class_weights": weights})
        X, y = records(label)
        at = model.initial(3) + np.random.default_rng(1).normal(0, 3, model.parameters)
        norms = [
            float(np.linalg.norm(model.gradient_sum(at, X[i : i + 1], y[i : i + 1], clip=0.02)))
            for i in range(len(y))
        ]
        assert max(norms) <= 0.02 * (1 + 1e-3)
        assert max(norms) > 0.0199


def test_predictions_are_probabilities_of_the_records_as_they_are() -> None:
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (20_000, 2))
    y = (rng.random(len(X)) < 1 / (1 + np.exp(2.5 - X[:, 0]))).astype(np.float64)
    features = contract(BINARY)
    means = []
    for options in ({}, {"class_weights": [1.0, 8.0]}):
        model = LinearModel(features, options)
        predicted = model.predict(fit(model, model.initial(0), X, y), X)
        means.append(predicted.mean())
        top = predicted > np.quantile(predicted, 0.9)
        assert predicted[top].mean() == pytest.approx(y[top].mean(), abs=0.02)
    assert means[1] == pytest.approx(y.mean(), abs=0.01)


def test_a_start_predicts_the_declared_prevalence_whatever_the_weights() -> None:
    for options in ({}, {"class_weights": [0.2, 7]}):
        model = LinearModel(contract(BINARY), options)
        assert model.predict(model.initial(0), np.zeros((1, 2)))[0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("label", "given", "sentence"),
    [
        (BINARY, [1.0], "expected 2 numbers"),
        (BINARY, [0.0, 1.0], "from 0.001 to 1000"),
        (BINARY, [1.0, float("nan")], "from 0.001"),
        (BINARY, 3.0, "expected 2 numbers"),
        (BINARY, [True, 1.0], "expected 2 numbers"),
        (CLASSES, [1.0, 2.0], "one for each class"),
        (RegressionLabel(low=0, high=1), [1.0, 2.0], "a number has no classes"),
    ],
)
def test_weights_that_do_not_fit_are_said(label: Label, given: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Weighting(label, {"class_weights": given})
