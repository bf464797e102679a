"""The grid: real vectors as integers modulo m that can be summed without wrapping (PROTOCOL section 4).

    scale = floor((m/2 - 1) / (K * (bound + tail)))

K members each add at most `bound + tail` in absolute value, so the sum stays below m/2 and
its sign survives. `tail` is room for noise (12 sigma C); it is 0 where none is added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MODULUS = 2**32


@dataclass(frozen=True)
class Grid:
    """Public parameters of one segment: its coordinate bound, K summands, modulus."""

    bound: float
    summands: int
    modulus: int = MODULUS
    tail: float = 0.0

    def __post_init__(self) -> None:
        if not (self.bound > 0 and math.isfinite(self.bound) and self.summands >= 1 and self.tail >= 0):
            raise ValueError(f"grid needs a positive bound and at least one summand: {self}")
        if self.scale < 1:
            raise ValueError(
                f"a grid for bound {self.bound:g} and {self.summands} members has no whole unit modulo {self.modulus}"
            )

    @property
    def scale(self) -> int:
        """Grid units per 1.0."""
        return int((self.modulus // 2 - 1) / (self.summands * (self.bound + self.tail)))

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.uint32]:
        """Clamp to +-bound, round to the grid, map into [0, m). Shape (d,).

        Raises
        ------
        ValueError : a value that is not finite
        """
        if not np.isfinite(values).all():
            raise ValueError("an update holds values that are not finite")
        # Rounding may lift a value at the bound by half a unit, K of them past m/2: clamp the units too.
        most = (self.modulus // 2 - 1) // self.summands
        units = (
            np.rint(np.clip(values, -self.bound, self.bound) * self.scale).astype(np.int64).clip(-most, most)
        )
        encoded: NDArray[np.uint32] = np.mod(units, self.modulus).astype(np.uint32)
        return encoded

    def decode(self, total: NDArray[np.uint32]) -> NDArray[np.float64]:
        """A sum modulo m back to real numbers, exact in the integers. Shape (d,)."""
        units = total.astype(np.int64)
        units[units >= self.modulus // 2] -= self.modulus
        return units / float(self.scale)


def add_into(total: NDArray[np.uint32], part: NDArray[np.uint32], modulus: int = MODULUS) -> None:
    """total += part modulo m, in place."""
    if modulus == MODULUS:
        np.add(total, part, out=total)  # uint32 wraps at 2^32 by itself
    else:
        np.copyto(total, ((total.astype(np.uint64) + part) % modulus).astype(np.uint32))
