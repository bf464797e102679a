"""Laws of the grid: sums are exact in the integers, cannot wrap, and come back within half a unit each."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hansa.secagg.fixed_point import MODULUS, Grid, add_into, add_words, subtract_words

PRIME = 4294828033
bounds = st.floats(1e-6, 1e6)
members = st.integers(1, 1000)
moduli = st.sampled_from([MODULUS, PRIME, 2**31 + 11, 2**31, 65_537])
# Lengths below, at and above what is worked on at a time, and words that lie on every border.
lengths = st.sampled_from([0, 1, 7, 32_767, 32_768, 32_769, 70_000])
borders = st.sampled_from(
    [0, 1, -1, 2**31 - 1, 2**31, 2**31 + 1, PRIME // 2, PRIME // 2 - 1, PRIME - 1, PRIME]
)


def naive_encode(grid: Grid, values: NDArray[np.float64]) -> NDArray[np.uint32]:
    """The formula of `Grid.encode` on whole vectors, in wide integers."""
    most = (grid.modulus // 2 - 1) // grid.summands
    units = np.rint(np.clip(values, -grid.bound, grid.bound) * grid.scale).astype(np.int64)
    return np.mod(units.clip(-most, most), grid.modulus).astype(np.uint32)


def naive_decode(grid: Grid, total: NDArray[np.uint32]) -> NDArray[np.float64]:
    units = total.astype(np.int64)
    units[units >= grid.modulus // 2] -= grid.modulus
    return units / float(grid.scale)


def words_of(length: int, seed: int, border: int) -> NDArray[np.uint32]:
    """Random words of 32 bits, with one on a border."""
    words = np.random.default_rng(seed).integers(0, 2**32, size=length, dtype=np.uint32)
    words[seed % length if length else 0 : length : 3] = border % 2**32
    return words


@given(bounds, members, moduli, lengths, st.integers(0, 2**32 - 1))
def test_encoding_gives_what_the_formula_gives(
    bound: float, count: int, modulus: int, length: int, seed: int
) -> None:
    assume((modulus // 2 - 1) / (count * bound) >= 1)
    grid = Grid(bound, count, modulus)
    values = np.random.default_rng(seed).uniform(-1.2 * bound, 1.2 * bound, size=length)
    values[:3] = [bound, -bound, -0.0][:length]
    np.testing.assert_array_equal(grid.encode(values), naive_encode(grid, values))


@given(
    arrays(np.float64, st.integers(0, 20), elements=st.floats(allow_nan=False, allow_infinity=False)), moduli
)
def test_any_finite_value_is_encoded_as_the_formula_says(values: NDArray[np.float64], modulus: int) -> None:
    grid = Grid(3.0, 7, modulus)
    np.testing.assert_array_equal(grid.encode(values), naive_encode(grid, values))


@given(moduli, lengths, st.integers(0, 2**32 - 1), borders)
def test_decoding_gives_what_the_formula_gives(modulus: int, length: int, seed: int, border: int) -> None:
    grid = Grid(3.0, 7, modulus)
    total = words_of(length, seed, border) % modulus if modulus < MODULUS else words_of(length, seed, border)
    total = total.astype(np.uint32)
    np.testing.assert_array_equal(grid.decode(total), naive_decode(grid, total))


@given(moduli, lengths, st.integers(0, 2**32 - 1), borders, borders)
def test_a_sum_is_reduced_whatever_words_were_sent(
    modulus: int, length: int, seed: int, one: int, other: int
) -> None:
    total, part = words_of(length, seed, one), words_of(length, seed + 1, other)
    expected = (total.astype(np.uint64) + part) % modulus
    part.flags.writeable = False
    add_into(total, part, modulus)
    np.testing.assert_array_equal(total, expected)


@given(st.sampled_from([PRIME, 2**31 + 11, 65_537]), st.integers(0, 2**32 - 1), borders, borders)
def test_what_was_added_can_be_taken_off(modulus: int, seed: int, one: int, other: int) -> None:
    before, words = (
        words_of(50, seed + it, border) % np.uint32(modulus) for it, border in ((0, one), (1, other))
    )
    total = before.copy()
    add_words(total, words, modulus)
    np.testing.assert_array_equal(total, (before.astype(np.uint64) + words) % modulus)
    subtract_words(total, words, modulus)
    np.testing.assert_array_equal(total, before)


@pytest.mark.parametrize("modulus", [MODULUS, PRIME])
def test_nothing_as_long_as_a_vector_is_made_on_the_way(modulus: int) -> None:
    size = 2_000_000
    grid, values = Grid(3.0, 7, modulus), np.random.default_rng(0).normal(size=size)
    encoded = grid.encode(values)
    for call, result in (
        (lambda: grid.encode(values), 4 * size),
        (lambda: grid.decode(encoded), 8 * size),
        (lambda: add_into(encoded, encoded.copy(), modulus), 4 * size),
    ):
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < result + 2_000_000


@given(bounds, members, st.integers(0, 2**32 - 1), st.sampled_from([MODULUS, PRIME]))
def test_a_sum_is_exact_in_the_integers_and_near_in_the_reals(
    bound: float, count: int, seed: int, modulus: int
) -> None:
    count = min(count, 40)
    grid = Grid(bound, count, modulus)
    values = np.random.default_rng(seed).uniform(-1.2 * bound, 1.2 * bound, size=(count, 7))
    total = np.zeros(7, dtype=np.uint32)
    for row in values:
        add_into(total, grid.encode(row), modulus)
    most = (modulus // 2 - 1) // count
    units = np.rint(np.clip(values, -bound, bound) * grid.scale).clip(-most, most).sum(axis=0)
    np.testing.assert_array_equal(np.rint(grid.decode(total) * grid.scale), units)
    np.testing.assert_allclose(
        grid.decode(total), np.clip(values, -bound, bound).sum(axis=0), atol=count / grid.scale + 1e-9 * bound
    )


@given(bounds, members, st.sampled_from([MODULUS, PRIME]))
def test_no_sum_wraps_even_at_the_bound(bound: float, count: int, modulus: int) -> None:
    grid = Grid(bound, count, modulus)
    for sign in (1.0, -1.0):
        one = grid.encode(np.array([sign * 2 * bound])).astype(object)
        total = np.array([int(one[0]) * count % modulus], dtype=np.uint32)
        assert np.sign(grid.decode(total)[0]) == sign


@given(st.integers(0, 2**32 - 1), st.permutations(range(6)))
def test_the_order_of_summands_does_not_matter(seed: int, order: list[int]) -> None:
    grid = Grid(1.0, 6)
    parts = [grid.encode(row) for row in np.random.default_rng(seed).uniform(-1, 1, size=(6, 5))]
    one, other = np.zeros(5, dtype=np.uint32), np.zeros(5, dtype=np.uint32)
    for index in range(6):
        add_into(one, parts[index])
        add_into(other, parts[order[index]])
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 40_000])
def test_values_that_are_not_finite_are_refused(value: float, place: int) -> None:
    values = np.zeros(40_001)
    values[place] = value
    with pytest.raises(ValueError, match="not finite"):
        Grid(1.0, 3).encode(values)


@pytest.mark.parametrize(
    "arguments", [(0.0, 3), (np.inf, 3), (1.0, 0), (1e10, 10), (1.0, 3, 1), (1.0, 3, 2**32 + 1)]
)
def test_a_grid_that_cannot_work_is_refused(arguments: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"grid"):
        Grid(*arguments)  # type: ignore[arg-type]
