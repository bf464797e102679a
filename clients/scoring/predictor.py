"""A served model, made ready: from encoded rows to predictions, many at a time or one.

Linear and additive models become one matrix, stacks of layers are run without the padding that training needs; any
other model is asked as agents ask it. Each is tried on the file's own check before it serves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import mul
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hansa.clients.personal import SMALLEST_ODDS
from hansa.clients.scoring.model_file import ModelFile
from hansa.contract.errors import InputError
from hansa.contract.features import BinaryLabel, FeatureContract, Label, RegressionLabel
from hansa.contract.segments import PREPARATION
from hansa.models.linear import LinearModel, RowModel
from hansa.models.losses import predictions
from hansa.models.mlp import MlpModel
from hansa.models.model import Model
from hansa.models.preparation import Preparation, prepared_model

Array = NDArray[np.float64]
Federated = Callable[[Array], Array]
Score = float | list[float]

# Predictions may differ from the check's by this much: single precision in a stack of layers, at most.
TOLERANCE = 1e-5


class Predictor(Protocol):
    """Predicts: probability, probabilities by class, or a number in label units."""

    def many(self, X: Array) -> Array:
        """Of encoded rows f64[n, p]: [n], or [n, k] for k classes."""
        ...

    def one(self, row: list[float]) -> Score:
        """Of one encoded row."""
        ...


def make_predictor(file: ModelFile) -> Predictor:
    """The fastest way to this model's predictions.

    Raises
    ------
    InputError : the model is not installed, or does not come to the predictions in the file
    """
    features = file.facts.features
    preparation = (
        Preparation.read(file.tensors[PREPARATION], features) if PREPARATION in file.tensors else None
    )
    model = prepared_model(file.facts.model, features, preparation)
    weights = file.tensors["weights"]
    if weights.shape != (model.parameters,):
        raise InputError(
            f"model '{file.facts.model.name}': {weights.size} weights in the file, {model.parameters} in the contract's"
        )
    label = features.label
    predictor: Predictor
    if type(model) is LinearModel and features.outputs == 1:
        if preparation is not None:
            weights = model.folded(weights, preparation.centre, preparation.scale)
        # A row of `design` is scaled as a whole; what class weights add to an output comes off once.
        scaled = model.intercept * weights
        scaled[-1] -= model.weighting.prior[0]
        predictor = _OneLine(scaled, file, label)
    else:
        predictor = _Composed(_federated(model, weights, preparation, features), file, label)
    _check(predictor, file)
    return predictor


class _Composed:
    """The federated model's predictions by one function, then the organisation's own version as agents have it."""

    def __init__(self, federated: Federated, file: ModelFile, label: Label) -> None:
        self._federated, self._label, self._personal = federated, label, file.personal

    def many(self, X: Array) -> Array:
        federated = self._federated(X)
        return federated if self._personal is None else self._personal.predict(federated, X, self._label)

    def one(self, row: list[float]) -> Score:
        score: Score = self.many(np.array([row]))[0].tolist()
        return score


class _OneLine(_Composed):
    """A linear model with one output: a row costs two sums in plain Python."""

    def __init__(self, weights: Array, file: ModelFile, label: Label) -> None:
        columns, intercept = weights[:-1].copy(), float(weights[-1])
        super().__init__(lambda X: predictions((X @ columns + intercept)[:, None], label), file, label)
        self._columns, self._intercept = columns.tolist(), intercept
        self._link, self._score = _links(label)
        own = file.personal
        self._own = None if own is None else (own.shift, own.factor, own.weights.tolist())

    def one(self, row: list[float]) -> Score:
        federated = self._link(self._intercept + sum(map(mul, row, self._columns)))
        if self._own is None:
            return federated
        shift, factor, weights = self._own
        return self._link(shift + factor * self._score(federated) + sum(map(mul, row, weights)))


def _links(label: Label) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """`losses.predictions` and `personal.federated_score` of one number."""
    if isinstance(label, RegressionLabel):
        middle, half, low, high = (
            (label.low + label.high) / 2,
            (label.high - label.low) / 2,
            label.low,
            label.high,
        )
        return (
            lambda output: min(max(middle + half * output, low), high),
            lambda value: (min(max(value, low), high) - middle) / half,
        )
    assert isinstance(label, BinaryLabel)
    tanh, log = math.tanh, math.log
    return (
        lambda output: 0.5 * (1.0 + tanh(0.5 * output)),
        lambda chance: log(max(chance, SMALLEST_ODDS)) - log(max(1.0 - chance, SMALLEST_ODDS)),
    )


def _federated(
    model: Model, weights: Array, preparation: Preparation | None, features: FeatureContract
) -> Federated:
    """What the federated model predicts, of encoded rows."""

    def prepared(X: Array) -> Array:
        return X if preparation is None else preparation.apply(X)

    if isinstance(model, RowModel):
        matrix = weights.reshape(-1, features.outputs)
        return lambda X: model.weighting.predictions(model.design(prepared(X)) @ matrix)
    if type(model) is MlpModel:
        layers = model.layers(weights)

        def forward(X: Array) -> Array:
            hidden = prepared(X).astype(np.float32)
            for layer in layers[:-1]:
                hidden = np.maximum(hidden @ layer[:-1] + layer[-1], np.float32(0.0))
            return model.weighting.predictions((hidden @ layers[-1][:-1] + layers[-1][-1]).astype(np.float64))

        return forward
    return lambda X: model.predict(weights, prepared(X))


def _check(predictor: Predictor, file: ModelFile) -> None:
    rows, scores = file.tensors["check.rows"], file.tensors["check.scores"]
    label = file.facts.features.label
    unit = label.high - label.low if isinstance(label, RegressionLabel) else 1.0
    many = predictor.many(rows)
    one = np.array([predictor.one(row) for row in rows.tolist()])
    for found in (many, one):
        if found.shape != scores.shape or not np.abs(found - scores).max() <= TOLERANCE * unit:
            raise InputError(
                f"model '{file.facts.model.name}': does not come to the predictions that stand in the file; "
                "the installed code is another one than the file was written with"
            )
