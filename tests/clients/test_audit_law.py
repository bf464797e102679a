"""Draws that are normal and independent are not flagged; each way in which they are not is."""

from __future__ import annotations

import numpy as np
import pytest

from hansa.clients.audit_law import (
    draws_related,
    grain_findings,
    numbers_related,
    segments_related,
    shape_findings,
)

DRAWS, NUMBERS, SCALE = 600, 48, 1000
SD = 50.0


def drawn(seed: int, numbers: int = NUMBERS) -> np.ndarray:
    return np.rint(SCALE * np.random.default_rng(seed).normal(0, SD, (DRAWS, numbers))) / SCALE


@pytest.mark.parametrize("numbers", [1, 2, 3, NUMBERS])
def test_normal_noise_is_not_flagged(numbers: int) -> None:
    for seed in range(40):
        noise = drawn(seed, numbers)
        assert shape_findings(noise) == []
        assert grain_findings(noise, SCALE) == []
        assert not draws_related(noise)
        assert not numbers_related(noise, sizes=True)
        assert not segments_related(noise, drawn(1000 + seed, 5))


def test_noise_of_whole_steps_is_flagged_however_few_they_are() -> None:
    assert grain_findings(3 * np.rint(drawn(1) * SCALE / 3) / SCALE, SCALE) == [
        "all noise is a multiple of 3 units: what is summed shows behind it"
    ]
    # Steps of no whole number of units.
    steps = SD / 100.3
    assert "as often as on a grid this fine" in grain_findings(steps * np.rint(drawn(1) / steps), SCALE)[0]


def test_no_noise_and_little_noise_are_others_to_flag() -> None:
    nothing = np.zeros((DRAWS, NUMBERS))
    assert shape_findings(nothing) == grain_findings(nothing, SCALE) == []
    assert grain_findings(np.random.default_rng(0).integers(-1, 2, (DRAWS, NUMBERS)) / SCALE, SCALE) == []


def test_noise_that_ends_at_three_standard_deviations_is_flagged() -> None:
    noise = drawn(1)
    assert shape_findings(noise[np.abs(noise) < 3 * SD]) == [
        "no noise comes 3.41 standard deviations far: it is cut off"
    ]


@pytest.mark.parametrize(
    "repeat",
    [
        lambda noise: np.concatenate([noise, noise], axis=1),
        lambda noise: np.concatenate([noise, -noise], axis=1),
        lambda noise: np.concatenate([noise, noise[:, ::-1]], axis=1),
        lambda noise: np.concatenate([noise, drawn(2, 1000), noise], axis=1),
        lambda noise: np.repeat(noise, 2, axis=1),
    ],
    ids=["again", "turned", "mirrored", "far away", "by twos"],
)
def test_numbers_that_repeat_others_are_flagged(repeat: object) -> None:
    noise = repeat(drawn(1))  # type: ignore[operator]
    assert numbers_related(noise, sizes=False)
    assert not draws_related(noise)


def test_draws_that_repeat_others_are_flagged_however_late() -> None:
    noise = drawn(1)
    noise[300:] = noise[300:] + noise[:300]
    assert draws_related(noise)
    assert not numbers_related(noise, sizes=True)


@pytest.mark.parametrize("times", [1.0, -0.1])
def test_a_segment_under_the_noise_of_another_is_flagged(times: float) -> None:
    noise = drawn(1)
    assert segments_related(noise, times * noise[:, 7:20])
