"""Rules that look at each member's update by itself: for mode `clear` only, where the server sees them.

Coordinate-wise median and trimmed mean follow Yin et al. 2018 (1803.01498), Krum and multi-Krum
Blanchard et al. 2017 (1703.02757). Every member counts the same: a weight is a claim.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def center(updates: Sequence[Array], rule: str, faulty: int) -> Array:
    """One update from the members' mean updates. Each of shape (d,).

    Parameters
    ----------
    rule : one of `contract.jobs.PER_UPDATE_RULES`
    faulty : f, updates that may be anything; the charter's `c`

    Raises
    ------
    ValueError : too few updates to bear that many faulty ones
    """
    needed = least_updates(rule, faulty)
    if len(updates) < needed:
        raise ValueError(
            f"rule '{rule}' needs {needed} updates to bear {faulty} faulty ones, {len(updates)} came"
        )
    stacked = np.stack(updates)
    if rule == "median":
        middle: Array = np.median(stacked, axis=0)
        return middle
    if rule == "trimmed_mean":
        kept: Array = np.sort(stacked, axis=0)[faulty : len(updates) - faulty]
        return _mean(kept)
    chosen = np.argsort(_krum_scores(stacked, faulty), kind="stable")
    return _mean(stacked[chosen[: 1 if rule == "krum" else len(updates) - faulty]])


def least_updates(rule: str, faulty: int) -> int:
    """Fewest updates with which a rule bears `faulty` ones: 2f + 1, for Krum 2f + 3."""
    return 2 * faulty + (3 if rule in ("krum", "multikrum") else 1)


def _krum_scores(stacked: Array, faulty: int) -> Array:
    """Each update's summed squared distance to its n - f - 2 nearest others. Shape (n,)."""
    count = len(stacked)
    scores = np.empty(count)
    for number, update in enumerate(stacked):
        distances = np.sort(np.square(stacked - update).sum(axis=1))
        # The nearest of all is the update itself.
        scores[number] = distances[1 : count - faulty - 1].sum()
    return scores


def _mean(updates: Array) -> Array:
    mean: Array = updates.mean(axis=0)
    return mean
