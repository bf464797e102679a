"""Pieces that every generator draws with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Texts = NDArray[np.object_]
# A table by column name; numbers have NaN and texts None where absent.
Columns = Mapping[str, NDArray[Any]]


def choice(
    rng: np.random.Generator, names: Sequence[str], shares: Sequence[float] | Array, rows: int
) -> Texts:
    """Categories with the given shares, which need not sum to 1. Shape [rows]."""
    weights = np.asarray(shares, dtype=np.float64)
    drawn: Texts = rng.choice(np.array(names, dtype=object), size=rows, p=weights / weights.sum())
    return drawn


def as_codes(values: Array) -> Texts:
    """0/1 numbers as the categories "0" and "1", which may then be absent."""
    return np.where(values > 0, "1", "0").astype(object)


def effect(column: Texts, effects: dict[str, float]) -> Array:
    """The log-odds that categories add; those not named add none. Shape [rows]."""
    total = np.zeros(len(column))
    for name, value in effects.items():
        total[column == name] = value
    return total


def drifted(rng: np.random.Generator, coefficients: Sequence[float], drift: float) -> Array:
    """The common coefficients, each scaled by this organisation's own 1 + drift * normal."""
    return np.asarray(coefficients) * (1.0 + drift * rng.normal(size=len(coefficients)))


def labels(rng: np.random.Generator, log_odds: Array, prevalence: float, noise: float) -> NDArray[np.int64]:
    """0/1 labels whose expected share of ones is `prevalence`. Shape [rows]."""
    noisy = log_odds + noise * rng.normal(size=len(log_odds))
    low, high = -30.0 - noisy.max(), 30.0 - noisy.min()
    for _ in range(60):
        middle = (low + high) / 2
        share = float((1.0 / (1.0 + np.exp(-np.clip(noisy + middle, -50, 50)))).mean())
        low, high = (middle, high) if share < prevalence else (low, middle)
    chance = 1.0 / (1.0 + np.exp(-np.clip(noisy + low, -50, 50)))
    drawn: NDArray[np.int64] = (rng.random(len(chance)) < chance).astype(np.int64)
    return drawn


def with_gaps(rng: np.random.Generator, values: Array, share: float) -> Array:
    """The values, that share of them absent (NaN)."""
    return np.where(rng.random(len(values)) < share, np.nan, values)


def with_text_gaps(rng: np.random.Generator, values: Texts, share: float) -> Texts:
    """The categories, that share of them absent (None)."""
    gone = values.copy()
    gone[rng.random(len(values)) < share] = None
    return gone
