"""Canaries of a job of moments: which of them stand in the one noised sum of z zᵀ and z y.

As in `auditing.audit_mechanism` they are far out in columns of their own, which here are entries of a matrix:
nobody else has anything there. The server sends no weights that matter, and there is one round.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hansa.clients.attempt import LocalWork
from hansa.clients.audit_observer import REACH
from hansa.clients.audit_scores import combined
from hansa.clients.auditing import CanaryAudit, Claim, Subject, audited_charter, judged, released, split_of
from hansa.clients.canaries import (
    MORE_ROWS,
    Canaries,
    own_records,
    right_angles,
    surprising_labels,
    together,
    training_ids,
    widened,
)
from hansa.clients.data.dataset import Dataset
from hansa.clients.statistics import centred_label
from hansa.contract.charter import Charter, ModelChoice
from hansa.models.linear import RowModel
from hansa.models.registry import load_model

Array = NDArray[np.float64]


def audit_moments(
    subject: Subject, claim: Claim, *, canaries: int, guesses: int, seed: int, confidence: float = 0.95
) -> CanaryAudit:
    """One sum of moments over the organisation's records and about half of the canaries, and guesses about them.

    The model is `linear`, whatever the charter's is: the sums of another one have more columns for each of the
    contract's, and canaries would not stand alone in them. What sums and clips is the same.
    """
    rng = np.random.default_rng(seed)
    charter = audited_charter(widened(subject.charter, canaries))
    linear = charter.task.model_copy(update={"model": ModelChoice(name="linear")})
    charter = charter.model_copy(update={"task": linear})
    model = load_model(linear.model, linear.features)
    assert isinstance(model, RowModel)
    made = _canaries(model, charter, canaries, subject.secret, rng)
    own = own_records(subject.records, charter, canaries=canaries, rng=rng)
    included = rng.random(canaries) < 0.5
    work = LocalWork(subject.name, charter, model, split_of(subject, charter, together(own, made, included)))
    upload = released(work, subject, replace(claim, rounds=1, steps=1), 1, model.initial(0))
    products = _products(model, charter, made, upload)[:, None]
    plain, weighed = combined(products, np.ones(1), made.spread, clip=charter.training.clip)
    return judged(plain, weighed, included, claim, guesses=guesses, confidence=confidence, own_rows=len(own))


def _canaries(
    model: RowModel, charter: Charter, canaries: int, secret: bytes, rng: np.random.Generator
) -> Canaries:
    """Canaries at right angles whose moments are `REACH` clips long or more."""
    features = charter.task.features
    places, spread = right_angles(canaries)
    X = np.zeros((canaries, len(features.encoded)))
    signs = np.where(rng.random(canaries) < 0.5, -1.0, 1.0)
    # z zᵀ is at least as long, by its diagonal and the half of it that is sent, as |z|² / √2.
    far = np.sqrt(np.sqrt(2.0) * REACH * charter.training.clip) / model.intercept
    X[:, -canaries:] = far * signs[:, None] * places
    y = np.full(canaries, surprising_labels(features)[0])
    rows = Dataset(X, y, training_ids(canaries, secret, features.holdout))
    return Canaries(rows, charter.training.max_records + MORE_ROWS, spread)


def _products(model: RowModel, charter: Charter, made: Canaries, upload: Array) -> Array:
    """Inner product of the upload with each canary's moments, of length 1, but for what all canaries share. Shape [m].

    That is the intercept's square and its product with the label.
    """
    z = model.design(made.rows.X)
    y = centred_label(made.rows.y, charter.task.features)
    width = z.shape[1]
    square, upper = np.zeros((width, width)), np.triu_indices(width)
    square[upper] = upload[: len(upper[0])]
    square[-1, -1] = 0.0
    with_label = np.append(upload[len(upper[0]) : -1], 0.0)
    found: Array = np.einsum("ij,ij->i", z @ square, z) + y * (z @ with_label)
    own = z[:, :-1] ** 2
    length = own.sum(axis=1)
    norm = 0.5 * (length**2 + (own**2).sum(axis=1)) + length * (model.intercept**2 + y**2)
    scaled: Array = found / np.sqrt(norm)
    return scaled
