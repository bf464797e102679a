"""A correction of scores out of the released histogram."""

from __future__ import annotations

import numpy as np
import pytest

from hansa.contract.features import BinaryLabel, FeatureContract, NumericColumn
from hansa.models.losses import sigmoid
from hansa.models.platt import SHIFT, SLOPE, platt
from hansa.models.scores import figures, score_histogram

FEATURES = FeatureContract(columns=(NumericColumn(name="n", low=0, high=1),), label=BinaryLabel())
BINS = 20


def histogram(shift: float, slope: float, rows: int = 60_000, seed: int = 0) -> np.ndarray:
    """Of a model whose log-odds s are to become shift + slope * s."""
    rng = np.random.default_rng(seed)
    said = rng.normal(0.0, 1.5, rows)
    y = (rng.random(rows) < sigmoid(shift + slope * said)).astype(float)
    entities = np.array([str(it).encode() for it in range(rows)])
    return score_histogram(FEATURES, y, sigmoid(said), entities, BINS)


@pytest.mark.parametrize(("shift", "slope"), [(0.0, 1.0), (-0.7, 1.0), (0.4, 0.5), (0.0, 1.6)])
def test_it_finds_what_scores_lack(shift: float, slope: float) -> None:
    found = figures(FEATURES, histogram(shift, slope), calibrate=True)
    assert found[SHIFT].value == pytest.approx(shift, abs=0.05)
    assert found[SLOPE].value == pytest.approx(slope, abs=0.05)
    assert found[SHIFT].error is None
    assert SHIFT not in figures(FEATURES, histogram(shift, slope))


def test_its_errors_are_those_of_the_noise() -> None:
    exact, noise = histogram(-0.5, 0.8), 60.0
    truth = figures(FEATURES, exact, calibrate=True)
    rng = np.random.default_rng(1)
    off = {SHIFT: [], SLOPE: []}
    for _ in range(200):
        found = figures(FEATURES, exact + rng.normal(0, noise, exact.shape), noise_sd=noise, calibrate=True)
        for name, each in off.items():
            error = found[name].error
            assert error is not None
            each.append((found[name].value - truth[name].value) / error)
    for each in off.values():
        # Bins that noise hides are left out, which widens it a little.
        assert 0.7 < float(np.std(each)) < 1.5
        assert abs(float(np.mean(each))) < 0.5


def test_what_noise_hides_or_separates_is_left_out() -> None:
    exact = histogram(0.0, 1.0, rows=200)
    assert SLOPE not in figures(FEATURES, exact, noise_sd=500.0, calibrate=True)
    centres = np.linspace(-4, 4, 8)
    apart = np.array([9.0] * 4 + [0.0] * 4)
    assert platt(apart, apart[::-1], centres, noise_sd=0.0) == {}
    assert platt(np.zeros(8), np.zeros(8), centres, noise_sd=0.0) == {}
