"""Sums over a member's training records other than gradients: the contract check's, and moments.

Each is a sum over entities, and one entity moves it by at most the clip in Euclidean norm, however
many rows it has and whatever stands in them. Noise is added on the grid, by whoever sends them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.dataset import Dataset
from hansa.contract.features import BinaryLabel, FeatureContract, RegressionLabel
from hansa.contract.statistics import statistics_layout
from hansa.models.linear import RowModel
from hansa.models.losses import scaled_label
from hansa.models.model import CHUNK, clip_scales

Array = NDArray[np.float64]


def statistics_sum(records: Dataset, features: FeatureContract) -> Array:
    """[n, positives, z, z², counts] over training records, clipped by entity; see `StatisticsLayout`.

    Parameters
    ----------
    records : as the contract encodes them; never those that are held out
    """
    layout = statistics_layout(features)
    total = np.zeros(layout.length)
    limit = layout.clip / records.rows_of_entity
    for start in range(0, len(records), CHUNK):
        chunk = slice(start, start + CHUNK)
        X = records.X[chunk]
        numbers = X[:, list(layout.numeric)]
        first = [np.ones(len(X))] + ([records.y[chunk]] if layout.binary else [])
        rows = np.column_stack([*first, numbers, numbers**2, X[:, list(layout.counted)]])
        # With r rows of an entity each is at most C / r long.
        total += clip_scales(np.einsum("ij,ij->i", rows, rows), limit[chunk]) @ rows
    return total


def moments_sum(model: RowModel, records: Dataset, features: FeatureContract, clip: float) -> Array:
    """Sums of z zᵀ (upper triangle, row by row) and of z y, clipped by entity. Shape [d (d + 1) / 2 + d].

    z is `model.design`; y is the label less its public prevalence, or a number scaled to [-1, 1]. What a record
    weighs after clipping depends on z alone: otherwise the rarer label would weigh less, and be predicted less.
    """
    rows = model.design(records.X[:0]).shape[1]
    upper = np.triu_indices(rows)
    square, product = np.zeros((rows, rows)), np.zeros(rows)
    limit = clip / records.rows_of_entity
    largest = largest_label(features)
    for start in range(0, len(records), CHUNK):
        chunk = slice(start, start + CHUNK)
        z = model.design(records.X[chunk])
        y = centred_label(records.y[chunk], features)
        squares = z * z
        length = squares.sum(axis=1)
        # Of the upper triangle of z zᵀ: half of |z|⁴ and of the sum of the fourth powers, which stand on the diagonal.
        norm = 0.5 * (length**2 + np.einsum("ij,ij->i", squares, squares)) + length * largest**2
        weights = clip_scales(norm, limit[chunk])
        square += (z * weights[:, None]).T @ z
        product += z.T @ (weights * y)
    return np.concatenate([square[upper], product])


def largest_label(features: FeatureContract) -> float:
    """The largest absolute value of `centred_label`, public."""
    label = features.label
    return max(label.prevalence, 1.0 - label.prevalence) if isinstance(label, BinaryLabel) else 1.0


def centred_label(y: Array, features: FeatureContract) -> Array:
    """The label as moments take it. Shape [n].

    Raises
    ------
    ValueError : a label of classes has none
    """
    label = features.label
    if isinstance(label, BinaryLabel):
        return y - label.prevalence
    if isinstance(label, RegressionLabel):
        return scaled_label(y, label)
    raise ValueError("moments are of a number or of yes and no, not of classes")
