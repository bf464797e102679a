"""Where a curve that grows and levels off will be next, fitted robustly to a window of earlier values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .alarms import TO_SIGMA

Array = NDArray[np.float64]

# Time constants of the exponential approaches that are tried, in rounds. Neighbours are near enough for a curve
# between them to be met by the derivative by the constant, which is a column of its own.
_CONSTANTS = 1.5 * 1.35 ** np.arange(15)
# Coarser ones for exponentials beside a line: curves in two phases, logarithms, powers.
_COARSE = 1.5 * 2.0 ** np.arange(6)
# Values so much older count half: no curve is right for ever.
_HALF_LIFE = 24.0
# Huber's corner: residuals beyond so many standard deviations pull no more than there.
_CORNER = 1.5
_UNIT = np.eye(5)
_PASSES = 3
# Residuals within so many robust standard deviations say how large one is; the factor corrects for the others.
_WITHIN, _CORRECTION = 3.0, 1.0137


@dataclass(frozen=True)
class Forecast:
    """What is expected of one value.

    Parameters
    ----------
    level : expected values, f64[m]
    scale : robust standard deviation of one value around the trend, in units of the errors given
    doubt : standard errors of the levels, in the same units, f64[m]
    """

    level: Array
    scale: float
    doubt: Array


def forecast(
    times: Array, values: Array, errors: Array, ahead: Array, moved: float | None = None
) -> Forecast:
    """The trend at other times: curves weighted by how well they fit (Bayesian information criterion).

    Curves are a constant, a line, and exponential approaches a + b exp(-t / tau) with tau fitted too (a grid, and
    linearised between its points). Each is fitted by iteratively reweighted least squares (Huber 1964), with the
    scale from the median absolute residual.

    Parameters
    ----------
    times, values, errors : rising times, values, their standard errors or relative scales (> 0), each f64[n], n >= 6
    ahead : when the forecasts are for, f64[m]
    moved : from when on the curve lies at another level, to be fitted too
    """
    count = len(values)
    # Numbers around one whatever the units are.
    unit = float(np.median(errors))
    relative = errors / unit
    middle = float(np.median(values))
    spread = float(np.max(np.abs(values - middle)))
    if spread == 0.0:
        return Forecast(np.full(len(ahead), middle), 0.0, np.zeros(len(ahead)))
    y = (values - middle) / spread
    since = np.concatenate([times, ahead]) - times[0]
    basis, parameters = _bases(tuple(since.tolist()), count, None if moved is None else moved - times[0])
    fade = 0.5 ** (np.arange(count - 1.0, -1.0, -1.0) / _HALF_LIFE)
    latest = slice(-int(2 * _HALF_LIFE), None)
    precision = fade / relative**2
    weights = np.broadcast_to(precision, (len(basis), count))
    for _ in range(_PASSES):
        fitted, variance = _weighted(basis, y, weights)
        residuals = (y - fitted[:, :count]) / relative
        scales = TO_SIGMA * np.median(np.abs(residuals[:, latest]), axis=1)
        # Where more than half of the values are exactly on a curve, the mean still knows a scale.
        scales = np.maximum(scales, 0.1 * np.mean(np.abs(residuals[:, latest]), axis=1)) + 1e-12
        weights = precision / np.maximum(np.abs(residuals) / (_CORNER * scales[:, None]), 1.0)
    scales = _reweighted(residuals[:, latest], scales)
    held = fade.sum()
    scales = scales * np.sqrt(held / np.maximum(held - parameters, 1.0))
    # How well they fit is compared on one scale, that of the best.
    far = np.abs(residuals) / (_CORNER * scales.min())
    losses = _CORNER**2 * np.where(far <= 1.0, far**2, 2.0 * far - 1.0) @ fade
    badness = losses + parameters * np.log(held)
    chances = np.exp(-0.5 * (badness - badness.min()))
    chances /= chances.sum()
    level = chances @ fitted[:, count:]
    between = chances @ (fitted[:, count:] - level) ** 2
    within = chances @ (variance * scales[:, None] ** 2)
    return Forecast(
        level=middle + spread * level,
        scale=spread * float(chances @ scales) / unit,
        doubt=spread * np.sqrt(between + within) / unit,
    )


@lru_cache(maxsize=32)
def _bases(since: tuple[float, ...], count: int, moved: float | None) -> tuple[Array, Array]:
    """Columns of each curve at the window's `count` times and then at those ahead, and how many are its own.

    Columns are orthonormal over the window's times; those that a curve does not use are zero. Shapes
    (curves, 5, n + m) and (curves,).
    """
    t = np.array(since)
    constants = np.concatenate([_CONSTANTS, _COARSE])[:, None]
    lag = t / constants
    columns = np.zeros((len(constants) + 2, 5, len(t)))
    columns[:, 0] = 1.0
    if moved is not None:
        columns[:, 1] = t >= moved
    columns[1, 2] = t
    columns[2:, 2] = np.exp(-lag)
    columns[2:, 3] = lag * columns[2:, 2]
    columns[2 + len(_CONSTANTS) :, 4] = t
    parameters = np.ones(len(columns))
    for number in range(5):
        column = columns[:, number]
        before = np.sqrt((column[:, :count] ** 2).sum(axis=1))
        # Gram and Schmidt, twice for exactness.
        for _ in range(2):
            for other in range(number):
                product = (column[:, :count] * columns[:, other, :count]).sum(axis=1)
                column -= product[:, None] * columns[:, other]
        size = np.sqrt((column[:, :count] ** 2).sum(axis=1))
        usable = size > 1e-7 * before
        column *= np.where(usable, 1.0 / np.where(usable, size, 1.0), 0.0)[:, None]
        if number:
            parameters += usable
    return columns, parameters


def _weighted(basis: Array, y: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted least squares of y on each curve's columns.

    Returns the fitted values and those ahead, shape (curves, n + m), and the variances of those ahead in units of the
    residuals', shape (curves, m).
    """
    count = len(y)
    inside, last = basis[:, :, :count], basis[:, :, count:]
    weighted = inside * weights[:, None, :]
    normal = weighted @ inside.transpose(0, 2, 1)
    unused = (inside == 0.0).all(axis=2)
    normal += _UNIT * unused[:, :, None]
    # Nothing is too flat to be solved for.
    inverse = np.linalg.inv(normal + 1e-12 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * _UNIT)
    coefficients = (inverse @ (weighted @ y)[:, :, None])[:, :, 0]
    fitted = (coefficients[:, None, :] @ basis)[:, 0]
    variance = (last * (inverse @ last)).sum(axis=1)
    return fitted, variance


def _reweighted(residuals: Array, scales: Array) -> Array:
    """Standard deviations of what lies within three robust ones: more exact than those (Rousseeuw and Leroy 1987)."""
    inside = np.abs(residuals) <= _WITHIN * scales[:, None]
    square = np.where(inside, residuals**2, 0.0).sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
    kept: Array = np.maximum(_CORRECTION * np.sqrt(square), 0.5 * scales)
    return kept
