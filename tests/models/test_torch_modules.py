"""Torch modules of other packages: the same clipped sums as closed forms, and what is refused."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_records import LABELS, contract, records
from torch import nn

from hansa.contract.errors import InputError
from hansa.contract.features import FeatureContract
from hansa.models.linear import LinearModel
from hansa.models.mlp import MlpModel
from hansa.models.torch_module import ROWS, TorchModel

Build = Callable[[int, int], nn.Module]
ROOT = Path(__file__).parents[2]


class Twice(nn.Module):
    """Uses one layer two times."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inner = nn.Linear(inputs, inputs)
        self.last = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


class OwnParameter(nn.Module):
    """A layer that Opacus has no rule for."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(0.1 * torch.randn(inputs, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x @ self.matrix)


class Centred(nn.Module):
    """Mixes records with no layer that is known for it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.last = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x - x.mean(dim=0))


def stack(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 7), nn.ReLU(), nn.Dropout(0.5), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, outputs)
    )


# Small products on shared machines: threads would wait for each other.
torch.set_num_threads(1)

MODULES: dict[str, Build] = {
    "stack": stack,
    "tanh": lambda p, k: nn.Sequential(nn.Linear(p, 8), nn.Tanh(), nn.Linear(8, k)),
    "layer norm": lambda p, k: nn.Sequential(nn.Linear(p, 8), nn.LayerNorm(8), nn.SiLU(), nn.Linear(8, k)),
    "group norm": lambda p, k: nn.Sequential(nn.Linear(p, 8), nn.GroupNorm(2, 8), nn.ReLU(), nn.Linear(8, k)),
    "convolution": lambda p, k: nn.Sequential(
        nn.Unflatten(1, (1, p)), nn.Conv1d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * (p - 2), k)
    ),
    "used twice": Twice,
    "own parameter": OwnParameter,
}


def model_of(build: Build, features: FeatureContract) -> TorchModel:
    class Mine(TorchModel):
        def build(self, features: FeatureContract, options: object) -> nn.Module:
            return build(len(features.encoded), features.outputs)

    return Mine(features, {})


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", MODULES)
def test_clipped_sums_equal_a_loop_over_records(name: str, kind: str) -> None:
    features = contract(LABELS[kind])
    model = model_of(MODULES[name], features)
    X, y = records(features, 30)
    weights = model.initial(1) + 0.1 * np.random.default_rng(0).normal(size=model.parameters)
    for clip in (0.05, 0.5, 100.0):
        expected = np.zeros(model.parameters)
        for row in range(len(y)):
            gradient = model.gradient_sum(weights, X[row : row + 1], y[row : row + 1])
            expected += gradient * min(1.0, clip / np.linalg.norm(gradient))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            clipped = model.gradient_sum(weights, X, y, clip=clip)
        np.testing.assert_allclose(clipped, expected, rtol=1e-4, atol=1e-5)


def test_gradients_are_the_slope_of_the_loss() -> None:
    features = contract(LABELS["multiclass"])
    model = model_of(MODULES["tanh"], features)
    X, y = records(features, 30)
    weights = model.initial(1)
    gradient = model.gradient_sum(weights, X, y)
    for index in range(0, model.parameters, 7):
        step = np.zeros(model.parameters)
        step[index] = 1e-2
        slope = (model.loss(weights + step, X, y) - model.loss(weights - step, X, y)) / 2e-2
        assert gradient[index] == pytest.approx(slope, rel=1e-2, abs=1e-2)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("clip", [0.05, 0.5, 100.0])
@pytest.mark.parametrize("ghost", [True, False])
def test_all_paths_give_the_same_clipped_sums(kind: str, clip: float, ghost: bool) -> None:
    features = contract(LABELS[kind])
    closed = MlpModel(features, {"hidden": [7, 5]})
    closed._gains = [1.0, 1.0, 1.0]
    opened = model_of(stack, features)
    opened._wrap(ghost=ghost)
    X, y = records(features, 2 * ROWS + 3)
    weights = np.random.default_rng(2).normal(size=closed.parameters)
    limits = np.where(np.arange(len(y)) % 3, clip, clip / 4)
    as_torch = to_torch(weights, closed)
    expected = to_torch(closed.gradient_sum(weights, X, y, clip=limits), closed)
    given = opened.gradient_sum(as_torch, X, y, clip=limits)
    np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-3 * clip)
    np.testing.assert_allclose(opened.predict(as_torch, X), closed.predict(weights, X), rtol=1e-4, atol=1e-4)


