"""What a contract check made of the declared ranges: public numbers that stand between records and model.

A model never sees them. Its columns are (x - centre) * scale, and what it reads of its contract (the
prevalence it starts from, where a column's typical value stands) is said anew to fit. A linear model
takes them into its weights when it is handed out; any other is handed out with them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hansa.contract.charter import ModelChoice
from hansa.contract.errors import InputError
from hansa.contract.features import BinaryLabel, FeatureContract, NumericColumn
from hansa.contract.segments import PREPARATION
from hansa.contract.statistics import preparation_length, statistics_layout
from hansa.models.additive import RANGE, typical_position
from hansa.models.model import Array, Model
from hansa.models.registry import load_model

# A column is never stretched further; a range that is wider than that is one for people to correct.
LARGEST_SCALE = 16.0
# Of |x|, as every contract encodes it.
LARGEST_CENTRE = 4.0
_LARGEST_START = 12.0


@runtime_checkable
class Foldable(Protocol):
    """A model that can take a preparation into its weights."""

    def folded(self, weights: Array, centre: Array, scale: Array) -> Array:
        """Weights that do on x what `weights` do on (x - centre) * scale. Shape [d]."""
        ...


@dataclass(frozen=True)
class Preparation:
    """Centre and scale of every model column, f64[p], and the log-odds to start from.

    A column that is left alone has centre 0 and scale 1; one that is not numeric is centred at most, by a share.
    `start` is None where the label has no prevalence.
    """

    centre: Array
    scale: Array
    start: float | None

    @classmethod
    def untouched(cls, features: FeatureContract) -> Preparation:
        """Nothing is changed."""
        columns = len(features.encoded)
        return cls(np.zeros(columns), np.ones(columns), _declared(features))

    @classmethod
    def read(cls, array: NDArray[Any], features: FeatureContract) -> Preparation:
        """What `array` wrote.

        Raises
        ------
        InputError : not a preparation that a check under this contract can lead to
        """
        columns = len(features.encoded)
        if array.dtype != np.dtype("<f8") or array.shape != (preparation_length(features),):
            raise InputError(
                f"a preparation of {array.size} numbers of {array.dtype}; this contract's has "
                f"{preparation_length(features)} of float64"
            )
        numbers = np.array(array, dtype=np.float64)
        centre, scale, start = numbers[:columns], numbers[columns:-1], float(numbers[-1])
        layout = statistics_layout(features)
        alone = np.ones(columns, dtype=np.bool_)
        alone[list(layout.numeric)] = False
        if (
            not np.isfinite(numbers).all()
            or (np.abs(centre) > LARGEST_CENTRE).any()
            or abs(start) > _LARGEST_START
        ):
            raise InputError("a preparation that moves a column, or the start, out of every contract's reach")
        if (scale < 1.0).any() or (scale > LARGEST_SCALE).any():
            raise InputError(f"a preparation scales columns by 1 to {LARGEST_SCALE:g}, not otherwise")
        if (centre[alone] < 0.0).any() or (centre[alone] > 1.0).any() or (scale[alone] != 1.0).any():
            raise InputError(
                "a preparation of a column that is not numeric centres it, by a share, and no more"
            )
        return cls(centre, scale, start if layout.binary else None)

    @property
    def array(self) -> Array:
        """As it travels and is kept. Shape [2p + 1]."""
        return np.concatenate([self.centre, self.scale, [0.0 if self.start is None else self.start]])

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Which model columns are not as the contract encodes them. Shape [p]."""
        touched: NDArray[np.bool_] = (self.scale != 1.0) | (self.centre != 0.0)
        return touched

    def apply(self, X: Array) -> Array:
        """A record's columns as the model sees them. Shape [n, p]."""
        return (X - self.centre) * self.scale

    def told(self, features: FeatureContract) -> FeatureContract:
        """The contract as the model is told it: with the prevalence found, and 0 standing for what is at 0 now."""
        changed, position = self.changed, 0
        columns = []
        for column in features.columns:
            if isinstance(column, NumericColumn) and changed[position]:
                # Of a stretched column the range is what its mean lies in the middle of.
                moved = _value_at(column, self.centre[position]) if self.scale[position] == 1.0 else None
                column = column.model_copy(update={"missing": moved})
            columns.append(column)
            position += len(column.encoded)
        label = features.label
        if self.start is not None and isinstance(label, BinaryLabel):
            label = label.model_copy(update={"prevalence": 1.0 / (1.0 + math.exp(-self.start))})
        return features.model_copy(update={"columns": tuple(columns), "label": label})


def prepared_model(choice: ModelChoice, features: FeatureContract, preparation: Preparation | None) -> Model:
    """The charter's model for columns that were prepared."""
    return load_model(choice, features if preparation is None else preparation.told(features))


def handed_out(model: Model, weights: Array, preparation: Preparation | None) -> dict[str, Array]:
    """What a model is for whoever has only the contract: `released` f64[d], `preparation` where it stays needed."""
    if preparation is None:
        return {"released": weights}
    if isinstance(model, Foldable):
        return {"released": model.folded(weights, preparation.centre, preparation.scale)}
    return {"released": weights, PREPARATION: preparation.array}


def predict(
    choice: ModelChoice, features: FeatureContract, arrays: Mapping[str, NDArray[Any]], X: Array
) -> Array:
    """Predictions of a model as `handed_out` gives it, on records as the contract encodes them.

    Raises
    ------
    InputError : a preparation that does not belong to this contract
    """
    weights = np.asarray(arrays["released"], dtype=np.float64)
    if PREPARATION not in arrays:
        return load_model(choice, features).predict(weights, X)
    preparation = Preparation.read(arrays[PREPARATION], features)
    return prepared_model(choice, features, preparation).predict(weights, preparation.apply(X))


def _value_at(column: NumericColumn, encoded: float) -> float:
    """The value that a column's contract encodes as this, inside its range."""
    width = column.high - column.low
    reach = math.log1p(width) if column.log else width
    share = min(max((typical_position(column) + encoded) / RANGE, 0.0), 1.0) * reach
    return min(max(column.low + (math.expm1(share) if column.log else share), column.low), column.high)


def _declared(features: FeatureContract) -> float | None:
    label = features.label
    return math.log(label.prevalence / (1.0 - label.prevalence)) if isinstance(label, BinaryLabel) else None
