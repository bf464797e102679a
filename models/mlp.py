"""A stack of Linear layers with ReLU and dropout, in numpy's single precision.

Per-record gradient norms come in closed form (ghost norms): a layer's gradient of one record
is the outer product of its input [a, 1] and its output's gradient delta, so its squared norm is
|delta|² (|a|² + 1). One backward pass gives all deltas; rows are scaled and one product a
layer gives the clipped sum. Source: Goodfellow 2015 (1510.01799), Li et al. 2021 (2110.05679).
`models.torch_module` takes any other architecture.

Every layer's weights are multiplied by a public gain, about 1/sqrt(inputs), inside the model:
one server rate then fits this model and the linear one.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hansa.contract.errors import InputError
from hansa.contract.features import FeatureContract
from hansa.models.linear import typical_norm
from hansa.models.model import CHUNK, Array, Options, clip_scales, padded
from hansa.models.weighting import OPTION, Weighting

Single = NDArray[np.float32]

HIDDEN = [64, 32]
GAIN = 0.4


class MlpModel:
    """Weights are the layers' [inputs + 1, outputs] matrices, biases last, flattened one after another.

    Option `hidden`: sizes of the hidden layers, default [64, 32].
    """

    # See `models.model.margin`.
    single_precision = True

    def __init__(self, features: FeatureContract, options: Options) -> None:
        unknown = sorted(set(options) - {"hidden", OPTION})
        if unknown:
            raise InputError(
                f"model 'mlp' has no option '{unknown[0]}'; it takes 'hidden', a list of layer sizes, and '{OPTION}'"
            )
        hidden = options.get("hidden", HIDDEN)
        if not isinstance(hidden, list) or not hidden or any(not 1 <= size <= 65_536 for size in hidden):
            raise InputError(
                f"model 'mlp': option 'hidden' must be a list of layer sizes such as [64, 32] (got {hidden})"
            )
        self.weighting = Weighting(features.label, options)
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
        layers[-1][-1] = self.weighting.initial_outputs() / self._gains[-1]
        return np.concatenate([layer.ravel() for layer in layers])

    def predict(self, weights: Array, X: Array) -> Array:
        """See `Model.predict`."""
        return self.weighting.predictions(self._outputs(weights, X))

    def loss(self, weights: Array, X: Array, y: Array) -> float:
        """See `Model.loss`; without dropout."""
        return float(self.weighting.losses(self._outputs(weights, X), y).sum())

    # What overflows is not finite, and `_clip_scales` makes such a record count as zeros.
    @np.errstate(over="ignore", invalid="ignore")
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
        layers = self.layers(weights)
        limits = np.full(len(X), clip) if isinstance(clip, float) else clip
        if len(X) == 0:
            return np.zeros(self.parameters)
        parts = (slice(start, start + CHUNK) for start in range(0, len(X), CHUNK))
        sums = (
            self._sum(
                layers,
                padded(X[rows]),
                padded(y[rows]),
                # Nothing is left of what was padded.
                padded(np.ones(len(y[rows])) if limits is None else limits[rows]),
                limits is not None,
                dropout,
                rng,
            )
            for rows in parts
        )
        total = next(sums)
        for following in sums:
            total += following
        return total

    def _outputs(self, weights: Array, X: Array) -> Array:
        layers = self.layers(weights)
        parts = [_forward(layers, padded(X[i : i + CHUNK]), 0.0, None)[1] for i in range(0, len(X), CHUNK)]
        # Every chunk but the last is a multiple of a block.
        return (
            np.concatenate(parts)[: len(X)].astype(np.float64)
            if parts
            else np.zeros((0, self._shapes[-1][1]))
        )

    def layers(self, weights: Array) -> list[Single]:
        """Matrices of the layers, with their gains."""
        layers = _parts(weights.astype(np.float32), self._shapes)
        for layer, gain in zip(layers, self._gains, strict=True):
            layer *= np.float32(gain)
        return layers

    def _sum(
        self,
        layers: list[Single],
        X: Array,
        y: Array,
        limits: Array,
        clips: bool,
        dropout: float,
        rng: np.random.Generator | None,
    ) -> Array:
        """Gradients of all layers, each record's at most its limit long, or times its limit, summed. Shape [d]."""
        inputs, outputs = _forward(layers, X, dropout, rng)
        delta = self.weighting.residuals(outputs.astype(np.float64), y).astype(np.float32)
        deltas = _backward(layers, inputs, delta, dropout)
        scales = self._clip_scales(inputs, deltas, limits) if clips else limits.astype(np.float32)
        flat = np.empty(self.parameters, dtype=np.float32)
        for part, a, d, gain in zip(_parts(flat, self._shapes), inputs, deltas, self._gains, strict=True):
            np.matmul(scales, d, out=part[-1])
            # Either factor may carry the scales: the one with fewer numbers does.
            if a.shape[1] < d.shape[1]:
                a = a * scales[:, None]
            else:
                d = d * scales[:, None]
            np.matmul(a.T, d, out=part[:-1])
            part *= np.float32(gain)
        return flat.astype(np.float64)

    def _clip_scales(self, inputs: list[Single], deltas: list[Single], limits: Array) -> Single:
        """What each record's gradient is multiplied by, to be at most its limit long. Shape [n]."""
        squares = np.zeros(len(limits))
        for a, d, gain in zip(inputs, deltas, self._gains, strict=True):
            square = np.vecdot(a, a)
            square += 1.0
            square *= np.vecdot(d, d)
            square *= np.float32(gain**2)
            squares += square
        if not np.isfinite(squares.sum()):
            # Zero times infinity is not zero.
            lost = ~np.isfinite(squares)
            for array in (*inputs, *deltas):
                array[lost] = 0.0
        return clip_scales(squares, limits).astype(np.float32)


