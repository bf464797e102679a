"""Words modulo the prime are uniform: a chi-square test that `% p` does not pass.

p = 2^32 - 139,263. Reducing by `% p` makes each of the 139,263 lowest values twice as likely: of 2^26 words
4,352 are expected among them instead of 2,176. The test counts the low values in 16 equal bins and everything
else in a seventeenth. Fixed before the first run: 2^26 words, p-value at least 1e-6 (chi-square, 16 degrees of
freedom: at most 57.4). A reduction by `% p` is expected to give 2,176, far beyond.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from room import Words

from hansa.secagg.fixed_point import MODULUS
from hansa.secagg.masks import HE_PRIME, MaskSecret, new_room

WORDS = 2**26
CHUNK = 2**15
LOW = 2**32 - HE_PRIME
BINS = 16
LEAST_P_VALUE = 1e-6

Draw = Callable[[int, Words], Words]


def mask(label: bytes) -> MaskSecret:
    return MaskSecret(label, (b"a" * 32, b"b" * 32))


def by_rejection() -> Draw:
    return mask(b"chi-square").words("update", HE_PRIME).next


def by_remainder() -> Draw:
    """What must not be done."""
    words = mask(b"chi-square").words("update", MODULUS)
    return lambda count, room: words.next(count, room) % np.uint32(HE_PRIME)


def survival(chi_square: float, degrees: int) -> float:
    """Probability of a larger value by chance, for an even number of degrees of freedom."""
    half, term, total = chi_square / 2, 1.0, 0.0
    for index in range(degrees // 2):
        total += term
        term *= half / (index + 1)
    return total * math.exp(-half) if half < 700 else 0.0


def p_value(counts: np.ndarray, expected: np.ndarray) -> float:
    assert counts.sum() == pytest.approx(expected.sum())
    return survival(float(((counts - expected) ** 2 / expected).sum()), len(counts) - 1)


def low_counts(draw: Draw) -> np.ndarray:
    """Of WORDS words, how many lie in each sixteenth of the low values, and how many above."""
    low, room = [], new_room()
    for _ in range(WORDS // CHUNK):
        words = draw(CHUNK, room)
        low.append(words[words < LOW])
    binned = np.bincount(np.concatenate(low).astype(np.int64) * BINS // LOW, minlength=BINS)
    return np.append(binned, WORDS - binned.sum())


def expected_counts() -> np.ndarray:
    edges = [-(-LOW * index // BINS) for index in range(BINS + 1)]
    sizes = np.append(np.diff(edges), HE_PRIME - LOW)
    return sizes / HE_PRIME * WORDS


def test_the_p_value_is_that_of_the_tables() -> None:
    """Critical values of 2, 10 and 16 degrees of freedom at 5 %, 1 % and 1e-6."""
    assert survival(5.991, 2) == pytest.approx(0.05, rel=1e-3)
    assert survival(23.209, 10) == pytest.approx(0.01, rel=1e-3)
    assert survival(57.4, 16) == pytest.approx(LEAST_P_VALUE, rel=0.5)


def test_low_values_do_not_come_more_often_than_others() -> None:
    assert expected_counts()[:-1].sum() == pytest.approx(2176, abs=1)
    assert p_value(low_counts(by_rejection()), expected_counts()) >= LEAST_P_VALUE


def test_the_same_test_finds_a_reduction_by_remainder() -> None:
    counts = low_counts(by_remainder())
    assert counts[:-1].sum() == pytest.approx(4352, rel=0.1)
    assert p_value(counts, expected_counts()) < LEAST_P_VALUE


@pytest.mark.parametrize("modulus", [MODULUS, HE_PRIME, 2**31 + 11])
def test_words_are_uniform_over_the_whole_range(modulus: int) -> None:
    """2^20 words in 257 bins, refilled ones included: modulo 2^31 + 11 they are every second one."""
    words, room, counts = mask(b"whole").words("update", modulus), new_room(), np.zeros(257, dtype=np.int64)
    for _ in range(2**20 // CHUNK):
        drawn = words.next(CHUNK, room).astype(np.int64)
        counts += np.bincount(drawn * 257 // modulus, minlength=257)
    edges = np.array([-(-modulus * index // 257) for index in range(258)])
    assert p_value(counts, np.diff(edges) / modulus * 2**20) >= LEAST_P_VALUE
