"""Release 0 of a job: from the noised sums of the contract check to a preparation, by a public rule.

Declared ranges that are four times too wide cost more than going from epsilon 8 to 1 (NOTES-training).
A column's spread is taken as what the sum says plus one standard error of it, so that under heavy noise
nothing is changed: stretching a column by mistake costs more than leaving it. Pure; whoever has the sum
and knows the noise comes to the same numbers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hansa.contract.charter import Charter
from hansa.contract.features import BinaryLabel, FeatureContract
from hansa.contract.statistics import StatisticsLayout, statistics_layout
from hansa.contract.typed import clipped
from hansa.models.model import Model
from hansa.models.preparation import LARGEST_SCALE, Preparation, handed_out, prepared_model
from hansa.strategies.apply import ModelState

Array = NDArray[np.float64]

# A declared range is 4 wide and means a spread of 1: with less than half of that a column is stretched.
NARROW = 0.5
# How far, in log-odds, the declared prevalence may be off: it is public to about one digit.
DECLARED_ERROR = 1.0


def preparation_of(sums: Array, noise: float, features: FeatureContract) -> Preparation:
    """What the noised sums say about the declared ranges.

    Parameters
    ----------
    sums : over all active members, see `StatisticsLayout`
    noise : standard deviation of the noise on each coordinate, at most; 0 without noise
    """
    layout = statistics_layout(features)
    prepared = Preparation.untouched(features)
    count = float(sums[0])
    if count <= max(noise, 0.0) or count <= 0:
        return prepared
    centre, scale = prepared.centre, prepared.scale
    first = 1 + int(layout.binary)
    numbers = np.array(layout.numeric, dtype=np.intp)
    mean = sums[first : first + numbers.size] / count
    square = sums[first + numbers.size : first + 2 * numbers.size] / count
    error = noise / count * np.sqrt(1.0 + 4.0 * mean**2)
    spread = np.sqrt(np.maximum(square - mean**2, 0.0) + error)
    # A mean outside of what can be encoded is noise.
    narrow = (spread < NARROW) & (np.abs(mean) <= 4.0)
    centre[numbers[narrow]] = mean[narrow]
    scale[numbers[narrow]] = np.minimum(1.0 / np.maximum(spread[narrow], 1e-9), LARGEST_SCALE)
    return Preparation(centre, scale, _start(sums, noise, layout, features))


def prepared_state(sums: Array, noise: float, charter: Charter, seed: int) -> ModelState:
    """What round 1 starts from after a check; see `preparation_of`."""
    task = charter.task
    preparation = preparation_of(sums, noise, task.features)
    model = prepared_model(task.model, task.features, preparation)
    return ModelState.start(model.initial(seed), preparation.array)


def model_of(state: ModelState, charter: Charter) -> tuple[Model, Preparation | None]:
    """The model that a state's weights are of, and what prepared its columns."""
    task = charter.task
    preparation = Preparation.read(state.preparation, task.features) if state.prepared else None
    return prepared_model(task.model, task.features, preparation), preparation


def released(state: ModelState, charter: Charter) -> dict[str, Array]:
    """The model to hand out: `released` f64[d], with `preparation` where that cannot be taken into the weights."""
    model, preparation = model_of(state, charter)
    return handed_out(model, state.released, preparation)


def check_sentence(state: ModelState, charter: Charter) -> str:
    """What a check found, for people; all of it is public."""
    features = charter.task.features
    preparation = Preparation.read(state.preparation, features)
    numbers = [features.encoded[index] for index in statistics_layout(features).numeric]
    narrow = [name for name, changed in zip(features.encoded, preparation.changed, strict=True) if changed]
    found = f"contract check: {len(narrow)} of {len(numbers)} numeric columns vary by less than half of what their "
    found += "declared ranges mean and are stretched"
    return clipped(found + (f" ({', '.join(narrow)})" if narrow else ""))


def _start(sums: Array, noise: float, layout: StatisticsLayout, features: FeatureContract) -> float | None:
    """Log-odds of the noised prevalence and of the declared one, each as much as it is known."""
    label = features.label
    if not isinstance(label, BinaryLabel):
        return None
    declared = math.log(label.prevalence / (1.0 - label.prevalence))
    count = float(sums[0])
    # Half a record of either kind: whoever has none of one has no log-odds.
    least = 0.5 / max(count, 1.0)
    share = min(max(float(sums[1]) / count, least), 1.0 - least)
    odds = share * (1.0 - share)
    variance = (noise / count / odds) ** 2 * (1.0 + share**2) + 1.0 / (count * odds)
    found = math.log(share / (1.0 - share))
    trust = DECLARED_ERROR**2 / (DECLARED_ERROR**2 + variance)
    return declared + trust * (found - declared)
