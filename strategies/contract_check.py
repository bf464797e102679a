"""Release 0 of a job: from the noised sums of the contract check to a preparation, by a public rule.

Declared ranges that are four times too wide cost more than going from epsilon 8 to 1 (NOTES-training).
A column's spread is taken as what the sum says plus one standard error of it, so that under heavy noise
nothing is stretched: to do so by mistake costs more than leaving it. Every column is centred as far as its mean
is known: rows are shorter then, and their columns have less in common, which saves noise and rounds. Pure;
whoever has the sum and knows the noise comes to the same numbers.
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
from hansa.models.preparation import LARGEST_CENTRE, LARGEST_SCALE, Preparation, handed_out, prepared_model
from hansa.strategies.apply import ModelState

Array = NDArray[np.float64]

# A declared range is 4 wide, and what fills it has a spread of SPREAD or more: with little more than half of that a
# column is stretched. From there on it costs more than it gains, as its outliers are clipped.
SPREAD, NARROW = 0.7, 0.4
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
    numbers, others = (np.array(it, dtype=np.intp) for it in (layout.numeric, layout.counted))
    mean, square, share = np.split(sums[first:] / count, [numbers.size, 2 * numbers.size])
    error = noise / count * np.sqrt(1.0 + 4.0 * mean**2)
    spread = np.sqrt(np.maximum(square - mean**2, 0.0) + error)
    # A mean outside of what can be encoded is noise.
    inside = np.abs(mean) <= LARGEST_CENTRE
    narrow = (spread < NARROW) & inside
    scale[numbers[narrow]] = np.clip(SPREAD / np.maximum(spread[narrow], 1e-9), 1.0, LARGEST_SCALE)
    centre[numbers] = np.where(narrow, mean, np.where(inside, _known(mean, noise / count), 0.0))
    centre[others] = np.clip(_known(share, noise / count), 0.0, 1.0)
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
    if not state.prepared:
        return {"released": state.released}
    model, preparation = model_of(state, charter)
    return handed_out(model, state.released, preparation)


def check_sentence(state: ModelState, charter: Charter) -> str:
    """What a check found, for people; all of it is public."""
    features = charter.task.features
    preparation = Preparation.read(state.preparation, features)
    numbers = [features.encoded[index] for index in statistics_layout(features).numeric]
    narrow = [name for name, scale in zip(features.encoded, preparation.scale, strict=True) if scale > 1.0]
    found = f"contract check: columns are centred; {len(narrow)} of {len(numbers)} numeric ones vary by little more "
    found += "than half of what their declared ranges mean, or less, and are stretched"
    return clipped(found + (f" ({', '.join(narrow)})" if narrow else ""))


def _known(mean: Array, noise: float) -> Array:
    """A noised mean, pulled to 0 by as much as may be noise (the positive part of James and Stein, each by itself)."""
    variance = noise**2 * (1.0 + mean**2)
    kept: Array = mean * np.maximum(0.0, 1.0 - variance / np.maximum(mean**2, 1e-300))
    return kept


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
