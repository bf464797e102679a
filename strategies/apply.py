"""The server's step: a pure, elementwise function of the state and the mean update.

Adaptive rules follow Reddi et al. 2021 (2003.00295) with Adam's bias correction, without
which the first steps of a short job are up to three times too long. No BLAS, no sum across
coordinates, no transcendental function: whoever applies gets the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.contract.jobs import PER_UPDATE_RULES, MetricValue, ServerRule
from hansa.contract.segments import LARGEST_WEIGHT

Array = NDArray[np.float64]
# Plain averaging, and rules whose mean update was chosen from the members' (`strategies.robust`).
WITHOUT_MOMENTS = ("fedavg", *PER_UPDATE_RULES)
# Steps are shortened by one plus so many times the loudness of the noise (`loudness`).
CALM = 30.0


@dataclass(frozen=True)
class ModelState:
    """The global model between two rounds; arrays are f64[d].

    `round` counts applied updates, `tail` is the mean of the last `tail_count` iterates, later ones counting more
    where the rule has a `recency`. `preparation` is what the contract check made of the columns
    (`models.preparation`), f64[0] in a job without one.
    """

    round: int
    weights: Array
    first: Array
    second: Array
    tail: Array
    tail_count: int
    preparation: Array = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def start(cls, weights: Array, preparation: Array | None = None) -> ModelState:
        """Round 0."""
        zeros = np.zeros_like(weights)
        made = np.zeros(0) if preparation is None else preparation
        return cls(0, weights, first=zeros, second=zeros, tail=zeros, tail_count=0, preparation=made)

    @property
    def released(self) -> Array:
        """The model to hand out: the tail average, or the weights while that is of one iterate. Shape [d]."""
        return self.tail if self.tail_count > 1 else self.weights

    @property
    def prepared(self) -> bool:
        """Whether the contract check is behind this state."""
        return self.preparation.size > 0

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays for a checkpoint."""
        beside = {"preparation": self.preparation} if self.prepared else {}
        return {
            **beside,
            "round": np.array([self.round], dtype=np.int64),
            "weights": self.weights,
            "first": self.first,
            "second": self.second,
            "tail": self.tail,
            "tail_count": np.array([self.tail_count], dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> ModelState:
        """What `arrays` wrote."""
        return cls(
            round=int(arrays["round"][0]),
            weights=np.asarray(arrays["weights"], dtype=np.float64),
            first=np.asarray(arrays["first"], dtype=np.float64),
            second=np.asarray(arrays["second"], dtype=np.float64),
            tail=np.asarray(arrays["tail"], dtype=np.float64),
            tail_count=int(arrays["tail_count"][0]),
            preparation=np.asarray(arrays.get("preparation", np.zeros(0)), dtype=np.float64),
        )


def apply(
    state: ModelState,
    mean_update: Array,
    rule: ServerRule,
    rate: float,
    planned_rounds: int,
    *,
    noise: float = 0.0,
) -> ModelState:
    """The state after one round.

    Parameters
    ----------
    mean_update : sum of the members' updates over the public total of records, f64[d]
    rate : the server's rate of this round; 1 for plain averaging; 0 drops the step, and nothing of it is remembered
    planned_rounds : rounds the job set out to do; the tail begins with its last share
    noise : standard deviation of the noise on each coordinate of the mean update, public
    """
    number = state.round + 1
    if rate == 0.0:
        return _after(state, state.weights, state.first, state.second, rule, planned_rounds)
    loud = loudness(rule, noise, planned_rounds)
    mean_update = mean_update - (rule.decay + loud * rule.curvature) * state.weights
    rate = rate / (1.0 + CALM * loud)
    first, second = _moments(state, mean_update, rule)
    step = _step(mean_update, first, second, rule, number)
    return _after(state, state.weights + rate * step, first, second, rule, planned_rounds)


def tried(
    state: ModelState,
    mean_update: Array,
    rule: ServerRule,
    rate: float,
    planned_rounds: int,
    *,
    noise: float = 0.0,
) -> tuple[Array, Array]:
    """What a probe tries: the released model without the step, and how far the step moves it. Both [d].

    The rate goes into a state as a factor of the step, so k times this step is the one of k times the rate.
    """
    without = apply(state, mean_update, rule, 0.0, planned_rounds, noise=noise).released
    return without, apply(state, mean_update, rule, rate, planned_rounds, noise=noise).released - without


def usable(state: ModelState) -> bool:
    """Whether members take this model: finite, and no weight beyond what they train on."""
    return all(
        bool(np.isfinite(it).all()) and float(np.abs(it).max(initial=0.0)) <= LARGEST_WEIGHT
        for it in (state.weights, state.released)
    )


def squared_length(mean_update: Array, noise: float) -> MetricValue:
    """Squared Euclidean length of the mean update, what noise adds taken off, with its standard error.

    Parameters
    ----------
    noise : standard deviation of the noise on each coordinate
    """
    square, added = float(mean_update @ mean_update), mean_update.size * noise * noise
    value = square - added
    error = noise * math.sqrt(2.0 * added + 4.0 * max(value, 0.0))
    return MetricValue(value=value, error=error if noise > 0 else None)


def loudness(rule: ServerRule, noise: float, planned_rounds: int) -> float:
    """Variance of the noise on the mean of all rounds, over the curvature squared.

    So much the noise would move a weight if the loss were followed to its bottom, squared. A ridge of that
    times the curvature is what a weight of size 1 deserves, so nobody has to tune one to a table or an epsilon.
    """
    if rule.curvature == 0.0:
        return 0.0
    return noise * noise / planned_rounds / (rule.curvature * rule.curvature)


def tail_start(planned_rounds: int, share: float) -> int:
    """Rounds before the tail begins; with share 0 the tail is the last iterate alone."""
    return planned_rounds - max(1, round(share * planned_rounds))


def moved_to(state: ModelState, other: ModelState, rule: ServerRule, planned_rounds: int) -> ModelState:
    """The state of the next round, at the weights and with the moments of another one."""
    return _after(state, other.weights, other.first, other.second, rule, planned_rounds)


def own_share(rule: ServerRule, rate: float, noise: float, planned_rounds: int) -> float:
    """How much of a unit of the mean update stands in its own step; 0 for rules that divide by its size."""
    if rule.name in ("fedadam", "fedyogi"):
        return 0.0
    return rate / (1.0 + CALM * loudness(rule, noise, planned_rounds))


def _after(
    state: ModelState, weights: Array, first: Array, second: Array, rule: ServerRule, planned_rounds: int
) -> ModelState:
    number = state.round + 1
    count = state.tail_count + 1 if number > tail_start(planned_rounds, rule.tail) else 0
    tail = state.tail
    if count:
        recency = rule.recency or 0.0
        tail = tail + (weights - tail) * (1.0 + recency) / (count + recency)
    return ModelState(number, weights, first, second, tail, count, state.preparation)


def _moments(state: ModelState, update: Array, rule: ServerRule) -> tuple[Array, Array]:
    if rule.name in WITHOUT_MOMENTS:
        return state.first, state.second
    if rule.name == "fedavgm":
        return rule.beta1 * state.first + update, state.second
    first = rule.beta1 * state.first + (1.0 - rule.beta1) * update
    square = update * update
    if rule.name == "fedyogi":
        change = (1.0 - rule.beta2) * square * np.sign(state.second - square)
        return first, state.second - change
    return first, rule.beta2 * state.second + (1.0 - rule.beta2) * square


def _step(update: Array, first: Array, second: Array, rule: ServerRule, number: int) -> Array:
    if rule.name in WITHOUT_MOMENTS:
        return update
    if rule.name == "fedavgm":
        return first
    corrected = np.sqrt(second / _one_minus_power(rule.beta2, number))
    step: Array = first / _one_minus_power(rule.beta1, number) / (corrected + rule.epsilon)
    return step


def _one_minus_power(beta: float, number: int) -> float:
    """1 - beta^number by multiplication, because pow differs between C libraries."""
    power = 1.0
    for _ in range(number):
        power *= beta
        if power < 1e-18:
            return 1.0
    return 1.0 - power
