"""One record more moves a clipped sum by the clip and nothing else, whatever the weights: position is not data."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from small_records import contract

from hansa.contract.features import BinaryLabel, Label, MulticlassLabel, RegressionLabel
from hansa.contract.segments import evaluation_clip
from hansa.models.linear import LinearModel
from hansa.models.mlp import MlpModel
from hansa.models.model import Model, margin
from hansa.models.scores import score_histogram

CLIP = 0.05
HIDDEN = 7
LABELS: tuple[Label, ...] = (BinaryLabel(), MulticlassLabel(classes=("a", "b", "c")))


def ids(rows: int) -> np.ndarray:
    return np.array([f"{row:032x}" for row in range(rows)], dtype="S32")


def cancelling(model: Model, rng: np.random.Generator, row: np.ndarray, size: float) -> np.ndarray:
    """Weights under which the first layer's products all but cancel for this row: their last bits decide."""
    weights = model.initial(0) if isinstance(model, MlpModel) else np.zeros(model.parameters)
    units = HIDDEN if isinstance(model, MlpModel) else model.parameters // (len(row) + 1)
    first = weights[: (len(row) + 1) * units].reshape(len(row) + 1, units)
    first[:-1] = size * rng.normal(size=(len(row), units))
    # In the precision in which the model works.
    exact = np.float32 if isinstance(model, MlpModel) else np.float64
    first[-1] = -(row.astype(exact)[None] @ first[:-1].astype(exact))[0]
    return weights


@pytest.mark.parametrize("size", [1.0, 1e3, 1e6, 1e18])
@pytest.mark.parametrize("label", LABELS, ids=["binary", "classes"])
@pytest.mark.parametrize("kind", [LinearModel, MlpModel])
def test_a_record_moves_a_sum_by_its_clip(kind: type[Model], label: Label, size: float) -> None:
    features = contract(label, numbers=64)
    model = kind(features, {"hidden": [HIDDEN]} if kind is MlpModel else {})
    rng = np.random.default_rng(2)
    for _ in range(10):
        row = rng.uniform(-2.0, 2.0, len(features.encoded)).astype(np.float32).astype(np.float64)
        weights = cancelling(model, rng, row, size)
        # Like-minded records: whatever flips one of them flips all that lie in its place.
        X, y = np.tile(row, (40, 1)), np.ones(40)
        sums = [model.gradient_sum(weights, X[:n], y[:n], clip=CLIP) for n in range(1, 41)]
        moves = [float(np.linalg.norm(after - before)) for before, after in pairwise(sums)]
        # What single precision adds lies within the margin that training keeps.
        assert margin(model) * max(moves) <= CLIP * (1 + 1e-9)


@pytest.mark.parametrize("label", LABELS, ids=["binary", "classes"])
@pytest.mark.parametrize("kind", [LinearModel, MlpModel])
def test_a_record_moves_the_figures_by_its_one_count(kind: type[Model], label: Label) -> None:
    features = contract(label)
    model = kind(features, {"hidden": [HIDDEN]} if kind is MlpModel else {})
    rng = np.random.default_rng(3)
    row = rng.normal(size=len(features.encoded))
    weights = cancelling(model, rng, row, 1e6)
    X = np.tile(row, (140, 1))
    y = np.zeros(140)
    before = None
    for n in range(1, 140):
        histogram = score_histogram(features, y[:n], model.predict(weights, X[:n]), ids(n), 10)
        if before is not None:
            assert np.linalg.norm(histogram - before) <= evaluation_clip(features) * (1 + 1e-9)
        before = histogram


@pytest.mark.parametrize("label", [*LABELS, RegressionLabel(low=0.0, high=10.0)], ids=["2", "3", "number"])
@pytest.mark.parametrize("kind", [LinearModel, MlpModel])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_weights_make_a_record_that_figures_refuse(kind: type[Model], label: Label) -> None:
    """Else an evaluation would say of one record whether it is there, before any noise."""
    features = contract(label)
    model = kind(features, {})
    rng = np.random.default_rng(5)
    X = rng.normal(size=(200, len(features.encoded)))
    y = np.zeros(200)
    for size in (1e30, 1e150, 1e308):
        weights = rng.choice([-size, size], model.parameters)
        whole = score_histogram(features, y, model.predict(weights, X), ids(200), 10)
        without = score_histogram(features, y[1:], model.predict(weights, X[1:]), ids(200)[1:], 10)
        assert np.isfinite(whole).all()
        assert np.linalg.norm(whole - without) <= evaluation_clip(features) * (1 + 1e-9)
