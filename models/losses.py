"""From a model's raw outputs to predictions and gradients, by label kind.

binary      sigmoid, log-loss                       outputs [n, 1]
multiclass  softmax, log-loss                       outputs [n, k]
regression  identity, half the squared error        outputs [n, 1], label scaled to [-1, 1]
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hansa.contract.features import BinaryLabel, Label, MulticlassLabel, RegressionLabel

Array = NDArray[np.float64]


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)) without overflow."""
    chance: Array = 0.5 * (1.0 + np.tanh(0.5 * z))
    return chance


def softmax(z: Array) -> Array:
    """Row-wise softmax. Shape [n, k]."""
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def predictions(outputs: Array, label: Label) -> Array:
    """What a person reads: probability [n], probabilities [n, k], or label units [n] clipped to the range."""
    if isinstance(label, BinaryLabel):
        return sigmoid(outputs[:, 0])
    if isinstance(label, MulticlassLabel):
        return softmax(outputs)
    return np.clip(_middle(label) + _half(label) * outputs[:, 0], label.low, label.high)


def residuals(outputs: Array, y: Array, label: Label) -> Array:
    """d loss / d outputs, per record. Shape of `outputs`; `y` is [n] (class number for multiclass)."""
    if isinstance(label, BinaryLabel):
        return sigmoid(outputs) - y[:, None]
    if isinstance(label, MulticlassLabel):
        delta = softmax(outputs)
        delta[np.arange(len(y)), y.astype(np.intp)] -= 1.0
        return delta
    return outputs - scaled_label(y, label)[:, None]


def losses(outputs: Array, y: Array, label: Label) -> Array:
    """The loss of each record. Shape [n]."""
    if isinstance(label, BinaryLabel):
        z = outputs[:, 0]
        return np.logaddexp(0.0, z) - y * z
    if isinstance(label, MulticlassLabel):
        largest = outputs.max(axis=1)
        total = np.log(np.exp(outputs - largest[:, None]).sum(axis=1)) + largest
        missed: Array = total - outputs[np.arange(len(y)), y.astype(np.intp)]
        return missed
    return 0.5 * (outputs[:, 0] - scaled_label(y, label)) ** 2


def initial_outputs(label: Label) -> Array:
    """Outputs to start from: the log-odds of the public prevalence, else zeros. Shape [k]."""
    if isinstance(label, BinaryLabel):
        return np.array([math.log(label.prevalence / (1.0 - label.prevalence))])
    return np.zeros(len(label.classes) if isinstance(label, MulticlassLabel) else 1)


def scaled_label(y: Array, label: RegressionLabel) -> Array:
    """A number in label units, clipped to its range, as [-1, 1]."""
    return (np.clip(y, label.low, label.high) - _middle(label)) / _half(label)


def _middle(label: RegressionLabel) -> float:
    return (label.low + label.high) / 2


def _half(label: RegressionLabel) -> float:
    return (label.high - label.low) / 2
