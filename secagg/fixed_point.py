"""The grid: real vectors as integers modulo m that can be summed without wrapping (PROTOCOL section 4).

    scale = floor((m/2 - 1) / (K * (bound + tail)))

m is the smallest modulus by which anybody sums such a segment (`within`), so that every mode rounds alike.
K members each add at most `bound + tail` in absolute value, so the sum stays below m/2 and
its sign survives. `tail` is room for noise (12 sigma C); it is 0 where none is added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MODULUS = 2**32

# Coordinates worked on at a time: what lies between input and output stays in the processor's cache.
_CHUNK = 32_768


@dataclass(frozen=True)
class Grid:
    """Public parameters of one segment: its coordinate bound, K summands, modulus."""

    bound: float
    summands: int
    modulus: int = MODULUS
    tail: float = 0.0
    # The modulus that sets the scale, where it is not the one summed by.
    within: int = MODULUS

    def __post_init__(self) -> None:
        if not (2 <= self.modulus <= MODULUS and 2 <= self.within <= MODULUS):
            raise ValueError(f"a grid has words of 32 bits; its modulus cannot be {self.modulus}")
        if not (self.bound > 0 and math.isfinite(self.bound) and self.summands >= 1 and self.tail >= 0):
            raise ValueError(f"grid needs a positive bound and at least one summand: {self}")
        if self.scale < 1:
            raise ValueError(
                f"a grid for bound {self.bound:g} and {self.summands} members has no whole unit modulo {self.modulus}"
            )

    @property
    def scale(self) -> int:
        """Grid units per 1.0."""
        return int(self._half / (self.summands * (self.bound + self.tail)))

    @property
    def _half(self) -> int:
        return min(self.modulus, self.within) // 2 - 1

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.uint32]:
        """Clamp to +-bound, round to the grid, map into [0, m). Shape (d,).

        Raises
        ------
        ValueError : a value that is not finite
        """
        scale = float(self.scale)
        # Rounding may lift a value at the bound by half a unit, K of them past m/2: clamp the units too.
        most = float(self._half // self.summands)
        encoded = np.empty(values.size, dtype=np.uint32)
        room = np.empty(min(_CHUNK, values.size))
        for start in range(0, values.size, _CHUNK):
            part, words = values[start : start + _CHUNK], encoded[start : start + _CHUNK]
            if not np.isfinite(part).all():
                raise ValueError("an update holds values that are not finite")
            units = room[: part.size]
            np.clip(part, -self.bound, self.bound, out=units)
            np.multiply(units, scale, out=units)
            np.rint(units, out=units)
            np.clip(units, -most, most, out=units)
            # Below m/2, a unit fits 31 bits and its sign; as words of 32 bits they are units modulo 2^32.
            words.view(np.int32)[:] = units
            if self.modulus != MODULUS:
                words -= (words >> 31) * np.uint32(MODULUS - self.modulus)
        return encoded

    def decode(self, total: NDArray[np.uint32]) -> NDArray[np.float64]:
        """A sum modulo m, in [0, m), back to real numbers, exact in the integers. Shape (d,)."""
        scale = float(self.scale)
        decoded = np.empty(total.size)
        for start in range(0, total.size, _CHUNK):
            words, part = total[start : start + _CHUNK], decoded[start : start + _CHUNK]
            if self.modulus != MODULUS:
                words = words + _times(words >= self.modulus // 2, MODULUS - self.modulus)
            part[:] = words.view(np.int32)
            part /= scale
        return decoded


def add_into(total: NDArray[np.uint32], part: NDArray[np.uint32], modulus: int = MODULUS) -> None:
    """total += part modulo m, in place. Shape (d,)."""
    if modulus == MODULUS:
        np.add(total, part, out=total)  # uint32 wraps at 2^32 by itself
        return
    for start in range(0, total.size, _CHUNK):
        here = total[start : start + _CHUNK]
        # Whoever sent the part may have sent words that are not below m.
        np.copyto(here, _below(here, modulus))
        add_words(here, _below(part[start : start + _CHUNK], modulus), modulus)


def add_words(total: NDArray[np.uint32], words: NDArray[np.uint32], modulus: int) -> None:
    """total += words modulo m < 2^32, in place; both are below m. For at most a cache's worth of words."""
    over = total >= np.uint32(modulus) - words
    total += words
    total -= _times(over, modulus)


def subtract_words(total: NDArray[np.uint32], words: NDArray[np.uint32], modulus: int) -> None:
    """total -= words modulo m < 2^32, in place; both are below m. For at most a cache's worth of words."""
    under = total < words
    total -= words
    total += _times(under, modulus)


def _times(mask: NDArray[np.bool_], word: int) -> NDArray[np.uint32]:
    """`word` where the mask holds, else 0: numpy does this far quicker than anything under a mask."""
    chosen: NDArray[np.uint32] = mask.view(np.uint8) * np.uint32(word)
    return chosen


def _below(words: NDArray[np.uint32], modulus: int) -> NDArray[np.uint32]:
    """The words modulo m, themselves where they are below it already."""
    return words if words.size == 0 or int(words.max()) < modulus else words % np.uint32(modulus)
