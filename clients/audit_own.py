"""The audit of the organisation's own model, in its own columns, without widening anything.

A thousand canaries in twenty columns lie on top of each other in any one sum. The server may send other
weights every round, though, and far-off ones silence about half of the canaries each time, another half every
round. What is released over enough rounds then tells them apart: it is a linear system in the coins, solved
with the noise it shows (linear minimum mean squared error). Rounds are made as many as that takes, at the
noise that the same epsilon buys for so many.

Canaries are rows that the contract allows, so where the clip is larger than any such row's gradient, less can
be seen here than the guarantee allows for; `auditing.audit_mechanism` goes to the clip.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hansa.clients.attempt import LocalWork
from hansa.clients.auditing import (
    CanaryAudit,
    Claim,
    Subject,
    audit_plan,
    audited_charter,
    judged,
    released,
    split_of,
)
from hansa.clients.canaries import training_ids
from hansa.clients.data.dataset import Dataset, concatenate
from hansa.clients.training import LocalPlan, update
from hansa.contract.charter import Charter
from hansa.contract.features import (
    BinaryLabel,
    CategoricalColumn,
    FeatureContract,
    MulticlassLabel,
    NumericColumn,
)
from hansa.contract.segments import walks_at_home
from hansa.models.model import Model
from hansa.models.registry import load_model
from hansa.privacy.noise import NoiseGenerator

Array = NDArray[np.float64]

MOST_CANARIES = 1000
# Numbers released over all rounds for each canary at least.
NUMBERS_PER_CANARY = 1.5
# Gradients of single canaries that are computed at most: seconds.
MOST_GRADIENTS = 150_000
# Standard deviation of the weights that are sent: outputs are far from zero, so a label is met or missed.
FAR_OFF = 8.0


def audit_own_model(
    subject: Subject, claim: Claim, *, canaries: int, guesses: int, seed: int, confidence: float = 0.95
) -> CanaryAudit | None:
    """Guesses about canaries in the charter's own columns; None where they cannot be told apart.

    That is where steps are taken at home, or moments are summed once, so that few numbers are released, or the
    model is too large to compute every canary's gradient in every round.
    """
    charter = audited_charter(subject.charter)
    if charter.training.mechanism == "moments" or walks_at_home(charter, audit_plan(claim)):
        return None
    model = load_model(charter.task.model, charter.task.features)
    fewer = min(canaries, MOST_CANARIES)
    fixed = max(2, guesses * fewer // canaries)
    rounds = max(claim.rounds, math.ceil(NUMBERS_PER_CANARY * fewer / model.parameters))
    if rounds * fewer > MOST_GRADIENTS:
        return None
    # As much noise in all: of releases over everybody sums of 1 / z² are what epsilon is of.
    split_up = replace(claim, rounds=rounds, multiplier=claim.multiplier * math.sqrt(rounds / claim.rounds))
    rng = np.random.default_rng(seed)
    made = rows_within(
        charter.task.features, training_ids(fewer, subject.secret, charter.task.features.holdout), rng
    )
    included = rng.random(fewer) < 0.5
    own = split_of(subject, charter, subject.records)
    table = split_of(subject, charter, concatenate([subject.records, made.take(included)]))
    work = LocalWork(subject.name, charter, model, table)
    weights = [FAR_OFF * rng.normal(size=model.parameters) for _ in range(rounds)]
    uploads = [released(work, subject, split_up, number, it) for number, it in enumerate(weights, start=1)]
    scores = _told_apart(model, charter, subject, weights, uploads, own.train, made, split_up)
    found = judged(
        scores, scores, included, split_up, guesses=fixed, confidence=confidence, own_rows=len(own.train)
    )
    # Canaries are silent in every other round: how far scores are apart is no estimate of mu.
    return replace(found, separation=math.nan, separation_error=math.nan)


def rows_within(features: FeatureContract, ids: NDArray[np.bytes_], rng: np.random.Generator) -> Dataset:
    """Rows at the corners of what the contract allows, one an id, with labels by fair coins."""
    count, blocks = len(ids), []
    for column in features.columns:
        width = len(column.encoded)
        block = np.zeros((count, width))
        if isinstance(column, NumericColumn):
            block[:, 0] = _corner(column) * np.where(rng.random(count) < 0.5, -1.0, 1.0)
        elif isinstance(column, CategoricalColumn):
            chosen = rng.integers(width + 1, size=count)
            block[chosen > 0, chosen[chosen > 0] - 1] = 1.0
        blocks.append(block)
    label = features.label
    if isinstance(label, BinaryLabel):
        y = (rng.random(count) < 0.5).astype(np.float64)
    elif isinstance(label, MulticlassLabel):
        y = rng.integers(len(label.classes), size=count).astype(np.float64)
    else:
        y = np.where(rng.random(count) < 0.5, label.low, label.high)
    return Dataset(np.concatenate(blocks, axis=1), y, ids)


def _corner(column: NumericColumn) -> float:
    """How far from the value that stands in for a missing one both ends are allowed; columns are 4 wide."""
    if column.missing is None or column.log:
        return 2.0 if column.missing is None else 1.0
    low = (column.missing - column.low) / (column.high - column.low)
    return 4.0 * min(low, 1.0 - low) or 2.0


def _told_apart(
    model: Model,
    charter: Charter,
    subject: Subject,
    weights: list[Array],
    uploads: list[Array],
    own: Dataset,
    made: Dataset,
    claim: Claim,
) -> Array:
    """Log-odds of each coin, by ridge regression of what was released on what each canary would add. Shape [m]."""
    member = charter.member(subject.name)
    assert member is not None
    exact = LocalPlan(
        training=charter.training, records=member.records, holdout=charter.task.features.holdout
    )
    generator = NoiseGenerator()
    rows = [made.take(np.array([number])) for number in range(len(made))]
    gram, against, energy, numbers = np.zeros((len(made), len(made))), np.zeros(len(made)), 0.0, 0
    for sent, upload in zip(weights, uploads, strict=True):
        adds = np.stack([update(model, sent, row, exact, generator) for row in rows])
        left = upload - update(model, sent, own, exact, generator) - 0.5 * adds.sum(axis=0)
        gram += adds @ adds.T
        against += adds @ left
        energy += float(left @ left)
        numbers += left.size
    sizes, axes = np.linalg.eigh(gram)
    sizes, along = np.maximum(sizes, 0.0), axes.T @ against
    noise = _likeliest_noise(sizes, along, energy, numbers, claim.multiplier * charter.training.clip)
    # Coins have mean 1/2 and variance 1/4.
    shrunk = 1.0 / (sizes / noise**2 + 4.0)
    means = axes @ (shrunk * along) / noise**2
    variances = (axes**2) @ shrunk
    scores: Array = means / variances
    return scores


def _likeliest_noise(sizes: Array, along: Array, energy: float, numbers: int, claimed: float) -> float:
    """Standard deviation of the noise under which what was released is likeliest: it may be less than claimed."""
    best, found = -math.inf, claimed
    for noise in claimed * np.logspace(-5, 0.3, 160):
        square = noise**2
        explained = float(np.sum(along**2 / (sizes + 4.0 * square)))
        fit = -max(energy - explained, 0.0) / (2.0 * square)
        volume = -0.5 * (numbers * math.log(square) + float(np.sum(np.log1p(sizes / (4.0 * square)))))
        if fit + volume > best:
            best, found = fit + volume, float(noise)
    return found
