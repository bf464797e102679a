"""Slopes along the last step, from the sums that a server sees anyway (`strategies.stepping.follow`)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hansa.strategies.stepping import Slopes

Array = NDArray[np.float64]


def slopes(step: Array, before: Array, after: Array, *, noise: float = 0.0, own: float = 0.0) -> Slopes:
    """Of a step and the mean updates that made it and that followed it; all f64[d].

    Post-processing of what was paid for. Where members walk at home updates grow with their rate: both by the rate
    that was in force.

    Parameters
    ----------
    noise : standard deviation of the noise on each coordinate of a mean update, public (`Attempt.mean_noise`)
    own : how much of a unit of the update stands in the step, its rate for a rule that does not normalise: so much of
        its noise squared stands in `before`
    """
    bias = noise * noise * own * step.size
    with np.errstate(over="ignore", invalid="ignore"):
        first, following = float(before @ step) - bias, float(after @ step)
        length = float(np.linalg.norm(step))
    return Slopes(first, following, noise * length if math.isfinite(length) else math.inf)
