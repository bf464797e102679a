"""A correction of scores from the released histogram: chance = sigmoid(shift + slope * log-odds).

It is fitted to what was released anyway, so it costs no further charge. Source: Platt 1999, "Probabilistic outputs for
support vector machines"; here on counts by bin, each bin's records standing at its middle.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hansa.contract.jobs import MetricValue
from hansa.models.losses import sigmoid

Array = NDArray[np.float64]

SHIFT, SLOPE = "platt_shift", "platt_slope"
# A bin is used where its count is this many standard deviations of its noise above zero.
_SEEN = 3.0
_LEAST_BINS, _STEPS, _FLAT = 3, 50, 1e-10
# What lies outside is no correction of scores but a model that has learnt nothing, or the reverse.
_LARGEST_SHIFT, _LEAST_SLOPE, _LARGEST_SLOPE = 5.0, 0.05, 20.0


def platt(negatives: Array, positives: Array, centres: Array, *, noise_sd: float) -> dict[str, MetricValue]:
    """Shift and slope with their standard errors; empty where the counts do not determine them.

    Parameters
    ----------
    negatives, positives : noised counts by bin, [bins]
    centres : log-odds in the middle of each bin, [bins]
    noise_sd : standard deviation of the noise in each count

    The errors are those of the added noise alone, to first order, as those of the other figures.
    """
    counts = negatives + positives
    seen = counts > max(_SEEN * math.sqrt(2.0) * noise_sd, 0.0)
    if int(seen.sum()) < _LEAST_BINS:
        return {}
    counts, positives, scores = counts[seen], positives[seen], centres[seen]
    design = np.stack([np.ones_like(scores), scores])
    found = _fit(design, counts, positives)
    if found is None:
        return {}
    shift, slope = (float(it) for it in found)
    if abs(shift) > _LARGEST_SHIFT or not _LEAST_SLOPE <= slope <= _LARGEST_SLOPE:
        return {}
    chance = sigmoid(found @ design)
    inverse = np.linalg.inv(_curvature(design, counts, chance))
    # A noised positive moves the gradient by 1 - chance, a noised negative by -chance.
    spread = (design * (noise_sd**2 * ((1.0 - chance) ** 2 + chance**2))) @ design.T
    errors = np.sqrt(np.diag(inverse @ spread @ inverse))
    known = [None if noise_sd == 0 else float(it) for it in errors]
    return {
        SHIFT: MetricValue(value=shift, error=known[0]),
        SLOPE: MetricValue(value=slope, error=known[1]),
    }


def _fit(design: Array, counts: Array, positives: Array) -> Array | None:
    """Newton's steps from "as it is", halved where they lead up; None where there is no lowest point."""
    found: Array = np.array([0.0, 1.0])
    loss = _loss(found, design, counts, positives)
    for _ in range(_STEPS):
        chance = sigmoid(found @ design)
        try:
            step = np.linalg.solve(_curvature(design, counts, chance), design @ (positives - counts * chance))
        except np.linalg.LinAlgError:
            return None
        if not np.isfinite(step).all():
            return None
        part = 1.0
        while (lower := _loss(found + part * step, design, counts, positives)) > loss and part > _FLAT:
            part /= 2.0
        found, loss = found + part * step, lower
        if float(np.abs(part * step).max()) < 1e-9:
            return found
    return None


def _curvature(design: Array, counts: Array, chance: Array) -> Array:
    curvature: Array = (design * (counts * chance * (1.0 - chance))) @ design.T
    return curvature


def _loss(found: Array, design: Array, counts: Array, positives: Array) -> float:
    scores = found @ design
    return float((counts * np.logaddexp(0.0, scores) - positives * scores).sum())
