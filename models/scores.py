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
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from hansa.contract.features import BinaryLabel, FeatureContract, MulticlassLabel
from hansa.contract.jobs import MetricValue
from hansa.models.losses import sigmoid
from hansa.models.platt import platt

Array = NDArray[np.float64]

# The bins cover this much of the log-odds; the outer two are open.
SPAN = 10.0
# A record's log-loss counts up to this many nats.
LOSS_CAP = 10.0
# A figure is released where its divisor is this many standard deviations of its noise above zero.
SEEN = 3.0


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
    # Weights from outside may make a prediction of some record no number: it counts as a wrong one, within bounds.
    predicted = np.nan_to_num(predicted, nan=0.0)
    if isinstance(label, BinaryLabel):
        log_odds = np.log(np.maximum(predicted, 1e-300)) - np.log(np.maximum(1.0 - predicted, 1e-300))
        place = np.searchsorted(_edges(label, bins), log_odds, side="right")
        counts = np.bincount(place + bins * y.astype(np.intp), weights=weight, minlength=2 * bins)
        return counts.astype(np.float64)
    if isinstance(label, MulticlassLabel):
        likelihood = predicted[np.arange(len(y)), y.astype(np.intp)]
        loss = np.minimum(-np.log(np.maximum(likelihood, 1e-300)), LOSS_CAP) / LOSS_CAP
        return np.array([weight.sum(), weight @ (predicted.argmax(axis=1) == y), weight @ loss])
    error = (np.clip(y, label.low, label.high) - np.clip(predicted, label.low, label.high)) / (
        label.high - label.low
    )
    return np.array([weight.sum(), weight @ np.abs(error), weight @ error**2])


def figures(
    features: FeatureContract, histogram: Array, *, noise_sd: float = 0.0, calibrate: bool = False
) -> dict[str, MetricValue]:
    """The figures of a summed vector; those that it does not determine are left out.

    binary: auc, log_loss, accuracy, calibration (root mean square over records of the distance between
    predicted and observed share of their bin; Kumar, Liang and Ma 2019, 1909.10155); multiclass: log_loss,
    accuracy; regression: rmse, mae in label units.

    The standard error is that of the added noise alone, against the figure of the same records without it.
    Every round is evaluated on the same held-out records, so what their choice adds is the same in each, and
    whoever compares rounds would be blind to true changes with it. It is not the error with which a figure
    holds for other records. None without noise.

    What noise adds to a figure in the mean is taken off to second order: counts may be negative, but sums of
    them and of their products have no bias, ratios and squares do. A figure is left out where its divisor
    lies within `SEEN` standard deviations of zero. So those that are shown, where most are not, come from
    draws that made the divisor large: an AUC that one draw in three shows lies 0.7 errors nearer to 1/2 in the
    mean and within two errors in 92 of 100, one that one draw in eleven shows 1.0 errors and in 88 of 100.
    What bins that are not seen may add to the calibration is in its error.

    Parameters
    ----------
    noise_sd : standard deviation of the noise in each coordinate
    calibrate : of a yes/no label also `platt_shift` and `platt_slope`, what would set the scores right (`models.platt`)
    """
    label, vector = features.label, np.asarray(histogram, dtype=np.float64)
    if isinstance(label, BinaryLabel):
        negatives, positives = np.split(vector, 2)
        found = _binary(negatives, positives, label, noise_sd)
    elif not _seen(vector[0], noise_sd):
        found = {}
    elif isinstance(label, MulticlassLabel):
        found = {
            "log_loss": _share(vector, 2, noise_sd).times(LOSS_CAP),
            "accuracy": _share(vector, 1, noise_sd).within(0.0, 1.0),
        }
    else:
        width = label.high - label.low
        found = {
            "rmse": _share(vector, 2, noise_sd).root().times(width),
            "mae": _share(vector, 1, noise_sd).times(width),
        }
    released = {
        name: MetricValue(value=it.value, error=it.error if noise_sd > 0 else None)
        for name, it in found.items()
    }
    if calibrate and isinstance(label, BinaryLabel):
        negatives, positives = np.split(vector, 2)
        released |= platt(negatives, positives, _centres(label, len(negatives)), noise_sd=noise_sd)
    return released


