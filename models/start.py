"""A model to start a job from: the name of its weights, and whether weights are those of the name."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from hansa.contract.jobs import WarmStart

Array = NDArray[np.float64]


def weights_digest(weights: Array) -> str:
    """SHA-256 of weights as little-endian f64, hex."""
    return hashlib.sha256(np.ascontiguousarray(weights, dtype="<f8").tobytes()).hexdigest()


def is_start(weights: Array, start: WarmStart) -> bool:
    """Whether these are the weights that a job's plan names."""
    return weights.shape == (start.parameters,) and weights_digest(weights) == start.weights
