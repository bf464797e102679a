"""How much of a canary can be seen in what was released: one score each, found without knowing the coins.

The inner product of each upload with the canary's own clipped gradient is the best that can be done against
Gaussian noise that is fresh at every draw. Against noise that is not, the differences between uploads and
between canaries say more. So products are first whitened over the rounds, by the covariance that the canaries
themselves show, and each canary counts by how little its own products vary. Both look at uploads alone, never
at a coin, so the guesses stay a function of what was released and the audit's theorem holds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# So many canaries for each round that enters the covariance; with more rounds neighbours are added up.
CANARIES_PER_ROUND = 15
# The spread of one canary's products counts as if its neighbours' had been seen so often before.
PRIOR = 4.0
# Whitened products vary by about 1; ones that vary by less than this are as good as exact.
LEAST_STEADY = 1e-6
# A kind of canaries that shows nothing still counts so much, as if it were this many standard deviations apart.
LEAST_TRUST = 0.5
# Directions do not meet the gradients to more than this share of the clip.
LEAST_SPREAD = 0.02


def combined(
    products: Array, present: Array, kinds: NDArray[np.bool_], *, clip: float
) -> tuple[Array, Array]:
    """One score for each canary: the plain one of the whitened rounds, and the one that spreads are weighed in.

    Parameters
    ----------
    products : inner product of each canary's direction with each upload, [m, T]
    present : how far each upload would show a canary that is in: 1, or 0 in quiet rounds, [T]
    kinds : two kinds of canaries, each compared with its own, [m]
    clip : by how much a canary that is in moves its product in a round that shows it
    """
    grouped, shown = _grouped(products, present)
    centred = np.empty_like(grouped)
    for kind in (kinds, ~kinds):
        if kind.any():
            centred[kind] = grouped[kind] - np.median(grouped[kind], axis=0)
    rounds = centred.shape[1]
    covariance = centred.T @ centred / len(centred)
    # Differences between rounds without any noise are worth the most, but not without end.
    sizes, axes = np.linalg.eigh(covariance)
    # Differences without any noise are worth the most, and stay finite.
    scales = np.sqrt(np.maximum(sizes, (LEAST_SPREAD * clip) ** 2))
    white = (axes / scales).T @ centred.T
    signal = (axes / scales).T @ shown
    signal /= max(float(np.linalg.norm(signal)), 1e-300)
    plain: Array = signal @ white
    if rounds == 1:
        return plain, plain
    spread = (np.einsum("ti,ti->i", white, white) - plain**2) / (rounds - 1)
    spread = np.maximum(spread, 0.0)
    typical = float(spread.mean())
    steady = (PRIOR * typical + (rounds - 1) * spread) / (PRIOR + rounds - 1)
    weighed: Array = plain / np.maximum(steady, LEAST_STEADY)
    for kind in (kinds, ~kinds):
        if kind.any():
            # Scores of canaries that show spread more than rounds do: by that much this kind is to be believed.
            shows = float(plain[kind].var() - spread[kind].mean()) / max(typical, LEAST_STEADY)
            weighed[kind] *= max(LEAST_TRUST, 2.0 * np.sqrt(max(shows, 0.0)))
    return plain, weighed


def share_seen(canaries: int, present: Array) -> float:
    """Part of mu that the plain scores of `combined` show where noise is fresh: what is lost is known beforehand.

    Quiet rounds show nothing, the other ones `present` of it, and a covariance of p rounds from m canaries costs
    sqrt(1 - p / m) of the distance (Reed, Mallett and Brennan 1974).
    """
    rounds = min(len(present), _most_rounds(canaries))
    whitening = 1.0 - (rounds / canaries if rounds > 1 else 0.0)
    return float(np.sqrt(np.mean(present**2) * whitening))


def _most_rounds(canaries: int) -> int:
    return max(2, canaries // CANARIES_PER_ROUND)


def _grouped(products: Array, present: Array) -> tuple[Array, Array]:
    """Rounds of the same kind added up, so that there are few enough for a covariance."""
    canaries, rounds = products.shape
    most = _most_rounds(canaries)
    if rounds <= most:
        return products, present
    parts = []
    for kind in (present > 0.5, present <= 0.5):
        own = np.flatnonzero(kind)
        if own.size:
            parts += np.array_split(own, max(1, min(own.size, most * own.size // rounds)))
    grouped = np.stack([products[:, part].sum(axis=1) for part in parts], axis=1)
    return grouped, np.array([present[part].sum() for part in parts])