@dataclass(frozen=True)
class _Estimate:
    """A figure and its standard error."""

    value: float
    error: float

    def times(self, factor: float) -> _Estimate:
        return _Estimate(factor * self.value, factor * self.error)

    def within(self, low: float, high: float) -> _Estimate:
        """Moved to where the true figure lies; that brings it nearer."""
        return _Estimate(min(max(self.value, low), high), self.error)

    def root(self) -> _Estimate:
        """The square root; one, two and three errors of it reach as far down as those of the square."""
        square = max(self.value, 0.0)
        value = math.sqrt(square)
        down = max((value - math.sqrt(max(square - times * self.error, 0.0))) / times for times in (1, 2, 3))
        return _Estimate(value, max(down, math.sqrt(square + self.error) - value))


def binned_auc(negatives: Array, positives: Array) -> float:
    """AUC from counts by bin of the log-odds, corrected for the order lost inside the bins.

    Records that share a bin would count half. But where positives grow against negatives by
    exp(slope) from one bin to the next they do so inside a bin too, and a positive then
    stands above a negative of its bin with probability `_order_within(slope)`.
    """
    return _auc(negatives, positives, 0.0).value


def _auc(negatives: Array, positives: Array, noise_sd: float) -> _Estimate:
    slope, doubt = _slope(negatives, positives, noise_sd)
    inside = _order_within(slope)
    # Share of negatives below a positive of each bin, and of positives above a negative of each.
    below = (np.cumsum(negatives) - negatives + inside * negatives) / negatives.sum()
    above = (positives.sum() - np.cumsum(positives) + inside * positives) / positives.sum()
    auc = float(positives @ below) / float(positives.sum())
    first = _ratio(auc, below, positives.sum(), noise_sd)
    second = _ratio(auc, above, negatives.sum(), noise_sd)
    shared = float(positives @ negatives) / float(positives.sum() * negatives.sum())
    within = 0.5 * (_order_within(slope + doubt) - _order_within(max(slope - doubt, 0.0))) * abs(shared)
    error = math.hypot(first.error, second.error, within)
    return _Estimate(first.value + second.value - auc, error).within(0.0, 1.0)


def _ratio(value: float, weights: Array, divisor: float, noise_sd: float) -> _Estimate:
    """A weighted mean of noised counts over their sum, `value` as it came out, without its bias.

    Noise e moves it by sum_i e_i (w_i - value) / divisor to first order, and in the mean by
    noise_sd² sum_i (value - w_i) / divisor² to second order.
    """
    relative = noise_sd / divisor
    bias = relative**2 * float((value - weights).sum())
    # What the divisor's own noise adds, to second order.
    wider = math.sqrt(1.0 + len(weights) * relative**2)
    error = wider * relative * float(np.linalg.norm(weights - value))
    return _Estimate(value - bias, math.hypot(error, _selected(value, weights, divisor, noise_sd)))


def _selected(value: float, weights: Array, divisor: float, noise_sd: float) -> float:
    """By how much a ratio is off in the mean because it is left out where its divisor came out small.

    A divisor that is shown is too large by sd * phi(a) / Phi(a), a its distance above `SEEN` in sd: the mean of a
    normal number cut off from below. The true one is lower than what is shown, which makes it about twice as much.
    """
    sd = noise_sd * math.sqrt(len(weights))
    if sd == 0:
        return 0.0
    above = divisor / sd - SEEN
    normal = NormalDist()
    too_large = 2.0 * sd * normal.pdf(above) / max(normal.cdf(above), 0.5)
    return abs(float(weights.mean()) - value) * too_large / divisor


def _share(vector: Array, place: int, noise_sd: float) -> _Estimate:
    """One of the sums over the number of records."""
    value, relative = float(vector[place] / vector[0]), noise_sd / float(vector[0])
    error = relative * math.sqrt((1.0 + value**2) * (1.0 + relative**2))
    return _Estimate(value * (1.0 - relative**2), error)


def _seen(divisor: float, noise_sd: float, coordinates: int = 1) -> bool:
    """Whether a sum of so many coordinates is clearly above zero."""
    return bool(divisor > SEEN * noise_sd * math.sqrt(coordinates))


def _binary(negatives: Array, positives: Array, label: BinaryLabel, noise_sd: float) -> dict[str, _Estimate]:
    bins, total = len(negatives), float(negatives.sum() + positives.sum())
    if not _seen(total, noise_sd, 2 * bins):
        return {}
    centres, counts = _centres(label, bins), np.concatenate([negatives, positives])
    losses = np.concatenate([np.logaddexp(0, centres), np.logaddexp(0, -centres)])
    right = np.concatenate([centres <= 0, centres > 0]).astype(np.float64)
    found = {
        "log_loss": _ratio(float(counts @ losses) / total, losses, total, noise_sd),
        "accuracy": _ratio(float(counts @ right) / total, right, total, noise_sd).within(0.0, 1.0),
    }
    calibration = _calibration(negatives, positives, sigmoid(centres), noise_sd)
    if calibration is not None:
        found["calibration"] = calibration
    if _seen(negatives.sum(), noise_sd, bins) and _seen(positives.sum(), noise_sd, bins):
        found["auc"] = _auc(negatives, positives, noise_sd)
    return found


