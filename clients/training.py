"""What a member computes in a round: pure functions of weights and records.

`gradient` with one step returns minus the clipped gradient sum over all records; the server
divides by the public total of records. With more steps the member walks at home and returns
the way it went, weighted by its public number of records, so that the same division gives
the mean. `poisson` walks mini-batches drawn at a public rate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.dataset import Dataset
from hansa.contract.charter import Training
from hansa.models.model import Model

Array = NDArray[np.float64]


def local_update(
    model: Model,
    weights: Array,
    dataset: Dataset,
    *,
    training: Training,
    steps: int,
    client_rate: float,
    dropout: float,
    records: int,
    rng: np.random.Generator,
) -> Array:
    """A member's summand of a round: the direction in which the weights should move. Shape [d].

    Parameters
    ----------
    weights : the round's incoming model, f64[d]
    dataset : the member's training records
    training : clip, delta_clip, mechanism and sampling rate of the charter
    steps : full-batch or mini-batch steps
    client_rate : step size at home, on the mean gradient; not used by one full-batch step
    records : the member's public number of records
    rng : draws of dropout and of mini-batches
    """
    if training.mechanism == "gradient" and steps == 1:
        return -model.gradient_sum(
            weights, dataset.X, dataset.y, clip=training.clip, dropout=dropout, rng=rng
        )
    end = walk(
        model,
        weights,
        dataset,
        training=training,
        steps=steps,
        client_rate=client_rate,
        dropout=dropout,
        records=records,
        rng=rng,
    )
    return records * clipped(end - weights, training.delta_clip)


def walk(
    model: Model,
    weights: Array,
    dataset: Dataset,
    *,
    training: Training,
    steps: int,
    client_rate: float,
    dropout: float,
    records: int,
    rng: np.random.Generator,
) -> Array:
    """Weights after `steps` steps at home; divisors are public, never the private number of rows. Shape [d]."""
    for _ in range(steps):
        batch, divisor = dataset, float(records)
        if training.mechanism == "poisson":
            batch = dataset.take(rng.random(len(dataset)) < training.sampling_rate)
            divisor = max(training.sampling_rate * records, 1.0)
        total = model.gradient_sum(weights, batch.X, batch.y, clip=training.clip, dropout=dropout, rng=rng)
        weights = weights - client_rate / divisor * total
    return weights


def clipped(vector: Array, norm: float) -> Array:
    """The vector, scaled to at most that Euclidean norm."""
    length = float(np.linalg.norm(vector))
    return vector if length <= norm else vector * (norm / length)
