"""From noised sums to a preparation: what is found without noise, and how noise is borne."""

from __future__ import annotations

import numpy as np
import pytest

from hansa.clients.data.dataset import Dataset
from hansa.clients.statistics import statistics_sum
from hansa.contract.features import (
    BinaryLabel,
    CategoricalColumn,
    FeatureContract,
    MulticlassLabel,
    NumericColumn,
    RegressionLabel,
)
from hansa.contract.statistics import statistics_layout
from hansa.models.preparation import LARGEST_SCALE, Preparation
from hansa.strategies.contract_check import SPREAD, preparation_of

FEATURES = FeatureContract(
    columns=(
        NumericColumn(name="wide", low=0, high=1),
        NumericColumn(name="fits", low=0, high=1, indicator=True),
        CategoricalColumn(name="c", categories=("x", "y")),
        NumericColumn(name="still", low=0, high=1),
    ),
    label=BinaryLabel(prevalence=0.5),
)
WIDE, FITS, STILL = 0, 1, 5


def make(rows: int, seed: int = 0) -> Dataset:
    """One column a quarter as spread as declared and off the middle, one as declared, one constant."""
    rng = np.random.default_rng(seed)
    X = np.zeros((rows, len(FEATURES.encoded)))
    X[:, WIDE] = 0.7 + 0.25 * rng.normal(size=rows)
    X[:, FITS] = np.clip(rng.normal(size=rows), -2, 2)
    X[:, 3] = rng.integers(0, 2, size=rows)
    X[:, STILL] = -1.0
    y = (rng.uniform(size=rows) < 0.1).astype(float)
    return Dataset(X, y, np.array([f"{seed}-{row}".encode() for row in range(rows)]))


def stretched(found: Preparation) -> list[int]:
    return np.flatnonzero(found.scale != 1.0).tolist()


def test_narrow_columns_are_stretched_and_no_other() -> None:
    made = make(4000)
    found = preparation_of(statistics_sum(made, FEATURES), 0.0, FEATURES)
    assert stretched(found) == [WIDE, STILL]
    prepared = found.apply(made.X)
    assert prepared[:, WIDE].mean() == pytest.approx(0.0, abs=0.05)
    assert prepared[:, WIDE].std() == pytest.approx(SPREAD, abs=0.05)
    # What does not move at all is not stretched without end.
    assert found.scale[STILL] == LARGEST_SCALE
    assert found.start == pytest.approx(np.log(made.y.mean() / (1 - made.y.mean())), abs=0.05)
    np.testing.assert_array_equal(Preparation.read(found.array, FEATURES).array, found.array)


def test_every_column_is_centred_as_far_as_its_mean_is_known() -> None:
    made = make(2000)
    sums = statistics_sum(made, FEATURES)
    found = preparation_of(sums, 0.0, FEATURES)
    np.testing.assert_allclose(found.apply(made.X).mean(axis=0), 0.0, atol=0.05)
    assert not found.centre[made.X.std(axis=0) == 0].any() or found.centre[STILL] == pytest.approx(-1.0)
    rng = np.random.default_rng(0)
    for noise in (20.0, 200.0, 2000.0):
        for _ in range(100):
            centre = preparation_of(sums + noise * rng.normal(size=sums.size), noise, FEATURES).centre
            # Never further from the truth than the noise can be, nor than doing nothing would be by much.
            assert abs(centre[3]) <= 1.0
            assert np.isfinite(centre).all()
    loud = [
        preparation_of(sums + 2000.0 * rng.normal(size=sums.size), 2000.0, FEATURES).centre[FITS]
        for _ in range(99)
    ]
    assert np.median(np.abs(loud)) == 0.0


def test_noise_leaves_columns_alone_rather_than_stretch_them_wrongly() -> None:
    sums = statistics_sum(make(2000), FEATURES)
    scales = []
    for noise in (1.0, 50.0, 1000.0):
        rng = np.random.default_rng(1)
        drawn = [
            preparation_of(sums + noise * rng.normal(size=sums.size), noise, FEATURES) for _ in range(400)
        ]
        scales.append(float(np.median([it.scale[WIDE] for it in drawn])))
        # A column that fits is stretched in one draw of a hundred at most.
        assert np.mean([it.scale[FITS] != 1.0 for it in drawn]) <= 0.01
        for it in drawn:
            Preparation.read(it.array, FEATURES)
    assert 3.5 * SPREAD < scales[0] < 4.1 * SPREAD
    assert 2.0 * SPREAD < scales[1] < scales[0]
    assert scales[2] == 1.0


def test_the_start_is_believed_as_far_as_it_is_known() -> None:
    sums = statistics_sum(make(2000), FEATURES)
    share = float(sums[1] / sums[0])
    truth = np.log(share / (1 - share))
    starts = [preparation_of(sums, noise, FEATURES).start for noise in (0.0, 100.0, 1000.0)]
    # The declared prevalence is one half, log-odds 0.
    assert starts[0] == pytest.approx(truth, abs=0.05)
    assert truth < starts[1] < starts[2] < 0
    assert preparation_of(sums * 0, 5.0, FEATURES).start == 0


@pytest.mark.parametrize(
    "label", [MulticlassLabel(classes=("a", "b", "c")), RegressionLabel(low=0.0, high=9.0)]
)
def test_other_labels_have_no_start(label: MulticlassLabel | RegressionLabel) -> None:
    features = FEATURES.model_copy(update={"label": label})
    sums = statistics_sum(make(2000), features)
    assert sums.size == statistics_layout(features).length == statistics_layout(FEATURES).length - 1
    found = preparation_of(sums, 0.0, features)
    assert found.start is None
    assert stretched(found) == [WIDE, STILL]
