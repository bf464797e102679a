"""What the audit's observer does: which weights it sends, how far out canaries stand, what it looks for.

It is the server of every round, so the weights are its choice, and the guarantee holds whatever they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hansa.clients.canaries import Canaries, directions, make_canaries, unshared
from hansa.contract.charter import Charter
from hansa.models.model import Model

Array = NDArray[np.float64]

# How many clips long a canary's gradient is, at least and at most. Where noise moves the weights at home, a canary
# so far out that the noise alone moves its output by more than DRIFT would be learnt or unlearnt by chance.
LEAST_REACH, REACH, DRIFT = 2.0, 20.0, 1.5
# Of the rounds of single sums so many are quiet: the weights sent there make every canary's gradient vanish.
QUIET_SHARE, LEAST_ROUNDS = 0.05, 8
# A round is quiet where no canary moves the sum by more than this share of the clip.
QUIET = 1e-3
# In the weights that canaries have for themselves the first ones are made this small: what comes after them then
# moves them much, and is little moved itself.
NEAR = 0.02
# Canaries that overlap are held apart but for this share, more than which would add too much noise; where their
# gradients are more numbers than can be kept (320 MB) they are not.
OVERLAP, MOST_KEPT = 0.1, 40_000_000


def reach_at_home(charter: Charter, member: str, multiplier: float, steps: int, client_rate: float) -> float:
    """How far out canaries are where steps are taken at home, in clips."""
    training, own = charter.training, charter.member(member)
    assert own is not None
    divisor = own.records * (1.0 - charter.task.features.holdout)
    if training.mechanism == "poisson":
        divisor = max(1.0, divisor * training.sampling_rate)
    step = multiplier * training.clip * client_rate / divisor
    # A gradient of one clip comes from a row that moves the output by two at most: its residual is a half or more.
    drift = step * np.sqrt(steps) * 2.0 * training.clip
    return float(np.clip(DRIFT / drift, LEAST_REACH, REACH))


def start_with_canaries(
    model: Model, charter: Charter, *, canaries: int, secret: bytes, reach: float, rng: np.random.Generator
) -> tuple[Array, Canaries]:
    """Weights to send, [d], and canaries whose gradients at these are `reach` clips long or somewhat more."""
    start = model.initial(0)
    made = make_canaries(model, charter, start, canaries=canaries, secret=secret, reach=reach, rng=rng)
    near = np.where(unshared(model, start, made), NEAR * start, start)
    if np.array_equal(near, start):
        return start, made
    return near, make_canaries(model, charter, near, canaries=canaries, secret=secret, reach=reach, rng=rng)


def sent_weights(
    model: Model, made: Canaries, start: Array, clip: float, rounds: int, *, at_home: bool
) -> list[Array]:
    """The weights of every round: the first ones, and now and then ones at which no canary has a gradient."""
    weights = [start] * rounds
    if at_home or rounds < LEAST_ROUNDS:
        return weights
    # A step down on the canaries alone, so far that they are all learnt.
    towards = model.gradient_sum(start, made.rows.X, made.rows.y, clip=clip)
    for length in (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0):
        quiet = start - length / clip * towards
        left = max(
            float(np.linalg.norm(directions(model, quiet, made, number))) for number in range(len(made))
        )
        if left < QUIET * clip:
            for number in np.linspace(1, rounds - 2, max(1, round(QUIET_SHARE * rounds))).astype(int):
                weights[number] = quiet
            return weights
    return weights


def canary_products(
    model: Model, made: Canaries, clip: float, weights: list[Array], uploads: Array
) -> tuple[Array, Array]:
    """Inner products of directions and uploads [m, T], and in which rounds canaries show [T]."""
    products = np.empty((len(made), len(uploads)))
    shown = np.empty(len(made))
    quiet = np.array([it is not weights[0] for it in weights])
    own = unshared(model, weights[0], made)
    kept = np.empty((len(made), model.parameters)) if len(made) * model.parameters <= MOST_KEPT else None
    for number in range(len(made)):
        towards = directions(model, weights[0], made, number)
        whole, towards = float(np.linalg.norm(towards)), np.where(own, towards, 0.0)
        length = max(float(np.linalg.norm(towards)), 1e-300)
        towards /= length
        # An upload goes against the gradient.
        products[number] = uploads @ -towards
        shown[number] = min(1.0, clip / whole) * length / clip
        if kept is not None:
            kept[number] = towards
    if kept is not None:
        products = _apart(kept @ kept.T) @ products
    return products, np.where(quiet, 0.0, float(shown.mean()))


def _apart(overlaps: Array) -> Array:
    """What takes most of the others out of each canary's product, and leaves its own. Shape [m, m].

    Canaries at right angles stay as they are; in a model with hidden units their gradients are not.
    """
    inverse = np.linalg.inv(overlaps + OVERLAP * np.eye(len(overlaps)))
    taken: Array = inverse / np.einsum("ij,ji->i", inverse, overlaps)[:, None]
    return taken
