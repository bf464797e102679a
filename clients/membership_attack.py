"""An attack on a released model: does its loss tell the records it was trained on from others?

The loss of each record is the score (Yeom et al. 2018, 1709.01604). The organisation knows which of its own
records were held out, so it can say how often the attacker would be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.clients.auditing import Subject, split_of
from hansa.clients.data.dataset import Dataset
from hansa.contract.features import BinaryLabel, MulticlassLabel
from hansa.models.losses import scaled_label
from hansa.models.metrics import TINY
from hansa.models.preparation import predict
from hansa.privacy.audit import auc_interval

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Attack:
    """How well a loss threshold tells trained entities from held-out ones: AUC, 1/2 is a coin's."""

    auc: float
    low: float
    high: float
    confidence: float
    trained: int
    held_out: int


def attack(subject: Subject, released: Mapping[str, Array], *, confidence: float = 0.95) -> Attack:
    """Tell the entities that the model was trained on from the held-out ones by their mean loss.

    Parameters
    ----------
    released : as `models.preparation.handed_out` gives it

    Raises
    ------
    InputError : fewer than two entities on a side
    """
    parts = split_of(subject, subject.charter, subject.records)
    trained = -_entity_losses(released, parts.train, subject)
    others = -_entity_losses(released, parts.holdout, subject)
    area, low, high = auc_interval(trained, others, confidence)
    return Attack(area, low, high, confidence, len(trained), len(others))


def _entity_losses(released: Mapping[str, Array], records: Dataset, subject: Subject) -> Array:
    """Mean loss of the rows of each entity. Shape [entities]."""
    _, owner, rows = np.unique(records.entities, return_inverse=True, return_counts=True)
    task = subject.charter.task
    losses = _losses(predict(task.model, task.features, released, records.X), records.y, subject)
    means: Array = np.bincount(owner, weights=losses, minlength=len(rows)) / rows
    return means


def _losses(predicted: Array, y: Array, subject: Subject) -> Array:
    label = subject.charter.task.features.label
    if isinstance(label, BinaryLabel):
        likelihood = np.where(y == 1, predicted, 1.0 - predicted)
    elif isinstance(label, MulticlassLabel):
        likelihood = predicted[np.arange(len(y)), y.astype(np.intp)]
    else:
        error: Array = (scaled_label(y, label) - scaled_label(predicted, label)) ** 2
        return error
    return -np.log(np.maximum(likelihood, TINY))
