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
        clip: float | None = None,
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """Sum over records of per-record gradients, each scaled to norm <= clip. Shape [d].

        `dropout` is the share of hidden units left out, drawn from `rng`; models without
        hidden units ignore it. No record: zeros.
        """
        ...
