"""What a model is: a function of flat weights and records, found by entry point.

Training rests on one primitive, `gradient_sum`: the sum over records of per-record
gradients, each first scaled to a bounded Euclidean norm. Plain and private training,
one step or many, are built from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hansa.contract.features import FeatureContract

Array = NDArray[np.float64]
Options = Mapping[str, float | int | str | bool | list[int] | list[float]]

# Rows worked on at a time, so that memory is bounded whatever the table.
CHUNK = 8192
# Rows of a whole block of a matrix product, a multiple of what any of its kernels takes at once.
BLOCK = 64
# Part of the clip that is asked of a model of single precision.
SINGLE = 1.0 - 1e-3


@runtime_checkable
class Model(Protocol):
    """Constructed as `Model(features, options)`; holds no weights and no records.

    X is f64[n, p] with p = len(features.encoded); y is f64[n]: 0/1 for binary, the class
    number for multiclass, label units for regression. Weights are one flat f64[d].
    """

    def __init__(self, features: FeatureContract, options: Options) -> None: ...

    @property
    def parameters(self) -> int:
        """d."""
        ...

    def initial(self, seed: int) -> Array:
        """Weights to start from, the same on every machine. Shape [d]."""
        ...

    def predict(self, weights: Array, X: Array) -> Array:
        """Probability [n] for binary, [n, k] for multiclass, label units [n] for regression."""
        ...

    def loss(self, weights: Array, X: Array, y: Array) -> float:
        """Sum over records of the loss whose gradient `gradient_sum` sums."""
        ...

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
        """Sum over records of per-record gradients, each scaled to norm <= clip. Shape [d].

        `clip` is one number or one for each record [n]; with it a record whose gradient is not
        finite counts as zeros, so that no weights make one record stand out. `dropout` is the
        share of hidden units left out, drawn from `rng`; models without hidden units ignore it.
        No record: zeros.
        """
        ...


def margin(model: Model) -> float:
    """Part of the charged clip that may be asked of a model: single precision moves norms and sums by less."""
    return SINGLE if getattr(model, "single_precision", False) else 1.0


def padded(rows: Array) -> Array:
    """The rows and behind them zero rows, to a multiple of `BLOCK`.

    A matrix product treats the rows of a last, short block in another order than the others. Without padding
    one record's coming moves others from the one to the other, and where weights cancel, or a unit lies at
    its kink, the last bit of a product decides how much such a record counts: more than one would move.
    """
    missing = -len(rows) % BLOCK
    if not missing:
        return rows
    return np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), dtype=rows.dtype)])


def clip_scales(squares: Array, clip: Array) -> Array:
    """What gradients of these squared norms are multiplied by, to be at most `clip` long; 0 where one is not finite."""
    scales: Array = np.minimum(1.0, clip / np.sqrt(np.maximum(squares, 1e-300)))
    if not np.isfinite(squares.sum()):
        scales[~np.isfinite(squares)] = 0.0
    return scales
