"""Models from outside: entry points, starting weights, predictions, pinned code."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from small_records import LABELS, contract, records

from hansa.contract.charter import ModelChoice
from hansa.contract.errors import CharterError, InputError
from hansa.models.fit import fit
from hansa.models.metrics import figures
from hansa.models.registry import check_distribution, distribution_hash, load_model


@pytest.mark.parametrize("name", ["linear", "additive", "mlp"])
def test_predictions_have_the_shape_and_range_of_the_label(name: str) -> None:
    for kind, label in LABELS.items():
        features = contract(label)
        model = load_model(ModelChoice(name=name), features)
        X, _ = records(features, 20)
        predicted = model.predict(30.0 * np.random.default_rng(0).normal(size=model.parameters), X)
        if kind == "multiclass":
            assert predicted.shape == (20, 3)
            np.testing.assert_allclose(predicted.sum(axis=1), 1.0, rtol=1e-6)
        elif kind == "binary":
            assert predicted.shape == (20,)
            assert ((predicted >= 0) & (predicted <= 1)).all()
        else:
            assert ((predicted >= label.low) & (predicted <= label.high)).all()


def test_training_starts_at_the_public_prevalence() -> None:
    features = contract(LABELS["binary"])
    for name in ("linear", "additive", "mlp"):
        model = load_model(ModelChoice(name=name), features)
        X, _ = records(features, 200)
        assert model.predict(model.initial(0), X).mean() == pytest.approx(0.3, abs=0.03)


def test_starting_weights_are_the_same_everywhere() -> None:
    model = load_model(ModelChoice(name="mlp", options={"hidden": [3]}), contract(LABELS["binary"]))
    assert (model.initial(7) == model.initial(7)).all()
    assert (model.initial(7) != model.initial(8)).any()
    # Numpy's PCG64 and exact arithmetic: any other value would split a federation.
    assert model.initial(7)[0].hex() == "0x1.5ba9efc08ac0ep+0"


def test_starting_weights_need_no_torch() -> None:
    code = (
        "import sys; from small_records import LABELS, contract; from hansa.models.mlp import MlpModel; "
        "MlpModel(contract(LABELS['binary']), {}).initial(0); sys.exit('torch' in sys.modules)"
    )
    folder = __file__.rpartition("/")[0]
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, check=False).returncode == 0


@pytest.mark.parametrize("kind", LABELS)
def test_fitting_learns_the_signal(kind: str) -> None:
    features = contract(LABELS[kind])
    model = load_model(ModelChoice(name="linear"), features)
    X, y = records(features, 800)
    start = model.initial(0)
    weights = fit(model, start, X, y)
    before, after = (figures(model.predict(w, X), y, features.label) for w in (start, weights))
    falling = "rmse" if kind == "regression" else "log_loss"
    assert after[falling] < 0.8 * before[falling]
    slope = model.gradient_sum(weights, X, y) + 0.1 * (weights - start)
    assert np.abs(slope).max() < 1e-2


def test_an_unknown_model_says_what_to_install() -> None:
    with pytest.raises(
        InputError, match=r"'trees'.*hansa\.models.*pip install hansa-trees.*additive, linear, mlp"
    ):
        load_model(ModelChoice(name="trees", distribution="hansa-trees"), contract(LABELS["binary"]))


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(InputError, match="no option 'depth'"):
        load_model(ModelChoice(name="mlp", options={"depth": 3}), contract(LABELS["binary"]))
    for name in ("linear", "additive"):
        with pytest.raises(InputError, match=f"'{name}' has no option 'standardise'"):
            load_model(ModelChoice(name=name, options={"standardise": True}), contract(LABELS["binary"]))
    with pytest.raises(InputError, match="hidden"):
        load_model(ModelChoice(name="mlp", options={"hidden": [0]}), contract(LABELS["binary"]))


def test_other_code_than_the_charter_pins_is_refused() -> None:
    installed = distribution_hash("hansa")
    assert installed == distribution_hash("hansa")
    check_distribution(ModelChoice(name="linear", distribution_hash=installed))
    check_distribution(ModelChoice(name="linear"))
    with pytest.raises(CharterError, match=r"'hansa' has hash .* the charter pins 000000"):
        check_distribution(ModelChoice(name="linear", distribution_hash="0" * 64))
    with pytest.raises(InputError, match="pip install hansa-missing"):
        distribution_hash("hansa-missing")


def test_a_plain_installation_is_hashed_from_its_record() -> None:
    assert len(distribution_hash("numpy")) == 64
    assert distribution_hash("numpy") != distribution_hash("pydantic")
