"""A stack of Linear layers with ReLU and dropout, in torch, which is imported when first needed.

Per-record gradient norms come in closed form (ghost norms): a layer's gradient of one record
is the outer product of its input [a, 1] and its output's gradient delta, so its squared norm is
|delta|² (|a|² + 1). One backward pass gives all deltas; rows are scaled and one product a
layer gives the clipped sum. Source: Goodfellow 2015 (1510.01799), Li et al. 2021 (2110.05679).

Every layer's weights are multiplied by a public gain, about 1/sqrt(inputs), inside the model:
one server rate then fits this model and the linear one.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.contract.errors import InputError
from hansa.contract.features import FeatureContract
from hansa.models.linear import typical_norm
from hansa.models.losses import initial_outputs, losses, predictions, residuals
from hansa.models.model import CHUNK, Array, Options, clip_scales

if TYPE_CHECKING:
    import torch

HIDDEN = [64, 32]
GAIN = 0.4


class MlpModel:
    """Weights are the layers' [inputs + 1, outputs] matrices, biases last, flattened one after another.

    Option `hidden`: sizes of the hidden layers, default [64, 32].
    """

    def __init__(self, features: FeatureContract, options: Options) -> None:
        unknown = sorted(set(options) - {"hidden"})
        if unknown:
            raise InputError(
                f"model 'mlp' has no option '{unknown[0]}'; it takes 'hidden', a list of layer sizes"
            )
        hidden = options.get("hidden", HIDDEN)
        if not isinstance(hidden, list) or not hidden or any(not 1 <= size <= 65_536 for size in hidden):
            raise InputError(
                f"model 'mlp': option 'hidden' must be a list of layer sizes such as [64, 32] (got {hidden})"
            )
        self._label = features.label
        sizes = [len(features.encoded), *hidden, features.outputs]
        self._shapes = [(size + 1, following) for size, following in pairwise(sizes)]
        norms = [typical_norm(features), *(math.sqrt(size) for size in hidden)]
        self._gains = [GAIN / norm for norm in norms]

    @property
    def parameters(self) -> int:
        """Sum over layers of (inputs + 1) outputs."""
        return sum(rows * columns for rows, columns in self._shapes)

    def initial(self, seed: int) -> Array:
        """Uniform He weights and zero biases, the last ones at the log-odds of the public prevalence.

        Drawn and scaled by exact operations only: the same bits on every machine.
        """
        rng = np.random.default_rng(seed)
        layers = []
        for index, (rows, columns) in enumerate(self._shapes):
            layer = np.zeros((rows, columns))
            spread = math.sqrt(6.0 / (rows - 1)) / self._gains[index]
            layer[:-1] = (2.0 * rng.random((rows - 1, columns)) - 1.0) * spread
            layers.append(layer)
        layers[-1][:-1] *= 0.1
        layers[-1][-1] = initial_outputs(self._label) / self._gains[-1]
        return np.concatenate([layer.ravel() for layer in layers])

    def predict(self, weights: Array, X: Array) -> Array:
        """See `Model.predict`."""
        return predictions(self._outputs(weights, X), self._label)

    def loss(self, weights: Array, X: Array, y: Array) -> float:
        """See `Model.loss`; without dropout."""
        return float(losses(self._outputs(weights, X), y, self._label).sum())

    def gradient_sum(
        self,
        weights: Array,
        X: Array,
        y: Array,
        *,
        clip: float | Array | None = None,
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """See `Model.gradient_sum`."""
        if dropout > 0 and rng is None:
            raise ValueError("dropout needs a generator")
        layers = self._layers(weights)
        limits = None if clip is None else np.broadcast_to(np.asarray(clip, dtype=np.float64), len(X))
        totals = [np.zeros(shape) for shape in self._shapes]
        for start in range(0, len(X), CHUNK):
            inputs, last, slopes = self._forward(layers, X[start : start + CHUNK], dropout, rng)
            limit = None if limits is None else limits[start : start + CHUNK]
            parts = self._backward(layers, inputs, last, slopes, y[start : start + CHUNK], limit)
            for total, part in zip(totals, parts, strict=True):
                total += part
        return np.concatenate([total.ravel() for total in totals])

    def _outputs(self, weights: Array, X: Array) -> Array:
        layers = self._layers(weights)
        chunks = [self._forward(layers, X[i : i + CHUNK], 0.0, None)[1] for i in range(0, len(X), CHUNK)]
        return np.concatenate(chunks) if chunks else np.zeros((0, self._shapes[-1][1]))

    def _layers(self, weights: Array) -> list[torch.Tensor]:
        """Matrices of the layers, with their gains, f32."""
        import torch

        layers, offset = [], 0
        for (rows, columns), gain in zip(self._shapes, self._gains, strict=True):
            matrix = weights[offset : offset + rows * columns].reshape(rows, columns) * gain
            layers.append(torch.from_numpy(matrix.astype(np.float32)))
            offset += rows * columns
        return layers

    def _forward(
        self, layers: list[torch.Tensor], X: Array, dropout: float, rng: np.random.Generator | None
    ) -> tuple[list[torch.Tensor], Array, list[torch.Tensor]]:
        """Inputs of every layer, the last outputs, and d input / d previous output of layers 2..L."""
        import torch

        inputs = [torch.from_numpy(X.astype(np.float32))]
        slopes = []
        for index, layer in enumerate(layers):
            outputs = torch.addmm(layer[-1], inputs[-1], layer[:-1])
            if index == len(layers) - 1:
                break
            slope = (outputs > 0).to(torch.float32)
            if dropout > 0 and rng is not None:
                kept = rng.random(tuple(outputs.shape), dtype=np.float32) >= dropout
                slope *= torch.from_numpy(kept) / (1.0 - dropout)
            slopes.append(slope)
            inputs.append(outputs * slope)
        return inputs, outputs.numpy().astype(np.float64), slopes

    def _backward(
        self,
        layers: list[torch.Tensor],
        inputs: list[torch.Tensor],
        last: Array,
        slopes: list[torch.Tensor],
        y: Array,
        clip: Array | None,
    ) -> list[Any]:
        """Clipped gradient sums of every layer, f64."""
        import torch

        delta = torch.from_numpy(residuals(last, y, self._label).astype(np.float32))
        deltas = [delta]
        for layer, slope in zip(reversed(layers[1:]), reversed(slopes), strict=True):
            deltas.append((deltas[-1] @ layer[:-1].T) * slope)
        deltas.reverse()
        scale = torch.ones(len(y))
        if clip is not None:
            square = torch.zeros(len(y))
            for a, d, gain in zip(inputs, deltas, self._gains, strict=True):
                square += gain**2 * (d * d).sum(dim=1) * ((a * a).sum(dim=1) + 1.0)
            scale = torch.from_numpy(clip_scales(square.numpy().astype(np.float64), clip).astype(np.float32))
            lost = ~torch.isfinite(square)
            # Zero times infinity is not zero.
            for array in (*inputs, *deltas):
                array[lost] = 0.0
        sums = []
        for a, d, gain in zip(inputs, deltas, self._gains, strict=True):
            scaled = d * scale[:, None]
            total = torch.cat([a.T @ scaled, scaled.sum(dim=0, keepdim=True)])
            sums.append(gain * total.numpy().astype(np.float64))
        return sums
