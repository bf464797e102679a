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
Options = Mapping[str, float | int | str | bool | list[int]]

# Rows worked on at a time, so that memory is bounded whatever the table.
CHUNK = 8192


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


def clip_scales(squares: Array, clip: Array) -> Array:
    """What gradients of these squared norms are multiplied by, to be at most `clip` long; 0 where one is not finite."""
    scales: Array = np.minimum(1.0, clip / np.sqrt(np.maximum(squares, 1e-300)))
    if not np.isfinite(squares.sum()):
        scales[~np.isfinite(squares)] = 0.0
    return scales
