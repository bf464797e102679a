"""Noise on the integer grid: how much it is there, what it protects, and adding it (PROTOCOL section 4).

A vector whose entities each move it by at most C in Euclidean norm moves its encoding by at most
C * scale + sqrt(d) units: both roundings shift each of d coordinates by at most half a unit. That, and
not C * scale, is the sensitivity to which the charged noise multiplier refers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.contract.errors import InputError
from hansa.privacy.noise import MOST_SIGMA, TAIL, NoiseGenerator, discrete_gaussian

# From so many grid units of noise on, the discrete Gaussian meets the exact Gaussian curve to 1e-9 in delta, for
# every delta below 1e-2.
LEAST_UNITS = 4096.0
# Coordinates worked on at a time: as integers of 64 bits all of them would be several models.
_CHUNK = 32_768


def tail(multiplier: float, clip: float) -> float:
    """Room that the grid leaves for one member's noise, in the vector's own units: `Grid(tail=...)`."""
    return TAIL * multiplier * clip


@dataclass(frozen=True)
class GridNoise:
    """Noise of one segment, from public numbers.

    Parameters
    ----------
    clip : C, the largest norm by which one entity moves the vector
    length : d
    scale : grid units per 1.0 (`Grid.scale`)
    multiplier : z, standard deviation over sensitivity that is charged
    share : part of the variance that this member adds: 1 where noise is `local`, 1 / (K - s) where `distributed`

    Raises
    ------
    InputError : so few units that the grid would be seen in the noise, or more than there are
    """

    clip: float
    length: int
    scale: int
    multiplier: float
    share: float = 1.0

    def __post_init__(self) -> None:
        if not (self.clip > 0 and self.length >= 1 and self.scale >= 1 and self.multiplier > 0):
            raise ValueError(f"noise on a grid needs positive numbers: {self}")
        if not 0 < self.share <= 1:
            raise ValueError(f"a member adds a share of the noise between 0 and 1, not {self.share}")
        if not self.total_sd >= LEAST_UNITS or self.sd > MOST_SIGMA:
            raise InputError(
                f"noise of {self.total_sd:.0f} grid units for {self.length} numbers: from {LEAST_UNITS:.0f} to "
                f"{MOST_SIGMA:.0f} can be drawn; lower training.max_entities, or spend less on a release"
            )

    @property
    def sensitivity(self) -> float:
        """Largest move of the encoding by one entity, in units."""
        return self.clip * self.scale + math.sqrt(self.length)

    @property
    def total_sd(self) -> float:
        """Standard deviation that protects: of this member's noise, or of K - s members' together, in units."""
        return self.multiplier * self.sensitivity

    @property
    def sd(self) -> float:
        """Standard deviation of what this member adds, in units."""
        return self.total_sd * math.sqrt(self.share)

    def add(
        self, encoded: NDArray[np.uint32], generator: NoiseGenerator, *, modulus: int, summands: int
    ) -> NDArray[np.uint32]:
        """The encoding plus fresh noise, modulo m. Shape (d,).

        The noised value is clamped to what `summands` members can add without a wrap. It is post-processing,
        and binds only where a value at its bound meets a draw near 12 sigma: `tail` leaves room for 12 z C,
        and a draw may be larger by 12 z sqrt(d) / scale.

        Parameters
        ----------
        encoded : of `Grid.encode`, in [0, m)
        summands : K of the grid
        """
        if encoded.shape != (self.length,):
            raise ValueError(f"{encoded.shape} numbers come for noise of {self.length}")
        most, half = (modulus // 2 - 1) // summands, modulus // 2
        noised = np.empty(self.length, dtype=np.uint32)
        for start in range(0, self.length, _CHUNK):
            units = encoded[start : start + _CHUNK].astype(np.int64)
            units -= np.int64(modulus) * (units >= half)
            units += discrete_gaussian(units.size, self.sd, generator)
            units.clip(-most, most, out=units)
            units += np.int64(modulus) * (units < 0)
            noised[start : start + _CHUNK] = units
        return noised


def effective_multiplier(sd: float, clip: float, scale: int, length: int) -> float:
    """The noise multiplier to charge for noise of `sd` grid units: rounding is part of the sensitivity."""
    return sd / (clip * scale + math.sqrt(length))
