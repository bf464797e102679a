"""Logistic, softmax and least-squares regression with an intercept, in numpy.

Rows are scaled by a public constant so that a typical record has norm about 1: per-record
gradients then have norms near |residual|, and one clip and one rate fit all tables.
"""

from __future__ import annotations

import math

import numpy as np

from hansa.contract.errors import InputError
from hansa.contract.features import BinaryLabel, FeatureContract, Label, MulticlassLabel, NumericColumn
from hansa.models.model import CHUNK, Array, Options, clip_scales
from hansa.models.weighting import OPTION, Weighting


def typical_norm(features: FeatureContract) -> float:
    """Euclidean norm of a typical record with its intercept, from the contract alone.

    A number spread over [-2, 2] has a square near 1, a block of 0/1 columns near 1/2.
    """
    square = 1.0 + sum(1.0 if isinstance(column, NumericColumn) else 0.5 for column in features.columns)
    return math.sqrt(square)


def label_curvature(label: Label) -> float:
    """Mean second derivative of a record's loss by its output, where nothing is known of it but its label's kind."""
    if isinstance(label, BinaryLabel):
        return label.prevalence * (1.0 - label.prevalence)
    if isinstance(label, MulticlassLabel):
        return (1.0 - 1.0 / len(label.classes)) / len(label.classes)
    return 1.0


def curvature(features: FeatureContract, parameters: int) -> float:
    """Mean second derivative of the mean loss along one of so many weights, from public numbers.

    A row has norm about 1, shared by all that stands in it.
    """
    return label_curvature(features.label) * features.outputs / parameters


class RowModel:
    """A model whose outputs are linear in a row made of the record: one weight a number of it and output.

    Weights are [columns + 1, k] flattened, intercepts last. This one's row is the record itself.
    """

    name = "row"

    def __init__(self, features: FeatureContract, options: Options) -> None:
        unknown = sorted(set(options) - {OPTION})
        if unknown:
            raise InputError(f"model '{self.name}' has no option '{unknown[0]}'; it takes '{OPTION}'")
        self.weighting = Weighting(features.label, options)
        self._columns = len(features.encoded)
        self._outputs = features.outputs
        self._scale = 1.0 / typical_norm(features)

    @property
    def intercept(self) -> float:
        """What stands in every row of `design` for the intercept; public."""
        return self._scale

    def design(self, X: Array) -> Array:
        """Rows z of which outputs are linear functions, scaled by the public constant. Shape [n, columns + 1]."""
        columns = self._expanded(X)
        return self._scale * np.column_stack([columns, np.ones(len(columns))])

    @property
    def parameters(self) -> int:
        """(columns + 1) k."""
        return (self._columns + 1) * self._outputs

    def initial(self, seed: int) -> Array:
        """Zeros, and the log-odds of the public prevalence; the seed does not matter: the loss is convex."""
        weights = np.zeros((self._columns + 1, self._outputs))
        weights[-1] = self.weighting.initial_outputs() / self._scale
        return weights.ravel()

    def predict(self, weights: Array, X: Array) -> Array:
        """See `Model.predict`."""
        return self.weighting.predictions(self._forward(weights, X))

    def loss(self, weights: Array, X: Array, y: Array) -> float:
        """See `Model.loss`."""
        return float(self.weighting.losses(self._forward(weights, X), y).sum())

    # What overflows is not finite, and `clip_scales` makes such a record count as zeros.
    @np.errstate(over="ignore", invalid="ignore")
    def gradient_sum(
        self,
        weights: Array,
        X: Array,
        y: Array,
        *,
        clip: float | Array | None = None,
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """See `Model.gradient_sum`; a record's gradient is residual x row, so its norm is their product."""
        total = np.zeros((self._columns + 1, self._outputs))
        limits = None if clip is None else np.broadcast_to(np.asarray(clip, dtype=np.float64), len(X))
        for start in range(0, len(X), CHUNK):
            rows = self._expanded(X[start : start + CHUNK])
            delta = self.weighting.residuals(self._outputs_of(weights, rows), y[start : start + CHUNK])
            if limits is not None:
                row_square = self._scale**2 * (np.einsum("ij,ij->i", rows, rows) + 1.0)
                square = row_square * np.einsum("ij,ij->i", delta, delta)
                delta[~np.isfinite(square)] = 0.0
                delta *= clip_scales(square, limits[start : start + CHUNK])[:, None]
            total[:-1] += self._scale * (rows.T @ delta)
            total[-1] += self._scale * delta.sum(axis=0)
        return total.ravel()

    def _forward(self, weights: Array, X: Array) -> Array:
        outputs = np.empty((len(X), self._outputs))
        for start in range(0, len(X), CHUNK):
            rows = self._expanded(X[start : start + CHUNK])
            outputs[start : start + CHUNK] = self._outputs_of(weights, rows)
        return outputs

    def _outputs_of(self, weights: Array, rows: Array) -> Array:
        matrix = weights.reshape(self._columns + 1, self._outputs)
        # Row by row, not as a matrix product: see `models.model.padded`.
        products = [np.einsum("ij,j->i", rows, column) for column in np.ascontiguousarray(matrix[:-1].T)]
        outputs: Array = self._scale * (np.column_stack(products) + matrix[-1])
        return outputs

    def _expanded(self, X: Array) -> Array:
        """Columns that have a weight, made of the model's columns; here the same ones. Shape [n, columns]."""
        return X


class LinearModel(RowModel):
    """One weight per model column and output; weights are [p + 1, k] flattened, intercepts last."""

    name = "linear"

    def folded(self, weights: Array, centre: Array, scale: Array) -> Array:
        """See `preparation.Foldable`."""
        matrix = weights.reshape(self._columns + 1, self._outputs).copy()
        matrix[:-1] *= scale[:, None]
        matrix[-1] -= centre @ matrix[:-1]
        return matrix.ravel()