def _forward(
    layers: list[Single], X: Array, dropout: float, rng: np.random.Generator | None
) -> tuple[list[Single], Single]:
    """Inputs of every layer without the 1 of its bias, [n, rows - 1] each, and the last outputs, [n, k]."""
    inputs = [X.astype(np.float32)]
    for layer in layers[:-1]:
        hidden = inputs[-1] @ layer[:-1]
        hidden += layer[-1]
        # A row of zeros is compared several numbers at a time, a single zero is not.
        np.maximum(hidden, np.zeros(hidden.shape[1], dtype=np.float32), out=hidden)
        if dropout > 0 and rng is not None:
            hidden *= (rng.random(hidden.shape, dtype=np.float32) >= dropout) / np.float32(1.0 - dropout)
        inputs.append(hidden)
    return inputs, inputs[-1] @ layers[-1][:-1] + layers[-1][-1]


def _backward(layers: list[Single], inputs: list[Single], delta: Single, dropout: float) -> list[Single]:
    """d loss / d outputs of every layer, [n, columns] each."""
    deltas = [delta]
    for layer, hidden in zip(reversed(layers[1:]), reversed(inputs[1:]), strict=True):
        matrix = layer[:-1]
        # A product over one column is an outer one, which matmul does slowly.
        following = deltas[-1] * matrix[:, 0] if matrix.shape[1] == 1 else deltas[-1] @ matrix.T
        # A unit below zero and one that was left out are both zero.
        following *= hidden > 0
        if dropout > 0:
            following /= np.float32(1.0 - dropout)
        deltas.append(following)
    return deltas[::-1]


def _parts(flat: Single, shapes: list[tuple[int, int]]) -> list[Single]:
    """The layers' matrices in a flat array, which they share."""
    parts, offset = [], 0
    for rows, columns in shapes:
        parts.append(flat[offset : offset + rows * columns].reshape(rows, columns))
        offset += rows * columns
    return parts