def test_a_linear_module_has_the_sums_of_the_linear_model() -> None:
    features = contract(LABELS["multiclass"])
    closed = LinearModel(features, {})
    closed._scale = 1.0
    opened = model_of(nn.Linear, features)
    X, y = records(features, 50)
    weights = np.random.default_rng(2).normal(size=closed.parameters)
    matrix = [(len(features.encoded) + 1, features.outputs)]
    expected = to_torch(closed.gradient_sum(weights, X, y, clip=0.3), matrix)
    given = opened.gradient_sum(to_torch(weights, matrix), X, y, clip=0.3)
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


def to_torch(flat: np.ndarray, layers: MlpModel | list[tuple[int, int]]) -> np.ndarray:
    """From [inputs + 1, outputs] matrices to torch's order: weights [outputs, inputs], then biases."""
    shapes = layers._shapes if isinstance(layers, MlpModel) else layers
    parts, offset = [], 0
    for rows, columns in shapes:
        matrix = flat[offset : offset + rows * columns].reshape(rows, columns)
        parts += [matrix[:-1].T.ravel(), matrix[-1]]
        offset += rows * columns
    return np.concatenate(parts)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            lambda p, k: nn.Sequential(nn.Linear(p, 8), nn.BatchNorm1d(8), nn.Linear(8, k)),
            r"layer '1' \(BatchNorm1d\) mixes the records",
        ),
        (
            lambda p, k: nn.Sequential(
                nn.BatchNorm1d(p, affine=False, track_running_stats=False), nn.Linear(p, k)
            ),
            r"layer '0' \(BatchNorm1d\) mixes the records",
        ),
        (Centred, "mixes records: its output for one depends on the others"),
        (nn.LSTM, "do not support nn.LSTM"),
        (lambda p, k: nn.Linear(p, k + 1), r"outputs of shape \(5, 2\) for 5 records"),
        (lambda p, k: nn.Linear(p + 1, k), "fails on 5 records"),
    ],
)
def test_a_module_in_which_no_share_can_be_bounded_is_refused(build: Build, said: str) -> None:
    with pytest.raises(InputError, match=f"model 'Mine'.*{said}"):
        model_of(build, contract(LABELS["binary"]))


def test_starting_weights_depend_on_the_seed_alone() -> None:
    model = model_of(stack, contract(LABELS["binary"]))
    torch.manual_seed(1)
    first = model.initial(3)
    torch.manual_seed(2)
    assert (model.initial(3) == first).all()
    assert (model.initial(4) != first).any()


def test_dropout_is_the_charters_and_from_the_given_generator() -> None:
    features = contract(LABELS["binary"])
    model = model_of(stack, features)
    X, y = records(features, 60)
    weights = model.initial(0)

    def gradient(dropout: float, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return model.gradient_sum(weights, X, y, clip=0.5, dropout=dropout, rng=rng)

    np.testing.assert_array_equal(gradient(0.0, 1), gradient(0.0, 2))
    np.testing.assert_array_equal(gradient(0.4, 1), gradient(0.4, 1))
    assert (gradient(0.4, 1) != gradient(0.4, 2)).any()
    with pytest.raises(ValueError, match="generator"):
        model.gradient_sum(weights, X, y, dropout=0.3)


def test_weights_that_overflow_make_no_record_stand_out() -> None:
    features = contract(LABELS["binary"])
    model = model_of(stack, features)
    X, y = records(features, 60)
    X[7] = 1e30
    weights = model.initial(0) * 1e9
    whole = model.gradient_sum(weights, X, y, clip=0.5)
    rest = model.gradient_sum(weights, np.delete(X, 7, axis=0), np.delete(y, 7), clip=0.5)
    assert np.isfinite(whole).all()
    assert np.linalg.norm(whole - rest) <= 0.5 * (1 + 1e-3)


def test_no_record_gives_zeros_and_no_prediction() -> None:
    features = contract(LABELS["binary"])
    model = model_of(stack, features)
    X, y = records(features, 0)
    assert not model.gradient_sum(model.initial(0), X, y, clip=1.0).any()
    assert len(model.predict(model.initial(0), X)) == 0


def test_nothing_of_ours_imports_the_accountants_of_opacus() -> None:
    seen = set()
    for folder in ("benchmarks", "cli", "clients", "models", "privacy", "server", "sidecar", "strategies"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                else:
                    continue
                seen |= {name for name in names if name.split(".")[0] == "opacus"}
    assert "opacus.grad_sample" in seen
    # What `import opacus` alone would open, by attribute.
    assert "opacus" not in seen
    for name in seen:
        assert "accountants" not in name, name
        assert "PrivacyEngine" not in name, name
        assert not name.startswith("opacus.privacy_engine"), name
