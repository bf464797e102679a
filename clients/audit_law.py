"""Whether draws of noise are normal ones: their shape, how fine they are, and whether any tells about another.

A variance that is right says little. Noise that ends at three standard deviations shows for certain who is there,
noise of coarse steps leaves the last digits of a sum as they are, and two sums under one noise differ by their
records alone. What is called no chance here comes by chance once in `ONE_IN` looks, by bounds that hold for any number
of draws (Dvoretzky, Kiefer and Wolfowitz; Hoeffding).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ONE_IN = 1e-8
# Sizes at which the share of smaller draws is looked at, in standard deviations.
_SIZES = np.linspace(0.02, 4.0, 200)
# Pairs of equal draws over those of a normal law of whole numbers, and how many more; below so many units of noise
# no count of pairs is expected.
_EQUAL, _MORE_EQUAL, _LEAST_UNITS = 2.0, 60.0, 4.0
_MOST_COUNTED = 200_000
# Rows whose spectra are taken at a time.
_ROWS = 256


def shape_findings(values: Array) -> list[str]:
    """What speaks against a normal law of mean 0, whatever its standard deviation. Any shape."""
    sizes = np.sort(np.abs(values).ravel())
    sd = math.sqrt(float(np.mean(sizes**2)))
    if sd == 0:
        return []
    found = []
    smaller = np.searchsorted(sizes, _SIZES * sd) / sizes.size
    off = np.abs(smaller - [math.erf(it / math.sqrt(2.0)) for it in _SIZES])
    if float(off.max()) > math.sqrt(math.log(2.0 / ONE_IN) / (2.0 * sizes.size)):
        at = int(off.argmax())
        found.append(
            f"the noise is not normal: {100 * smaller[at]:.3g} % of it is within {_SIZES[at]:.2g} standard deviations"
        )
    reached = _reached(sizes.size)
    if sizes[-1] < reached * sd:
        found.append(f"no noise comes {reached:.2f} standard deviations far: it is cut off")
    return found


def grain_findings(values: Array, scale: int) -> list[str]:
    """Whether draws take all whole numbers of the grid, or steps of several. Any shape, in the segment's own units."""
    units = np.rint(values.ravel()[:_MOST_COUNTED] * scale).astype(np.int64)
    step = int(np.gcd.reduce(units))
    if step > 1:
        return [f"all noise is a multiple of {step} units: what is summed shows behind it"]
    sd = math.sqrt(float(np.mean(units.astype(np.float64) ** 2)))
    if sd < _LEAST_UNITS:
        return []
    counts = np.unique(units, return_counts=True)[1].astype(np.float64)
    pairs = float((counts * (counts - 1.0)).sum()) / 2.0
    expected = 0.5 * units.size * (units.size - 1.0) / (2.0 * math.sqrt(math.pi) * sd)
    if pairs > _EQUAL * expected + _MORE_EQUAL:
        return [f"the same values of noise come {pairs / expected:.3g} times as often as on a grid this fine"]
    return []


def draws_related(draws: Array) -> bool:
    """Whether a draw tells about a later one, however much later. Shape [draws, numbers]."""
    return any(_related(marks.T) for marks in _marks(draws))


def numbers_related(draws: Array, *, sizes: bool) -> bool:
    """Whether numbers of a draw tell about others as far apart, or as far from a middle. Shape [draws, numbers].

    Parameters
    ----------
    sizes : also whether large ones stand by large ones; not where draws were clipped as a whole
    """
    looked_at = _marks(draws) if sizes else _marks(draws)[:1]
    return any(_related(marks, mirrored=True) for marks in looked_at)


def segments_related(one: Array, other: Array) -> bool:
    """Whether draws tell about another segment's of the same uploads. Shapes [draws, numbers]."""
    return any(_related(*marks) for marks in zip(_marks(one), _marks(other), strict=True))


def _reached(count: int) -> float:
    """How many standard deviations the largest of so many normal numbers is, but for once in `ONE_IN`."""
    low, high = 0.0, 12.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if count * math.erfc(middle / math.sqrt(2.0)) > -math.log(ONE_IN):
            low = middle
        else:
            high = middle
    return low


def _marks(draws: Array) -> list[Array]:
    """Signs, and whether numbers are larger than most: 1 and -1, each as likely, of normal noise and of any other."""
    sizes = np.abs(draws)
    return [np.sign(draws), np.sign(sizes - np.median(sizes))]


def _related(one: Array, second: Array | None = None, *, mirrored: bool = False) -> bool:
    """Whether marks agree, or disagree, too often at some distance. Shapes [rows, length].

    Parameters
    ----------
    second : others; by default each with those behind it
    mirrored : also those whose places add up to the same, of the same marks
    """
    other = one if second is None else second
    size = 1 << (one.shape[1] + other.shape[1] - 1).bit_length()
    along = np.zeros(size // 2 + 1, dtype=np.complex128)
    against = np.zeros_like(along)
    for start in range(0, len(one), _ROWS):
        spectra = [np.fft.rfft(it[start : start + _ROWS], size) for it in (one, other)]
        along += (spectra[0] * spectra[1].conj()).sum(axis=0)
        against += (spectra[0] * spectra[1]).sum(axis=0)
    ones = [np.fft.rfft(np.ones(it.shape[1]), size) for it in (one, other)]
    pairs = len(one) * np.rint(np.fft.irfft(ones[0] * ones[1].conj(), size))
    agree = np.fft.irfft(along, size)
    if second is None:
        # Everything agrees with itself, and each distance comes twice.
        pairs[0] = 0.0
        pairs[size // 2 :] = 0.0
    reach = 2.0 * math.log(2.0 * 3.0 * size / ONE_IN)
    if ((np.abs(agree) > np.sqrt(reach * pairs)) & (pairs > 0)).any():
        return True
    if not mirrored:
        return False
    with_itself = np.zeros(size)
    with_itself[0 : 2 * one.shape[1] : 2] = (one**2).sum(axis=0)
    # Each pair comes twice, in both orders.
    agree = np.fft.irfft(against, size) - with_itself
    twice = len(one) * (np.rint(np.fft.irfft(ones[0] * ones[1], size)) - (with_itself > 0))
    return bool(((np.abs(agree) > np.sqrt(2.0 * reach * twice)) & (twice > 0)).any())
