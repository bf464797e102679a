"""Exact figures of predictions on records, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hansa.contract.features import BinaryLabel, Label, MulticlassLabel

Array = NDArray[np.float64]

# Probabilities are kept this far from 0 and 1 in a log-loss.
TINY = 1e-12


def auc(scores: Array, y: Array) -> float:
    """Area under the ROC curve by ranks, ties at half; NaN with one class only. Shapes [n], y in {0, 1}."""
    positives = float(y.sum())
    negatives = len(y) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(middle_rank[inverse][y == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def log_loss(probabilities: Array, y: Array) -> float:
    """Mean negative log-likelihood; probabilities [n] of yes, or [n, k] with class numbers in y."""
    if probabilities.ndim == 1:
        truth = np.where(y == 1, probabilities, 1.0 - probabilities)
    else:
        truth = probabilities[np.arange(len(y)), y.astype(np.intp)]
    return float(-np.log(np.clip(truth, TINY, 1.0)).mean())


def accuracy(probabilities: Array, y: Array) -> float:
    """Share of records whose likelier class is the true one."""
    chosen = probabilities >= 0.5 if probabilities.ndim == 1 else probabilities.argmax(axis=1)
    return float((chosen == y).mean())


def rmse(predicted: Array, y: Array) -> float:
    """Root mean squared error, in label units."""
    return float(np.sqrt(np.mean((predicted - y) ** 2)))


def mae(predicted: Array, y: Array) -> float:
    """Mean absolute error, in label units."""
    return float(np.mean(np.abs(predicted - y)))


def figures(predicted: Array, y: Array, label: Label) -> dict[str, float]:
    """All figures of a label kind, exact; none without records. NaN where a figure is undefined."""
    if len(y) == 0:
        return {}
    if isinstance(label, BinaryLabel):
        return {
            "auc": auc(predicted, y),
            "log_loss": log_loss(predicted, y),
            "accuracy": accuracy(predicted, y),
        }
    if isinstance(label, MulticlassLabel):
        return {"log_loss": log_loss(predicted, y), "accuracy": accuracy(predicted, y)}
    return {"rmse": rmse(predicted, y), "mae": mae(predicted, y)}
