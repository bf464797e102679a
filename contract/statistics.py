"""What the contract check sums, and how the preparation that comes of it travels: from the contract alone.

The check is one noised sum over training rows (NOTES: release 0 of a job): how many, how many of
them positive, for each numeric column its value and the value's square, for every other model
column how many have it. Nothing else of anybody's records shapes the model's columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hansa.contract.features import BinaryLabel, FeatureContract, NumericColumn


@dataclass(frozen=True)
class StatisticsLayout:
    """Where what stands in the sum: [n, positives where the label is binary, z, z², counts].

    Parameters
    ----------
    numeric : model columns that hold a number, by position among `features.encoded`
    counted : all others, which are 0 or 1
    binary : whether the label has a prevalence
    clip : C, the largest Euclidean norm of one entity's part
    """

    numeric: tuple[int, ...]
    counted: tuple[int, ...]
    binary: bool
    clip: float

    @property
    def length(self) -> int:
        """Coordinates of the sum."""
        return 1 + int(self.binary) + 2 * len(self.numeric) + len(self.counted)


def statistics_layout(features: FeatureContract) -> StatisticsLayout:
    """The layout that a contract means.

    C is about what one record has in a contract whose ranges fit. A larger one is scaled down as a whole, its
    count with it, so that means stay means, of records that weigh somewhat differently.
    """
    numeric: list[int] = []
    counted: list[int] = []
    square = 1.5
    position = 0
    for column in features.columns:
        number = isinstance(column, NumericColumn)
        square += 1.0 if number else 0.5
        width = len(column.encoded)
        numeric += [position] if number else []
        counted += range(position + int(number), position + width)
        position += width
    return StatisticsLayout(
        numeric=tuple(numeric),
        counted=tuple(counted),
        binary=isinstance(features.label, BinaryLabel),
        clip=math.sqrt(square),
    )


def preparation_length(features: FeatureContract) -> int:
    """Numbers of a preparation: centre and scale of every model column, and the start."""
    return 2 * len(features.encoded) + 1


def moments_length(parameters: int) -> int:
    """Numbers of the sums of z zᵀ (upper triangle) and z y, z of as many numbers as the model has weights."""
    return parameters * (parameters + 1) // 2 + parameters
