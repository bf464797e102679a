"""The linear model with two cosines of each number beside it: a curve for each column, still convex.

With t from 0 at the low end of a column's range to 1 at its high end they are cos(pi t) and
cos(2 pi t), the first terms of a cosine series, which bend once and twice. They come from the
encoded value and public constants alone, and stay constant outside the range. Where the truth
bends they gain, elsewhere they cost a little (NOTES-training): an option, not the default.
"""

from __future__ import annotations

import math

import numpy as np

from hansa.contract.features import FeatureContract, NumericColumn
from hansa.models.linear import RowModel, typical_norm
from hansa.models.model import Array, Options

# Cosines beside each number, and what their squares add to that of a typical row: 1/2 each.
COSINES = 2
_EACH = 0.5
# Width of every encoded range.
RANGE = 4.0


class AdditiveModel(RowModel):
    """Weights are [p + 2 m + 1, k] flattened for p model columns, m of them numbers: columns, cosines, intercepts."""

    name = "additive"

    def __init__(self, features: FeatureContract, options: Options) -> None:
        super().__init__(features, options)
        self._numbers, self._lows = _numbers(features)
        more = COSINES * len(self._numbers)
        self._columns += more
        self._scale = 1.0 / math.sqrt(typical_norm(features) ** 2 + _EACH * more)

    def _expanded(self, X: Array) -> Array:
        share = np.clip((X[:, self._numbers] - self._lows) / RANGE, 0.0, 1.0)
        return np.concatenate([X, np.cos(np.pi * share), np.cos(2.0 * np.pi * share)], axis=1)


def _numbers(features: FeatureContract) -> tuple[list[int], Array]:
    """Positions of the numbers among the model columns, and the encoded value of each one's low end."""
    positions, lows, position = [], [], 0
    for column in features.columns:
        if isinstance(column, NumericColumn):
            positions.append(position)
            lows.append(-typical_position(column))
        position += len(column.encoded)
    return positions, np.array(lows)


def typical_position(column: NumericColumn) -> float:
    """How far above the low end the value lies that is encoded as 0."""
    stand_in = (column.low + column.high) / 2 if column.missing is None else column.missing
    above, width = stand_in - column.low, column.high - column.low
    return RANGE * (math.log1p(above) / math.log1p(width) if column.log else above / width)