def _calibration(negatives: Array, positives: Array, chance: Array, noise_sd: float) -> _Estimate | None:
    """Root mean square over records of (observed - predicted share of their bin); None where no bin is seen."""
    counts = negatives + positives
    total = float(counts.sum())
    seen = counts > SEEN * math.sqrt(2.0) * noise_sd
    if not seen.any():
        return None
    excess, spread = positives - chance * counts, noise_sd**2 * (chance**2 + (1.0 - chance) ** 2)
    square, error = _squares(excess[seen], counts[seen], spread[seen])
    farthest = float(np.max((excess[seen] / counts[seen]) ** 2))
    left = _left_out(excess[~seen], counts[~seen], spread[~seen], chance[~seen], farthest)
    error = math.hypot(error, left if noise_sd > 0 else 0.0)
    return _Estimate(square / total, error / total).root()


def _squares(excess: Array, counts: Array, spread: Array) -> tuple[float, float]:
    """Sum over bins of excess² / count, and its error. E excess² is too large by the variance of the excess."""
    doubled = np.maximum(4.0 * excess**2 * spread - 2.0 * spread**2, 2.0 * spread**2)
    return float(((excess**2 - spread) / counts).sum()), math.sqrt(float((doubled / counts**2).sum()))


def _left_out(excess: Array, counts: Array, spread: Array, chance: Array, distance: float) -> float:
    """How much bins that are not seen may add to the sum of excess² / count.

    Never more than the excess or the count allow. And where predictions are as far off there as in the worst bin
    that is seen, it is that and what single labels add by chance, two errors of it: p (1 - p) a bin however many
    there are, most unevenly where a bin holds one.

    Parameters
    ----------
    distance : square of (observed - predicted) in the worst bin that is seen
    """
    if not excess.size:
        return 0.0
    share, both = np.maximum(chance, 1.0 - chance), math.sqrt(2.0 * counts.size * float(spread.max()))
    records = max(float(counts.sum()), 0.0) + both
    by_excess = float((share * (np.abs(excess) + np.sqrt(spread))).sum())
    labels = chance * (1.0 - chance)
    uneven = np.maximum(labels * (1.0 - 2.0 * chance) ** 2, 2.0 * labels**2)
    by_chance = float(labels.sum()) + 2.0 * math.sqrt(float(uneven.sum())) + distance * records
    return min(by_excess, float(share.max()) ** 2 * records, by_chance)


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


def _slope(negatives: Array, positives: Array, noise_sd: float) -> tuple[float, float]:
    """Growth of log(positives / negatives) from bin to bin, weighted least squares, and its error from noise.

    Where it is not known it is 0, and may as well be 1 per unit of log-odds, as scores have it that are right.
    """
    unknown = (0.0, SPAN / len(negatives) if noise_sd > 0 else 0.0)
    least = 2.0 * noise_sd
    both = (negatives > least) & (positives > least)
    if both.sum() < 2:
        return unknown
    noise = noise_sd**2 * (1.0 / negatives[both] ** 2 + 1.0 / positives[both] ** 2)
    trust = 1.0 / (1.0 / negatives[both] + 1.0 / positives[both] + noise)
    ratio = np.log(positives[both] / negatives[both])
    place = np.flatnonzero(both).astype(np.float64)
    place -= trust @ place / trust.sum()
    spread = float(trust @ place**2)
    if spread <= 0:
        return unknown
    slope = max(float(trust @ (place * ratio)) / spread, 0.0)
    return slope, math.sqrt(float((trust * place) ** 2 @ noise)) / spread


def _order_within(growth: float) -> float:
    """P(positive above negative) in a bin of width 1: negatives even, positives growing as exp(growth t)."""
    if growth < 1e-3:
        return 0.5 + growth / 12.0
    return (growth - 1.0 + math.exp(-growth)) / (growth * -math.expm1(-growth))


def _weights(entities: NDArray[np.bytes_]) -> Array:
    _, inverse, counts = np.unique(entities, return_inverse=True, return_counts=True)
    return 1.0 / counts[inverse]
