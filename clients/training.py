"""What a member computes in a round: functions of weights, records and random bits.

`gradient` with one step returns minus the clipped gradient sum over all records; the server
divides by the public total of records. With more steps the member walks at home and returns
the way it went, weighted by its public number of records, so that the same division gives
the mean. `poisson` walks mini-batches drawn at a public rate.

What one entity can change is bounded here: it moves each gradient sum by at most `clip` in
Euclidean norm, however many rows it has. Where noise is asked for, each step at home adds it
to that sum, and all that follows (the step, the next gradients, the way's clip, the grid) is
post-processing. The one sum without steps leaves exact: its noise belongs on the grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.dataset import Dataset
from hansa.contract.charter import Charter, Training
from hansa.contract.jobs import JobPlan
from hansa.models.model import Model, margin
from hansa.privacy.noise import NoiseGenerator

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LocalPlan:
    """The public facts of one member's training in one round.

    `records` is its public size, hold-out included; `client_rate` is the step at home on the
    mean gradient and is not used by a single full-batch step; `noise` is z, the standard
    deviation of each step's noise over the clip, None where a walk is not private.
    """

    training: Training
    records: int
    holdout: float
    steps: int = 1
    client_rate: float = 1.0
    dropout: float = 0.0
    noise: float | None = None

    def __post_init__(self) -> None:
        if self.noise is not None and not 0 < self.noise < np.inf:
            raise ValueError(f"a noise multiplier is above 0 and finite, not {self.noise}")

    @property
    def walks(self) -> bool:
        """Whether the member takes steps at home and sends the way it went."""
        return self.steps > 1 or self.training.mechanism == "poisson"


def local_update(
    model: Model,
    weights: Array,
    dataset: Dataset,
    *,
    charter: Charter,
    plan: JobPlan,
    member: str,
    knobs: Mapping[str, float],
    generator: NoiseGenerator,
    noise: float | None,
) -> Array:
    """A member's summand of a round, as charter, job and knobs say; see `update`. Shape [d].

    Parameters
    ----------
    generator : where sampling, dropout and noise come from
    noise : this member's noise multiplier z for the segment `update`, None for no noise. A walk at home
        (`segments.walks_at_home`) adds it to every step and releases `plan.steps` Gaussians of z, sampled at
        `training.sampling_rate` under `poisson`. A single full-batch sum comes back exact whatever z is: the
        caller adds its noise on the grid (`GridNoise`, clip = `training.clip`).
    """
    own = charter.member(member)
    if own is None:
        raise ValueError(f"'{member}' is not a member of the charter")
    local = LocalPlan(
        training=charter.training,
        records=own.records,
        holdout=charter.task.features.holdout,
        steps=plan.steps,
        client_rate=knobs.get("client_rate", 1.0),
        dropout=knobs.get("dropout", 0.0),
        noise=noise,
    )
    return update(model, weights, dataset, local, generator)


def update(
    model: Model, weights: Array, dataset: Dataset, plan: LocalPlan, generator: NoiseGenerator
) -> Array:
    """The direction in which this member would move the weights, times its number of records. Shape [d]."""
    if not plan.walks:
        return -_gradient_sum(model, weights, dataset, plan, _dropout_generator(plan, generator))
    end = walk(model, weights, dataset, plan, generator)
    return plan.records * clipped(end - weights, plan.training.delta_clip)


def walk(model: Model, weights: Array, dataset: Dataset, plan: LocalPlan, generator: NoiseGenerator) -> Array:
    """Weights after the steps at home. Shape [d].

    Divisors are public, never the private number of rows; an empty batch is a step. A batch of any size is
    summed whole: the model takes at most `models.model.CHUNK` rows at a time.
    """
    training = plan.training
    divisor = plan.records * (1.0 - plan.holdout)
    if training.mechanism == "poisson":
        divisor = max(training.sampling_rate * divisor, 1.0)
    dropout = _dropout_generator(plan, generator)
    for _ in range(plan.steps):
        batch = dataset
        if training.mechanism == "poisson":
            batch = sampled(dataset, training.sampling_rate, generator)
        step = _gradient_sum(model, weights, batch, plan, dropout)
        if plan.noise is not None:
            generator.add_normal(step, plan.noise * training.clip)
        step *= -plan.client_rate / divisor
        step += weights
        weights = step
    return weights


def sampled(dataset: Dataset, rate: float, generator: NoiseGenerator) -> Dataset:
    """All rows of the entities that are drawn, each independently with probability `rate`."""
    return dataset.of_entities(generator.coins(dataset.entity_count, rate))


def clipped(vector: Array, norm: float) -> Array:
    """The vector, scaled to at most that Euclidean norm."""
    length = float(np.linalg.norm(vector))
    return vector if length <= norm else vector * (norm / length)


def _gradient_sum(
    model: Model, weights: Array, batch: Dataset, plan: LocalPlan, dropout: np.random.Generator | None
) -> Array:
    """Sum over entities, each at most `clip` long: each of its m rows may be clip / m long. Shape [d]."""
    limits = margin(model) * plan.training.clip / batch.rows_of_entity
    return model.gradient_sum(weights, batch.X, batch.y, clip=limits, dropout=plan.dropout, rng=dropout)


def _dropout_generator(plan: LocalPlan, generator: NoiseGenerator) -> np.random.Generator | None:
    """Which units are left out protects nobody: a fast generator may choose, from 256 of our bits."""
    return np.random.default_rng(generator.words(4)) if plan.dropout > 0 else None
