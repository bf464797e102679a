"""Noise from a cryptographic generator: discrete Gaussians on the integer grid, normal floats off it.

How exactly the law is met. Integers are drawn by rejection (Canonne, Kamath and Steinke 2020,
2004.00010, algorithms 2 and 3), and everything that enters is exact or has a small *relative* error:

* the offset within a block is uniform without bias (Lemire 2019, 1805.10941);
* uniforms have 53 significant bits, however small they are, because a small one gets 64 bits more. So
  P(u <= p) = p (1 ± 2^-52) also for p = 1e-30, where a fixed-point uniform of 53 bits (absolute error
  2^-53) would cut the tail at 8.6 sigma;
* the exponent of a coin is at most 100 with relative error 2^-50, so its probability is off by 1e-13.

Hence the probability of every integer within 12 sigma is off by a factor within 1 ± 2e-13, and the
total variation distance of one draw from the exact law is below 2e-13, whatever sigma is. Because the
error is a factor and not a summand, d draws add at most 4e-13 d to epsilon and nothing to delta: 4e-7
for a million coordinates. Clamping at 12 sigma is post-processing. Neither can be seen beside a delta
of 1e-5 to 1e-9.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from hansa.privacy import ziggurat

# A draw beyond so many sigma is clamped; its probability is below 1e-32 (PROTOCOL section 4).
TAIL = 12.0
# A block's offset is drawn from 32 bits, and sigma on a grid modulo 2^32 is below 2^31 / 12.
MOST_SIGMA = 2.0**28

# Proposals, and normal floats, at a time: what they need stays in the processor's cache.
_CHUNK = 16_384
_NORMALS = 16384
# Bytes of the stream at a time, which is what zeros are enciphered to.
_BLOCK = 65_536
_ZEROS = memoryview(bytes(_BLOCK))
# A signed integer becomes a float several times as fast as an unsigned one, so uniforms leave out the sign.
_MAGNITUDE = np.uint64(2**63 - 1)


class NoiseGenerator:
    """A stream of AES-256-CTR under a fresh key of the operating system.

    One belongs to one process: a forked child would draw the same noise, so it is refused there.

    Parameters
    ----------
    entropy : so many bytes from the operating system; only tests pass another one
    """

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._stream = Cipher(AES256(entropy(32)), CTR(bytes(16))).encryptor()
        self._process = os.getpid()

    def words(self, count: int) -> NDArray[np.uint64]:
        """64 random bits each. Shape (count,)."""
        return self._bytes(8 * count).view("<u8")

    def short_words(self, count: int) -> NDArray[np.uint32]:
        """32 random bits each. Shape (count,)."""
        return self._bytes(4 * count).view("<u4")

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """In (0, 1], with 53 significant bits also where they are small. Shape (count,)."""
        words = (self.words(count) & _MAGNITUDE).view(np.int64)
        values = words.astype(np.float64)
        # Exact: a smaller integer is a float, and a larger one is not rounded below 2^53.
        small = (values < 2.0**53).nonzero()[0]
        if small.size:
            values[small] += (self.words(small.size).astype(np.float64) + 0.5) * 2.0**-64
        values *= 2.0**-63
        return values

    def coins(self, count: int, chance: float) -> NDArray[np.bool_]:
        """True with that probability each, rounded down to a multiple of 2^-64. Shape (count,)."""
        if not 0 <= chance <= 1:
            raise ValueError(f"a chance lies between 0 and 1, not {chance}")
        if chance == 1:
            return np.ones(count, dtype=np.bool_)
        # A power of two times a float is exact, and so is its whole part as an integer.
        return self.words(count) < np.uint64(int(chance * 2.0**64))

    def normal(self, count: int) -> NDArray[np.float64]:
        """Standard normal floats (Marsaglia and Tsang 2000, the ziggurat). Shape (count,).

        Ten bits choose a layer and 54 others a point in it (Doornik 2005: not the same bits), so that values are
        multiples of less than 2^-52 and the tail is drawn, not cut.
        Only for noise whose sum is quantised afterwards: the low bits of a double are no secret noise.
        """
        drawn = np.zeros(count)
        self.add_normal(drawn, 1.0)
        return drawn

    def add_normal(self, values: NDArray[np.float64], sigma: float) -> None:
        """Add independent normal floats of that standard deviation to the values, in place; see `normal`."""
        drawn = self._normals(values.size)
        drawn *= sigma
        values += drawn

    def _normals(self, count: int) -> NDArray[np.float64]:
        values = np.empty(count)
        layers, outside = [], []
        for start in range(0, count, _NORMALS):
            part = values[start : start + _NORMALS]
            words = self.words(part.size).view(np.int64)
            layer = words & (ziggurat.LAYERS - 1)
            # The sign stays.
            words >>= ziggurat.BITS
            # Every layer is in the table: clipping spares the look whether it is.
            np.multiply(words, ziggurat.STEP.take(layer, mode="clip"), out=part)
            places = (np.abs(part) >= ziggurat.INNER.take(layer, mode="clip")).nonzero()[0]
            layers.append(layer[places])
            outside.append(places + start)
        if layers and (places := np.concatenate(outside)).size:
            values[places] = self._outside(values[places], np.concatenate(layers))
        return values

    def _outside(self, values: NDArray[np.float64], layer: NDArray[np.int64]) -> NDArray[np.float64]:
        """What stands for points that are not within their layers' inner boxes: they, one of the tail, new draws."""
        # A height within the box: small ones are not special, 53 bits do.
        height = (self.words(layer.size) >> np.uint64(11)) * ziggurat.RISE[layer]
        height += ziggurat.HEIGHT[layer]
        rejected = height > np.exp(-0.5 * values * values)
        if not layer.all():
            tail = layer == 0
            values[tail] = np.copysign(self._tail(int(np.count_nonzero(tail))), values[tail])
            rejected &= ~tail
        values[rejected] = self._normals(int(np.count_nonzero(rejected)))
        return values

    def _tail(self, count: int) -> NDArray[np.float64]:
        """Normal floats given that they lie beyond the lowest layer (Marsaglia 1964). Shape (count,)."""
        if count == 0:
            return np.empty(0)
        beyond = -np.log(self.uniforms(count)) / ziggurat.EDGE
        missed = -2.0 * np.log(self.uniforms(count)) < beyond * beyond
        beyond += ziggurat.EDGE
        beyond[missed] = self._tail(int(missed.sum()))
        return beyond

    def _bytes(self, count: int) -> NDArray[np.uint8]:
        if os.getpid() != self._process:
            raise RuntimeError("a noise generator was forked: its child would draw the parent's noise again")
        stream = np.empty(count, dtype=np.uint8)
        for start in range(0, count, _BLOCK):
            part = stream[start : start + _BLOCK]
            self._stream.update_into(_ZEROS[: part.size], part.data)
        return stream


