"""Training without rounds, for comparison: one model on the records at hand, to convergence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hansa.models.model import Model

Array = NDArray[np.float64]

MEMORY = 20  # pairs L-BFGS keeps


def fit(
    model: Model, weights: Array, X: Array, y: Array, *, iterations: int = 300, ridge: float = 0.1
) -> Array:
    """Weights that minimise the summed loss plus ridge/2 |w - start|², by L-BFGS. Shape [d].

    Parameters
    ----------
    weights : where to start, f64[d]
    iterations : most of them; a convex loss needs fewer
    ridge : keeps separable tables and absent columns finite

    Source: Nocedal and Wright, Numerical Optimization, algorithm 7.5, with backtracking.
    """
    start = weights

    def value(w: Array) -> float:
        return model.loss(w, X, y) + 0.5 * ridge * float((w - start) @ (w - start))

    def slope(w: Array) -> Array:
        return model.gradient_sum(w, X, y) + ridge * (w - start)

    pairs: list[tuple[Array, Array]] = []
    loss, gradient = value(weights), slope(weights)
    for _ in range(iterations):
        if np.abs(gradient).max() <= 1e-6 * max(1, len(y)):
            break
        direction = -_inverse_hessian_times(gradient, pairs)
        descent = float(direction @ gradient)
        step = 1.0 if pairs else 1.0 / max(1.0, float(np.linalg.norm(gradient)))
        while value(weights + step * direction) > loss + 1e-4 * step * descent and step > 1e-12:
            step *= 0.5
        if step <= 1e-12:
            break
        moved = step * direction
        following = slope(weights + moved)
        if float(moved @ (following - gradient)) > 1e-12:
            pairs = [*pairs[1 - MEMORY :], (moved, following - gradient)]
        weights, gradient = weights + moved, following
        loss = value(weights)
    return weights


def _inverse_hessian_times(gradient: Array, pairs: list[tuple[Array, Array]]) -> Array:
    """The two-loop recursion."""
    q = gradient.copy()
    shares = []
    for s, t in reversed(pairs):
        share = float(s @ q) / float(s @ t)
        q -= share * t
        shares.append(share)
    if pairs:
        s, t = pairs[-1]
        q *= float(s @ t) / float(t @ t)
    for (s, t), share in zip(pairs, reversed(shares), strict=True):
        q += (share - float(t @ q) / float(s @ t)) * s
    return q
