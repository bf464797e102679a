"""Noise on the grid: sensitivity, sums that cannot wrap, what is charged."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hansa.contract.errors import InputError
from hansa.privacy import grid_noise
from hansa.privacy.grid_noise import _CHUNK, GridNoise, effective_multiplier, tail
from hansa.privacy.noise import NoiseGenerator
from hansa.secagg.fixed_point import Grid, add_into

CLIP, BOUND = 0.5, 500.0


def noise_on(grid: Grid, length: int, multiplier: float, share: float = 1.0) -> GridNoise:
    return GridNoise(clip=CLIP, length=length, scale=grid.scale, multiplier=multiplier, share=share)


@settings(max_examples=40, deadline=None)
@given(
    summands=st.integers(2, 60),
    multiplier=st.floats(0.5, 60),
    modulus=st.sampled_from([2**32, 2**32 - 5, 3_221_225_473]),
    sign=st.sampled_from([-1.0, 1.0]),
    length=st.integers(1, 60),
)
def test_no_sum_of_all_members_worst_cases_wraps(
    summands: int, multiplier: float, modulus: int, sign: float, length: int
) -> None:
    grid = Grid(bound=BOUND, summands=summands, modulus=modulus, tail=tail(multiplier, CLIP))
    try:
        noise = noise_on(grid, length, multiplier)
    except InputError:
        return
    # Every value lies beyond its bound, and every draw at the clamp or farther out.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            grid_noise,
            "discrete_gaussian",
            lambda count, sigma, generator: np.full(count, sign * math.ceil(12.5 * sigma)).astype(np.int64),
        )
        total = np.zeros(length, dtype=np.uint32)
        for _ in range(summands):
            encoded = grid.encode(np.full(length, 3 * sign * BOUND))
            add_into(total, noise.add(encoded, NoiseGenerator(), modulus=modulus, summands=summands), modulus)
    decoded = grid.decode(total)
    assert (np.sign(decoded) == sign).all()
    assert (np.abs(decoded) >= 0.99 * summands * (BOUND + tail(multiplier, CLIP))).all()


def test_the_sum_is_that_of_the_values_and_its_noise_has_the_stated_deviation() -> None:
    members, length, multiplier = 5, 40_000, 5.0
    grid = Grid(bound=BOUND, summands=members, tail=tail(multiplier, CLIP))
    noise = noise_on(grid, length, multiplier)
    values = np.random.default_rng(3).uniform(-5, 5, length)
    total = np.zeros(length, dtype=np.uint32)
    for _ in range(members):
        add_into(total, noise.add(grid.encode(values), NoiseGenerator(), modulus=2**32, summands=members))
    error = grid.decode(total) - members * values
    expected = math.sqrt(members) * noise.sd / grid.scale
    assert abs(error.mean()) < 7 * expected / math.sqrt(length)
    assert abs(error.std() / expected - 1) < 7 / math.sqrt(2 * length)
    assert expected == pytest.approx(math.sqrt(members) * multiplier * CLIP, rel=1e-3)


def test_noise_needs_little_room_beside_what_it_returns_and_differs_from_chunk_to_chunk() -> None:
    length = 400_000
    grid = Grid(bound=BOUND, summands=5, tail=tail(5.0, CLIP))
    noise, encoded = noise_on(grid, length, 5.0), grid.encode(np.zeros(length))
    tracemalloc.start()
    noised = noise.add(encoded, NoiseGenerator(), modulus=2**32, summands=5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The words that are returned, and at most as much again.
    assert peak < 2 * noised.nbytes
    drawn = noised.view(np.int32) / noise.sd
    assert abs(drawn.std() - 1) < 7 / math.sqrt(2 * length)
    parts = drawn[: length // _CHUNK * _CHUNK].reshape(-1, _CHUNK)
    assert abs(np.corrcoef(parts)[np.triu_indices(len(parts), 1)]).max() < 7 / math.sqrt(_CHUNK)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(1, 200), summands=st.integers(1, 400_000))
def test_one_entity_moves_the_encoding_by_at_most_the_sensitivity(
    seed: int, length: int, summands: int
) -> None:
    # Very many summands: units so coarse that rounding moves more than the entity does.
    grid = Grid(bound=BOUND, summands=summands)
    dice = np.random.default_rng(seed)
    values = dice.uniform(-BOUND, BOUND, length)
    move = dice.normal(size=length)
    moved = values + CLIP * move / np.linalg.norm(move)

    def units(of: NDArray[np.float64]) -> NDArray[np.int64]:
        return grid.encode(of).view(np.int32).astype(np.int64)

    sensitivity = CLIP * grid.scale + math.sqrt(length)
    assert np.linalg.norm(units(moved) - units(values)) <= sensitivity + 1e-6


def test_noise_charges_the_multiplier_it_has_with_rounding_counted() -> None:
    grid = Grid(bound=50_000.0, summands=50, tail=tail(30.0, CLIP))
    noise = noise_on(grid, 900, 30.0)
    assert noise.sensitivity == CLIP * grid.scale + 30.0
    assert effective_multiplier(noise.sd, CLIP, grid.scale, 900) == pytest.approx(30.0)
    assert noise.sd > 30.0 * CLIP * grid.scale


def test_shares_of_distributed_noise_add_up_to_what_is_charged() -> None:
    grid = Grid(bound=BOUND, summands=10, tail=tail(5.0, CLIP))
    whole, share = noise_on(grid, 10, 5.0), noise_on(grid, 10, 5.0, share=1 / 7)
    assert math.sqrt(7) * share.sd == pytest.approx(whole.total_sd)
    assert share.total_sd == whole.sd


def test_a_grid_that_would_be_seen_in_the_noise_is_an_error() -> None:
    with pytest.raises(InputError, match="max_entities"):
        GridNoise(clip=CLIP, length=10, scale=1, multiplier=5.0)
    edge = 4096 / 5.0
    GridNoise(clip=edge - 1, length=1, scale=1, multiplier=5.0)
    with pytest.raises(InputError, match="noise of 4095"):
        GridNoise(clip=edge - 1.2, length=1, scale=1, multiplier=5.0)
    with pytest.raises(InputError, match="max_entities"):
        GridNoise(clip=1.0, length=1, scale=2**28, multiplier=5.0)
