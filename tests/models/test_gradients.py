"""`gradient_sum` of every model and label kind against finite differences, autograd and a loop over records."""

from __future__ import annotations

import numpy as np
import pytest
from small_records import LABELS, contract, records

from hansa.contract.charter import ModelChoice
from hansa.contract.features import BinaryLabel, MulticlassLabel
from hansa.models.losses import scaled_label
from hansa.models.model import Model
from hansa.models.registry import load_model

CASES = [(name, kind) for name in ("linear", "additive", "mlp") for kind in LABELS]


def build(name: str, kind: str) -> tuple[Model, np.ndarray, np.ndarray, np.ndarray]:
    features = contract(LABELS[kind])
    options = {"hidden": [7, 5]} if name == "mlp" else {}
    model = load_model(ModelChoice(name=name, options=options), features)
    X, y = records(features, 60)
    weights = model.initial(3) + 0.3 * np.random.default_rng(1).normal(size=model.parameters)
    return model, weights, X, y


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", ["linear", "additive"])
def test_gradients_of_row_models_are_the_slope_of_the_loss(name: str, kind: str) -> None:
    model, weights, X, y = build(name, kind)
    gradient = model.gradient_sum(weights, X, y)
    for index in range(model.parameters):
        step = np.zeros(model.parameters)
        step[index] = 1e-5
        slope = (model.loss(weights + step, X, y) - model.loss(weights - step, X, y)) / 2e-5
        assert gradient[index] == pytest.approx(slope, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_gradients_equal_autograd(name: str, kind: str) -> None:
    torch = pytest.importorskip("torch")
    model, weights, X, y = build(name, kind)
    features = contract(LABELS[kind])
    flat, rows = torch.tensor(weights, requires_grad=True), X
    if name in ("linear", "additive"):
        shapes, gains = [(model.parameters // features.outputs, features.outputs)], [model.intercept]
        rows = model.design(X)[:, :-1] / model.intercept
    else:
        shapes, gains = model._shapes, model._gains
    hidden, offset = torch.tensor(rows), 0
    for index, ((inputs, columns), gain) in enumerate(zip(shapes, gains, strict=True)):
        matrix = gain * flat[offset : offset + inputs * columns].reshape(inputs, columns)
        hidden = hidden @ matrix[:-1] + matrix[-1]
        hidden = torch.relu(hidden) if index < len(shapes) - 1 else hidden
        offset += inputs * columns
    label = features.label
    if isinstance(label, BinaryLabel):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            hidden[:, 0], torch.tensor(y), reduction="sum"
        )
    elif isinstance(label, MulticlassLabel):
        loss = torch.nn.functional.cross_entropy(hidden, torch.tensor(y, dtype=torch.long), reduction="sum")
    else:
        loss = 0.5 * ((hidden[:, 0] - torch.tensor(scaled_label(y, label))) ** 2).sum()
    loss.backward()
    assert model.loss(weights, X, y) == pytest.approx(float(loss.detach()), rel=1e-5)
    np.testing.assert_allclose(model.gradient_sum(weights, X, y), flat.grad.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.parametrize("clip", [0.05, 0.5, 100.0])
def test_clipped_sums_equal_a_loop_over_records(name: str, kind: str, clip: float) -> None:
    model, weights, X, y = build(name, kind)
    expected = np.zeros(model.parameters)
    for row in range(len(y)):
        gradient = model.gradient_sum(weights, X[row : row + 1], y[row : row + 1])
        expected += gradient * min(1.0, clip / np.linalg.norm(gradient))
    np.testing.assert_allclose(model.gradient_sum(weights, X, y, clip=clip), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_one_record_moves_a_clipped_sum_by_at_most_the_clip(name: str, kind: str) -> None:
    model, weights, X, y = build(name, kind)
    whole = model.gradient_sum(weights, X, y, clip=0.1)
    without = model.gradient_sum(weights, X[1:], y[1:], clip=0.1)
    assert np.linalg.norm(whole - without) <= 0.1 * (1 + 1e-4)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_chunks_do_not_change_the_sum(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, weights, X, y = build(name, kind)
    whole = model.gradient_sum(weights, X, y, clip=0.5)
    monkeypatch.setattr(f"hansa.models.{'mlp' if name == 'mlp' else 'linear'}.CHUNK", 7)
    np.testing.assert_allclose(model.gradient_sum(weights, X, y, clip=0.5), whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.predict(weights, X), build(name, kind)[0].predict(weights, X), rtol=1e-5)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_no_record_gives_zeros_and_no_prediction(name: str, kind: str) -> None:
    model, weights, X, y = build(name, kind)
    assert not model.gradient_sum(weights, X[:0], y[:0], clip=1.0).any()
    assert len(model.predict(weights, X[:0])) == 0


def test_dropout_leaves_units_out_and_keeps_the_mean() -> None:
    model, weights, X, y = build("mlp", "binary")
    plain = model.gradient_sum(weights, X, y)
    draws = [
        model.gradient_sum(weights, X, y, dropout=0.3, rng=np.random.default_rng(seed)) for seed in range(300)
    ]
    assert not np.allclose(draws[0], draws[1])
    last = slice(-6, None)  # the output layer is linear in the units before it, up to the residual
    assert np.corrcoef(np.mean(draws, axis=0)[last], plain[last])[0, 1] > 0.9
    with pytest.raises(ValueError, match="generator"):
        model.gradient_sum(weights, X, y, dropout=0.3)
