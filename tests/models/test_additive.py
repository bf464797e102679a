"""The model `additive`: its columns are public functions of the encoded value, and it bends where a line cannot."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from small_records import LABELS, contract

from hansa.contract.features import CategoricalColumn, FeatureContract, NumericColumn
from hansa.models.additive import AdditiveModel
from hansa.models.fit import fit
from hansa.models.linear import LinearModel
from hansa.models.metrics import auc

FEATURES = FeatureContract(
    columns=(
        NumericColumn(name="dose", low=0, high=99, missing=9, log=True, indicator=True),
        CategoricalColumn(name="kind", categories=("x", "y", "z")),
        NumericColumn(name="age", low=0, high=80, missing=20),
    ),
    label=LABELS["binary"],
)


def test_each_number_has_two_cosines_over_its_declared_range() -> None:
    model = AdditiveModel(FEATURES, {})
    assert model.parameters == len(FEATURES.encoded) + 2 * 2 + 1
    # dose 9 is half way up its logarithmic range, age 20 a quarter up: both are encoded as 0.
    X = np.zeros((3, len(FEATURES.encoded)))
    X[1, 0], X[1, -1] = -2.0, -1.0  # both at the low end
    X[2, 0], X[2, -1] = 2.0, 3.0  # both at the high end
    columns = model.design(X) / model.intercept
    np.testing.assert_array_equal(columns[:, : X.shape[1]], X)
    expected = [[0, np.sqrt(0.5), -1, 0], [1, 1, 1, 1], [-1, -1, 1, 1]]
    np.testing.assert_allclose(columns[:, X.shape[1] : -1], expected, atol=1e-12)
    # Outside the range, where only a prepared column can lie, the curves go on straight.
    np.testing.assert_allclose(model.design(2.5 * X)[2, -5:-1], model.design(X)[2, -5:-1])


def test_a_typical_row_has_norm_one() -> None:
    features = contract(LABELS["binary"], numbers=12)
    rng = np.random.default_rng(0)
    X = np.zeros((4000, len(features.encoded)))
    X[:, :12] = rng.normal(size=(4000, 12))
    X[np.arange(4000), 12 + rng.integers(0, 2, size=4000)] = rng.integers(0, 2, size=4000)
    for model in (LinearModel(features, {}), AdditiveModel(features, {})):
        assert np.linalg.norm(model.design(X), axis=1).mean() == pytest.approx(1.0, abs=0.1)


def test_it_follows_a_curve_that_a_line_cannot() -> None:
    features = contract(LABELS["binary"])
    rng = np.random.default_rng(1)
    X = np.clip(rng.normal(size=(3000, len(features.encoded))), -2, 2)
    y = (2.0 * X[:, 0] ** 2 - 2.0 + rng.logistic(size=3000) > 0).astype(float)
    reached = {}
    for model in (LinearModel(features, {}), AdditiveModel(features, {})):
        weights = fit(model, model.initial(0), X[:2000], y[:2000])
        reached[model.name] = auc(model.predict(weights, X[2000:]), y[2000:])
    assert reached["linear"] < 0.6
    assert reached["additive"] > 0.8


def test_gradients_of_row_models_need_no_torch() -> None:
    code = (
        "import sys; import numpy as np; from small_records import LABELS, contract, records; "
        "from hansa.models.additive import AdditiveModel; from hansa.clients import statistics; "
        "features = contract(LABELS['binary']); model = AdditiveModel(features, {}); "
        "X, y = records(features, 9); model.gradient_sum(model.initial(0), X, y, clip=0.5); "
        "sys.exit('torch' in sys.modules)"
    )
    folder = __file__.rpartition("/")[0]
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, check=False).returncode == 0
