"""Figures as they are released: from bounded sums that can be added over members.

Each entity counts 1 in all: a row weighs one over the number of its entity's rows, so no
entity moves any coordinate by more than 1. By label kind the vector holds

    binary      counts of negatives by bin of the score, then of positives   [2 bins]
    multiclass  records, correct ones, log-loss up to a cap                  [3]
    regression  records, absolute error and squared error by the range      [3]

Binary scores are binned by their log-odds, evenly, around those of the public prevalence,
with an edge at 1/2 where it lies in reach.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hansa.contract.features import BinaryLabel, FeatureContract, MulticlassLabel, RegressionLabel
from hansa.contract.jobs import MetricValue
from hansa.models.losses import sigmoid

Array = NDArray[np.float64]

# The bins cover this much of the log-odds; the outer two are open.
SPAN = 10.0
# A record's log-loss counts up to this many nats.
LOSS_CAP = 10.0


def score_histogram(
    features: FeatureContract, y: Array, predicted: Array, entities: NDArray[np.bytes_], bins: int
) -> Array:
    """One member's vector, to be summed. Shape [evaluation_length].

    Parameters
    ----------
    y : labels of held-out records, [n]
    predicted : what `Model.predict` gave, [n] or [n, k]
    entities : whom each record belongs to, [n]
    """
    label = features.label
    weight = _weights(entities)
    if isinstance(label, BinaryLabel):
        log_odds = np.log(np.maximum(predicted, 1e-300)) - np.log(np.maximum(1.0 - predicted, 1e-300))
        place = np.searchsorted(_edges(label, bins), log_odds, side="right")
        counts = np.bincount(place + bins * y.astype(np.intp), weights=weight, minlength=2 * bins)
        return counts.astype(np.float64)
    if isinstance(label, MulticlassLabel):
        likelihood = predicted[np.arange(len(y)), y.astype(np.intp)]
        loss = np.minimum(-np.log(np.maximum(likelihood, 1e-300)), LOSS_CAP) / LOSS_CAP
        return np.array([weight.sum(), weight @ (predicted.argmax(axis=1) == y), weight @ loss])
    error = (np.clip(y, label.low, label.high) - predicted) / (label.high - label.low)
    return np.array([weight.sum(), weight @ np.abs(error), weight @ error**2])


def figures(features: FeatureContract, histogram: Array) -> dict[str, MetricValue]:
    """The figures of a summed vector; those that it does not determine are left out.

    binary: auc, log_loss, accuracy, calibration (mean distance between predicted and observed
    share by bin); multiclass: log_loss, accuracy; regression: rmse, mae in label units.
    """
    label = features.label
    if isinstance(label, BinaryLabel):
        negatives, positives = np.split(np.asarray(histogram, dtype=np.float64), 2)
        values = _binary(negatives, positives, label)
    elif histogram[0] <= 0:
        values = {}
    elif isinstance(label, MulticlassLabel):
        values = {"log_loss": LOSS_CAP * histogram[2] / histogram[0], "accuracy": histogram[1] / histogram[0]}
    else:
        values = _regression(histogram, label)
    return {name: MetricValue(value=float(value)) for name, value in values.items()}


def binned_auc(negatives: Array, positives: Array) -> float:
    """AUC from counts by bin of the log-odds, corrected for the order lost inside the bins.

    Records that share a bin would count half. But where positives grow against negatives by
    exp(slope) from one bin to the next they do so inside a bin too, and a positive then
    stands above a negative of its bin with probability `_order_within(slope)`.
    """
    below = np.cumsum(negatives) - negatives
    inside = _order_within(_slope(negatives, positives))
    return float(positives @ (below + inside * negatives) / (positives.sum() * negatives.sum()))


def _binary(negatives: Array, positives: Array, label: BinaryLabel) -> dict[str, float]:
    counts = negatives + positives
    total = counts.sum()
    if total <= 0:
        return {}
    bins = len(counts)
    centres = _centres(label, bins)
    chance = sigmoid(centres)
    values = {
        "log_loss": float(negatives @ np.logaddexp(0, centres) + positives @ np.logaddexp(0, -centres))
        / total,
        "accuracy": float(np.where(centres > 0, positives, negatives).sum()) / total,
        "calibration": float(np.abs(positives - chance * counts).sum()) / total,
    }
    if negatives.sum() > 0 and positives.sum() > 0:
        values["auc"] = min(max(binned_auc(negatives, positives), 0.0), 1.0)
    return values


def _regression(sums: Array, label: RegressionLabel) -> dict[str, float]:
    width = label.high - label.low
    return {"rmse": width * math.sqrt(max(sums[2], 0.0) / sums[0]), "mae": width * sums[1] / sums[0]}


def _edges(label: BinaryLabel, bins: int) -> Array:
    """Inner edges in log-odds, multiples of the width. Shape [bins - 1]."""
    width = SPAN / bins
    middle = round(math.log(label.prevalence / (1.0 - label.prevalence)) / width)
    first = middle - (bins - 1) // 2
    return width * np.arange(first, first + bins - 1, dtype=np.float64)


def _centres(label: BinaryLabel, bins: int) -> Array:
    """Middle of each bin in log-odds. Shape [bins]."""
    width = SPAN / bins
    edges = _edges(label, bins)
    return np.append(edges - width / 2, edges[-1] + width / 2)


def _slope(negatives: Array, positives: Array) -> float:
    """Growth of log(positives / negatives) from bin to bin, weighted least squares; 0 where unknown."""
    both = (negatives > 0) & (positives > 0)
    if both.sum() < 2:
        return 0.0
    trust = 1.0 / (1.0 / negatives[both] + 1.0 / positives[both])
    ratio = np.log(positives[both] / negatives[both])
    place = np.flatnonzero(both).astype(np.float64)
    place -= trust @ place / trust.sum()
    spread = float(trust @ place**2)
    return max(float(trust @ (place * ratio)) / spread, 0.0) if spread > 0 else 0.0


def _order_within(growth: float) -> float:
    """P(positive above negative) in a bin of width 1: negatives even, positives growing as exp(growth t)."""
    if growth < 1e-3:
        return 0.5 + growth / 12.0
    return (growth - 1.0 + math.exp(-growth)) / (growth * -math.expm1(-growth))


def _weights(entities: NDArray[np.bytes_]) -> Array:
    _, inverse, counts = np.unique(entities, return_inverse=True, return_counts=True)
    return 1.0 / counts[inverse]