def discrete_gaussian(count: int, sigma: float, generator: NoiseGenerator) -> NDArray[np.int64]:
    """Integers k with probability proportional to exp(-k² / (2 sigma²)), clamped at 12 sigma. Shape (count,).

    Parameters
    ----------
    sigma : in grid units, at most 2^28
    """
    if not 0 < sigma <= MOST_SIGMA:
        raise ValueError(f"noise needs a sigma above 0 and at most 2^28, not {sigma}")
    drawn = np.empty(count, dtype=np.int64)
    found = 0
    while found < count:
        # Somewhat more than every third proposal is accepted where sigma is small, every second where it is large.
        accepted = _proposals(min(_CHUNK, 3 * (count - found) + 16), sigma, generator)[: count - found]
        drawn[found : found + accepted.size] = accepted
        found += accepted.size
    most = int(TAIL * sigma)
    return drawn.clip(-most, most, out=drawn)


def _proposals(count: int, sigma: float, generator: NoiseGenerator) -> NDArray[np.int64]:
    """Accepted draws out of `count` proposals.

    Blocks of t = floor(sigma) + 1 integers: the block is geometric, the offset in it uniform. One coin does
    the work of the two in the paper, which turn this into a discrete Laplace and that into a discrete Gaussian.
    """
    size = int(sigma) + 1
    # u <= e^-v has probability e^-v: the number of such v >= 1 is geometric.
    block = np.floor(-np.log(generator.uniforms(count)))
    wide = generator.short_words(count) * np.uint64(size)
    offset = (wide >> np.uint64(32)).astype(np.float64)
    unbiased = wide.astype(np.uint32) >= np.uint32(2**32 % size)
    distance = block
    distance *= size
    distance += offset
    signs = generator.short_words((count + 31) // 32)
    negative = np.unpackbits(signs.view(np.uint8), count=count).view(np.bool_)
    exponent = distance - sigma * (sigma / size)
    exponent *= exponent
    exponent *= -0.5 / sigma**2
    exponent -= offset / size
    kept = generator.uniforms(count) <= np.exp(exponent)
    kept &= unbiased
    # Zero must not come twice as often, once with each sign.
    kept &= ~negative | (distance > 0)
    signed = np.where(negative, -distance, distance)[kept]
    return signed.astype(np.int64)
