"""What a member computes in a round: pure functions of weights and records.

`gradient` with one step returns minus the clipped gradient sum over all records; the server
divides by the public total of records. With more steps the member walks at home and returns
the way it went, weighted by its public number of records, so that the same division gives
the mean. `poisson` walks mini-batches drawn at a public rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.dataset import Dataset
from hansa.contract.charter import Charter, Training
from hansa.contract.jobs import JobPlan
from hansa.models.model import Model

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LocalPlan:
    """The public facts of one member's training in one round.

    `records` is its public size, hold-out included; `client_rate` is the step at home on the
    mean gradient and is not used by a single full-batch step.
    """

    training: Training
    records: int
    holdout: float
    steps: int = 1
    client_rate: float = 1.0
    dropout: float = 0.0

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
    rng: np.random.Generator,
) -> Array:
    """A member's summand of a round, as charter, job and knobs say; see `update`. Shape [d]."""
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
    )
    return update(model, weights, dataset, local, rng)


def update(
    model: Model, weights: Array, dataset: Dataset, plan: LocalPlan, rng: np.random.Generator
) -> Array:
    """The direction in which this member would move the weights, times its number of records. Shape [d]."""
    if not plan.walks:
        return -_gradient_sum(model, weights, dataset, plan, rng)
    end = walk(model, weights, dataset, plan, rng)
    return plan.records * clipped(end - weights, plan.training.delta_clip)


def walk(model: Model, weights: Array, dataset: Dataset, plan: LocalPlan, rng: np.random.Generator) -> Array:
    """Weights after the steps at home. Shape [d].

    Divisors are public, never the private number of rows; an empty batch is a step.
    """
    training_records = plan.records * (1.0 - plan.holdout)
    for _ in range(plan.steps):
        batch, divisor = dataset, training_records
        if plan.training.mechanism == "poisson":
            batch = dataset.take(rng.random(len(dataset)) < plan.training.sampling_rate)
            divisor = max(plan.training.sampling_rate * training_records, 1.0)
        weights = weights - plan.client_rate / divisor * _gradient_sum(model, weights, batch, plan, rng)
    return weights


def clipped(vector: Array, norm: float) -> Array:
    """The vector, scaled to at most that Euclidean norm."""
    length = float(np.linalg.norm(vector))
    return vector if length <= norm else vector * (norm / length)


def _gradient_sum(
    model: Model, weights: Array, batch: Dataset, plan: LocalPlan, rng: np.random.Generator
) -> Array:
    return model.gradient_sum(
        weights, batch.X, batch.y, clip=plan.training.clip, dropout=plan.dropout, rng=rng
    )
