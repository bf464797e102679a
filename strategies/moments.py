"""Mechanism `moments`: from one noised sum of z zᵀ and z y to the weights of a linear model. Pure.

Ridge regression on what the sums say, with a penalty about as large as the noise can make an eigenvalue
of z zᵀ seem: the noise multiplier is public, so is the penalty. Scores of least squares are no
log-odds, and the penalty shrinks them; intercept and slope are set right afterwards from the same
sums, for which nothing more is released. Source of the idea: Vu and Slavkovic 2009, Wang 2018 (1803.02596).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hansa.contract.charter import Charter
from hansa.contract.features import BinaryLabel, FeatureContract, RegressionLabel
from hansa.models.linear import RowModel
from hansa.strategies.apply import ModelState
from hansa.strategies.contract_check import model_of

Array = NDArray[np.float64]

# Penalty over tau sqrt(p): the noise's largest eigenvalue is near 2 tau sqrt(p), and most directions see less.
RIDGE = 3.0
# Of what moments are worth without noise: keeps absent and doubled columns finite.
LEAST_RIDGE = 1e-6
# A slope that noise alone would explain is no slope; the order of the scores still is one.
LEAST_SLOPE = 0.05
# The best that is believed of the scores: share of the label's variance that they explain.
MOST_EXPLAINED = 0.7


def solve(sums: Array, noise: float, model: RowModel, features: FeatureContract) -> Array:
    """Weights of the model. Shape [d].

    Parameters
    ----------
    sums : upper triangle of z zᵀ, row by row, then z y, over all active members; y as `centred_label` has it
    noise : standard deviation of the noise on each of them, 0 without noise
    features : the contract as the model was told it
    """
    columns = model.parameters - 1
    matrix = np.zeros((columns + 1, columns + 1))
    upper = np.triu_indices(columns + 1)
    matrix[upper] = sums[: upper[0].size]
    matrix[upper[::-1]] = sums[: upper[0].size]
    product = sums[upper[0].size :]
    # In units of the record: the constant that scales rows stands in every row for the intercept.
    constant = model.intercept
    weight = max(float(matrix[-1, -1]), noise, 1e-12)
    mean = matrix[:-1, -1] / weight
    label_mean = constant * float(product[-1]) / weight
    spread = _positive(matrix[:-1, :-1] / weight - np.outer(mean, mean))
    shared = constant * product[:-1] / weight - mean * label_mean
    error = noise / weight
    penalty = RIDGE * error * math.sqrt(columns) + LEAST_RIDGE
    inverse = np.linalg.inv(spread + penalty * np.eye(columns))
    direction = inverse @ shared
    # What the noise in z y adds to w z y through w itself is not signal.
    explained = float(direction @ shared)
    believed = max(
        explained - (constant * error) ** 2 * float(np.trace(inverse)), LEAST_SLOPE * max(explained, 0.0)
    )
    # The direction was chosen where noise made the spread seem small: so much more of it there may be.
    hidden = error * math.sqrt(columns) * float(direction @ direction)
    variance = float(direction @ spread @ direction) + hidden
    slope, intercept = _calibration(believed, variance, label_mean, features)
    weights = np.append(slope * direction, intercept - slope * float(direction @ mean))
    found: Array = weights / constant
    return found


def solved_state(state: ModelState, mean: Array, noise: float, charter: Charter) -> ModelState:
    """The one round of a job of moments.

    Parameters
    ----------
    mean : the sums over a public constant
    noise : standard deviation of the noise on each of them
    """
    model, preparation = model_of(state, charter)
    assert isinstance(model, RowModel)  # the charter has checked it
    features = charter.task.features
    weights = solve(mean, noise, model, features if preparation is None else preparation.told(features))
    return replace(ModelState.start(weights, state.preparation), round=state.round + 1)


def _positive(matrix: Array) -> Array:
    """The nearest symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    nearest: Array = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return nearest


def _calibration(
    covariance: float, variance: float, label_mean: float, features: FeatureContract
) -> tuple[float, float]:
    """Slope and intercept that turn scores of mean 0 into outputs.

    For yes and no, were the scores of either kind normal with one variance, log-odds would be linear in the
    score, with the distance of the two means over that variance as slope (Fisher 1936). Scores of real tables
    have longer tails, and too steep costs more than too flat: it is divided by the mean, geometrically, of that
    variance and the whole one.
    """
    label = features.label
    if isinstance(label, RegressionLabel):
        slope = covariance / variance if variance > 0 else 0.0
        return min(max(slope, 0.0), 10.0), label_mean
    assert isinstance(label, BinaryLabel)
    chance = label.prevalence
    chance = min(max(chance + label_mean, 0.1 * chance), 1.0 - 0.1 * (1.0 - chance))
    odds = chance * (1.0 - chance)
    if covariance <= 0 or variance <= 0:
        return 0.0, math.log(chance / (1.0 - chance))
    # Between the kinds lies odds * distance² of the variance, within them the rest.
    distance = min(covariance / odds, math.sqrt(MOST_EXPLAINED * variance / odds))
    within = variance - odds * distance**2
    slope = distance / math.sqrt(within * variance)
    middle = 0.5 * (1.0 - 2.0 * chance) * distance
    return slope, math.log(chance / (1.0 - chance)) - slope * middle
