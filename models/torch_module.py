"""Any torch module as a model: per-record gradients through Opacus, the same clipped sums as everywhere.

An installed package offers a subclass of `TorchModel` as an entry point of the group `hansa.models`:

    class Wide(TorchModel):
        def build(self, features, options):
            return torch.nn.Sequential(torch.nn.Linear(len(features.encoded), 8), torch.nn.Tanh(),
                                       torch.nn.Linear(8, features.outputs))

Norms come from ghost clipping where Opacus has it for a layer, from its hooks for the others (Li et al. 2021,
2110.05679; Yousefpour et al. 2021, 2109.12298). A second backward pass with each record's scale gives the
clipped sum. Nothing else of Opacus is used: noise, sampling and accounting are ours.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.validators import ModuleValidator

from hansa.contract.errors import InputError
from hansa.contract.features import FeatureContract
from hansa.models.model import Array, Options, clip_scales
from hansa.models.weighting import OPTION, Weighting

# Rows at a time: layers without ghost norms hold a whole gradient for each.
ROWS = 512
# Records that a module is tried on before it is used.
_TRIED = 5


class TorchModel:
    """Weights are the module's parameters in their order, flattened; a subclass says which module in `build`.

    The module maps f32[n, p] to raw outputs f32[n, k] (`models.losses`), each row on its own. The charter's knob
    `dropout` sets the rate of its `torch.nn.Dropout` layers.

    Raises
    ------
    InputError : a module in which records meet each other, or of which Opacus has no per-record gradients
    """

    # See `models.model.margin`.
    single_precision = True

    def build(self, features: FeatureContract, options: Options) -> torch.nn.Module:
        """A fresh module with its starting weights, drawn from torch's generator."""
        raise NotImplementedError(f"{type(self).__name__} must say which module it is: define build()")

    def __init__(self, features: FeatureContract, options: Options) -> None:
        self._features = features
        # Weights of classes are the loss's; what a module is made of does not hang on them.
        self._options = {name: value for name, value in options.items() if name != OPTION}
        self.weighting = Weighting(features.label, options)
        # A pass leaves its traces in the module, so there is one at a time.
        self._lock = threading.Lock()
        self._wrap(ghost=True)
        self._try_out()

    @property
    def parameters(self) -> int:
        """Numbers in all trained parameters."""
        return sum(it.numel() for it in self._trained())

    def initial(self, seed: int) -> Array:
        """What `build` draws after `torch.manual_seed(seed)`; the same for one version of torch."""
        return _flat([it.detach() for it in self._built(seed).parameters() if it.requires_grad])

    def predict(self, weights: Array, X: Array) -> Array:
        """See `Model.predict`."""
        return self.weighting.predictions(self._outputs(weights, X))

    def loss(self, weights: Array, X: Array, y: Array) -> float:
        """See `Model.loss`; without dropout."""
        return float(self.weighting.losses(self._outputs(weights, X), y).sum())

    # What overflows is not finite, and such a record counts as zeros.
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
        limits = None if clip is None else np.broadcast_to(np.asarray(clip, dtype=np.float64), len(X))
        total = np.zeros(self.parameters)
        with self._lock, self._holding(weights, dropout):
            for start in range(0, len(X), ROWS):
                rows = slice(start, start + ROWS)
                seed = 0 if rng is None else int(rng.integers(2**63))
                limit = None if limits is None else limits[rows]
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed)
                    total += self._sum(X[rows], y[rows], limit)
        return total

    def _sum(self, X: Array, y: Array, limits: Array | None) -> Array:
        if len(X) == 0:
            return np.zeros(self.parameters)
        self._wrapped.enable_hooks() if limits is not None else self._wrapped.disable_hooks()
        try:
            inputs = torch.from_numpy(X.astype(np.float32))
            # Hooks on the way back want inputs that have gradients; nobody reads these.
            outputs = self._wrapped(inputs.requires_grad_())
            raw = outputs.detach().numpy().astype(np.float64)
            delta = torch.from_numpy(self.weighting.residuals(raw, y).astype(np.float32))
            if limits is not None:
                outputs.backward(delta, retain_graph=True)
                squares = self._wrapped.get_norm_sample().detach().numpy().astype(np.float64) ** 2
                finite = np.isfinite(squares)
                if not finite.all():
                    # Zero times infinity is not zero: without those records, then.
                    return self._sum(X[finite], y[finite], limits[finite])
                delta *= torch.from_numpy(clip_scales(squares, limits).astype(np.float32))[:, None]
                self._module.zero_grad()
                self._wrapped.disable_hooks()
            outputs.backward(delta)
            return _flat([torch.zeros_like(it) if it.grad is None else it.grad for it in self._trained()])
        finally:
            self._module.zero_grad()
            self._wrapped.enable_hooks()

    def _outputs(self, weights: Array, X: Array) -> Array:
        with self._lock, self._holding(weights, 0.0), torch.no_grad():
            self._module.eval()
            parts = [
                self._module(torch.from_numpy(X[start : start + ROWS].astype(np.float32))).numpy()
                for start in range(0, len(X), ROWS)
            ]
        if not parts:
            return np.zeros((0, self._features.outputs))
        return np.concatenate(parts).astype(np.float64)

    @contextmanager
    def _holding(self, weights: Array, dropout: float) -> Iterator[None]:
        """While this lasts, the module has these weights and this dropout, and learns."""
        values, offset = torch.from_numpy(weights.astype(np.float32)), 0
        with torch.no_grad():
            for parameter in self._trained():
                part = values[offset : offset + parameter.numel()]
                parameter.copy_(part.view_as(parameter))
                offset += parameter.numel()
        for layer in self._module.modules():
            if isinstance(layer, torch.nn.modules.dropout._DropoutNd):
                layer.p = dropout
        self._module.train()
        yield

    def _wrap(self, *, ghost: bool) -> None:
        self._module = self._built(0)
        self._module.train()
        self._refuse_mixing_layers()
        try:
            self._wrapped = GradSampleModuleFastGradientClipping(
                self._module, loss_reduction="sum", strict=True, use_ghost_clipping=ghost
            )
        except NotImplementedError as error:
            raise InputError(f"{self._title} has no gradients of single records: {_line(error)}") from None

    def _refuse_mixing_layers(self) -> None:
        # Opacus looks at trained layers alone, and a batch norm without weights mixes records just as well.
        for name, layer in self._module.named_modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                raise InputError(
                    f"{self._title}: layer '{name}' ({type(layer).__name__}) mixes the records of a batch, "
                    "so no record's share in it can be bounded; use GroupNorm or LayerNorm"
                )
        errors = ModuleValidator.validate(self._module, strict=False)
        if errors:
            raise InputError(f"{self._title}: {'; '.join(_line(error) for error in errors)}")

    def _built(self, seed: int) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.build(self._features, self._options)

    def _trained(self) -> list[torch.nn.Parameter]:
        return [it for it in self._module.parameters() if it.requires_grad]

    def _try_out(self) -> None:
        """Refuse a module whose output for one record depends on the others, or that Opacus cannot work with."""
        rng = np.random.default_rng(0)
        X = rng.uniform(-1, 1, (_TRIED, len(self._features.encoded)))
        weights = self.initial(0)
        with self._lock, self._holding(weights, 0.0), torch.no_grad():
            inputs = torch.from_numpy(X.astype(np.float32))
            try:
                whole = self._module(inputs)
                alone = torch.cat([self._module(row[None]) for row in inputs])
            except (RuntimeError, ValueError) as error:
                raise InputError(
                    f"{self._title} fails on {_TRIED} records of the contract: {error}"
                ) from None
        if tuple(whole.shape) != (_TRIED, self._features.outputs):
            raise InputError(
                f"{self._title} gives outputs of shape {tuple(whole.shape)} for {_TRIED} records; "
                f"the contract's label needs ({_TRIED}, {self._features.outputs})"
            )
        if not torch.allclose(whole, alone, rtol=1e-3, atol=1e-4):
            raise InputError(
                f"{self._title} mixes records: its output for one depends on the others of the batch, "
                "so no record's share in it can be bounded"
            )
        y = np.zeros(_TRIED)
        try:
            self.gradient_sum(weights, X, y, clip=1.0)
        except NotImplementedError:
            # Ghost norms want each parameter used once.
            self._wrap(ghost=False)
            self.gradient_sum(weights, X, y, clip=1.0)

    @property
    def _title(self) -> str:
        return f"model '{type(self).__name__}'"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _flat(tensors: list[torch.Tensor]) -> Array:
    """Shape [d], f64."""
    parts = [it.detach().reshape(-1).numpy().astype(np.float64) for it in tensors]
    return np.concatenate(parts) if parts else np.zeros(0)
