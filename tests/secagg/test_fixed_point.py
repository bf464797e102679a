"""Laws of the grid: sums are exact in the integers, cannot wrap, and come back within half a unit each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.secagg.fixed_point import MODULUS, Grid, add_into

PRIME = 4294828033
bounds = st.floats(1e-6, 1e6)
members = st.integers(1, 1000)


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


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        Grid(1.0, 3).encode(np.array([0.0, np.inf]))


@pytest.mark.parametrize("arguments", [(0.0, 3), (np.inf, 3), (1.0, 0), (1e10, 10)])
def test_a_grid_that_cannot_work_is_refused(arguments: tuple[float, int]) -> None:
    with pytest.raises(ValueError, match=r"grid"):
        Grid(*arguments)
