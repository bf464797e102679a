"""A preparation: its bounds, what a model is told, and that handing out changes no prediction."""

from __future__ import annotations

import numpy as np
import pytest
from small_records import LABELS, records

from hansa.contract.charter import ModelChoice
from hansa.contract.errors import InputError
from hansa.contract.features import CategoricalColumn, FeatureContract, NumericColumn
from hansa.contract.statistics import preparation_length
from hansa.models.preparation import LARGEST_SCALE, Preparation, handed_out, predict, prepared_model

FEATURES = FeatureContract(
    columns=(
        NumericColumn(name="a", low=0, high=400, missing=40, indicator=True),
        CategoricalColumn(name="c", categories=("x", "y", "z")),
        NumericColumn(name="b", low=-2, high=2),
    ),
    label=LABELS["binary"],
)
# a, a=missing, c=y, c=z, c=missing, b
STRETCHED = Preparation(
    np.array([0.2, 0, 0, 0, 0, 0.0]), np.array([5.0, 1, 1, 1, 1, 1.0]), start=float(np.log(0.1 / 0.9))
)


def test_a_preparation_survives_its_journey() -> None:
    array = STRETCHED.array
    assert array.shape == (preparation_length(FEATURES),)
    again = Preparation.read(array, FEATURES)
    np.testing.assert_array_equal(again.array, array)
    assert again.start == STRETCHED.start
    np.testing.assert_array_equal(again.changed, [True, False, False, False, False, False])
    untouched = Preparation.untouched(FEATURES)
    assert untouched.told(FEATURES).label.prevalence == pytest.approx(FEATURES.label.prevalence)
    assert untouched.told(FEATURES).columns == FEATURES.columns


@pytest.mark.parametrize(
    ("position", "value", "sentence"),
    [
        (0, np.nan, "out of every contract's reach"),
        (0, 5.0, "out of every contract's reach"),
        (2, -0.1, "not numeric"),
        (2, 1.1, "not numeric"),
        (6, 0.5, "by 1 to"),
        (6, 2 * LARGEST_SCALE, "by 1 to"),
        (7, 2.0, "not numeric"),
        (12, 50.0, "out of every contract's reach"),
    ],
)
def test_no_other_preparation_is_taken(position: int, value: float, sentence: str) -> None:
    array = STRETCHED.array
    array[position] = value
    with pytest.raises(InputError, match=sentence):
        Preparation.read(array, FEATURES)
    with pytest.raises(InputError, match="this contract's has 13"):
        Preparation.read(array[:-1], FEATURES)


@pytest.mark.parametrize("name", ["linear", "additive", "mlp"])
@pytest.mark.parametrize("kind", LABELS)
def test_what_is_handed_out_predicts_from_the_contract_alone(name: str, kind: str) -> None:
    features = FEATURES.model_copy(update={"label": LABELS[kind]})
    preparation = Preparation.read(STRETCHED.array, features)
    choice = ModelChoice(name=name)
    model = prepared_model(choice, features, preparation)
    weights = model.initial(0) + np.random.default_rng(0).normal(size=model.parameters)
    X, _ = records(features, 50)
    arrays = handed_out(model, weights, preparation)
    assert set(arrays) == ({"released"} if name == "linear" else {"released", "preparation"})
    np.testing.assert_allclose(
        predict(choice, features, arrays, X), model.predict(weights, preparation.apply(X)), rtol=1e-5
    )
    assert handed_out(model, weights, None).keys() == {"released"}


@pytest.mark.parametrize("name", ["linear", "additive", "mlp"])
def test_training_starts_at_the_prevalence_that_was_found(name: str) -> None:
    model = prepared_model(ModelChoice(name=name), FEATURES, STRETCHED)
    X, _ = records(FEATURES, 300)
    assert model.predict(model.initial(0), STRETCHED.apply(X)).mean() == pytest.approx(0.1, abs=0.03)
    assert prepared_model(ModelChoice(name=name), FEATURES, None).predict(
        model.initial(0) * 0, X
    ).mean() == pytest.approx(0.5)


def test_curves_stay_over_the_declared_range_of_a_column_that_is_centred_only() -> None:
    columns = (
        NumericColumn(name="a", low=0, high=99, missing=9, log=True),
        NumericColumn(name="b", low=-2, high=2, missing=1),
    )
    features = FeatureContract(columns=columns, label=LABELS["binary"])
    centred = Preparation(np.array([-0.7, 0.4]), np.ones(2), start=0.0)
    choice = ModelChoice(name="additive")
    X, _ = records(features, 40)
    X *= 0.5
    before = prepared_model(choice, features, None).design(X)
    after = prepared_model(choice, features, centred).design(centred.apply(X))
    np.testing.assert_allclose(after[:, 2:], before[:, 2:], atol=1e-9)


def test_curves_lie_over_the_range_that_was_found() -> None:
    model = prepared_model(ModelChoice(name="additive"), FEATURES, STRETCHED)
    # Encoded 0.2 is the middle now, and 0.4 on either side of it the ends.
    X = np.zeros((3, 6))
    X[:, 0] = [0.2 - 0.4, 0.2, 0.2 + 0.4]
    curves = (model.design(STRETCHED.apply(X)) / model.intercept)[:, 6]
    np.testing.assert_allclose(curves, [1, 0, -1], atol=1e-12)
