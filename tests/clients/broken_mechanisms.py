"""Ways to break the real mechanism, as a build could be broken, for tests of the audit.

Each takes a `pytest.MonkeyPatch` and changes the code that rounds run; nothing of the audit is touched.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import hansa.clients.training as training
import hansa.privacy.grid_noise as grid_noise
from hansa.clients.data.dataset import Dataset
from hansa.models.linear import LinearModel
from hansa.privacy.noise import NoiseGenerator

Breaking = Callable[[pytest.MonkeyPatch], None]
Words = NDArray[np.int64]
Floats = NDArray[np.float64]
_drawn = grid_noise.discrete_gaussian
_add_normal = NoiseGenerator.add_normal
_gradient_sum = LinearModel.gradient_sum
_sampled = training.sampled


def intact(_: pytest.MonkeyPatch) -> None:
    """Nothing."""


def _shaped(shape: Callable[[Floats], Floats]) -> Breaking:
    """Noise on the grid and at each step, after something was done to it."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        def integers(count: int, sigma: float, generator: NoiseGenerator) -> Words:
            return np.rint(shape(_drawn(count, sigma, generator).astype(np.float64))).astype(np.int64)

        def floats(self: NoiseGenerator, values: Floats, sd: float) -> None:
            fresh = np.zeros(values.size)
            _add_normal(self, fresh, 1.0)
            values += sd * shape(fresh)

        patch.setattr(grid_noise, "discrete_gaussian", integers)
        patch.setattr(NoiseGenerator, "add_normal", floats)

    return apply


def _noise_times(factor: float) -> Breaking:
    return _shaped(lambda noise: factor * noise)


def clip_not_applied(patch: pytest.MonkeyPatch) -> None:
    """Sums of gradients as long as they are."""

    def whole(self: LinearModel, weights: Floats, X: Floats, y: Floats, **_: object) -> Floats:
        return _gradient_sum(self, weights, X, y)

    patch.setattr(LinearModel, "gradient_sum", whole)


def clip_by_row(patch: pytest.MonkeyPatch) -> None:
    """Every row of an entity has the whole clip."""
    patch.setattr(Dataset, "rows_of_entity", property(lambda self: np.ones(len(self), dtype=np.intp)))


def clip_each_coordinate(patch: pytest.MonkeyPatch) -> None:
    """The clip bounds each coordinate of a row's gradient, and its norm by nothing."""

    def by_number(
        self: LinearModel, weights: Floats, X: Floats, y: Floats, *, clip: Floats | None = None, **_: object
    ) -> Floats:
        if clip is None:
            return _gradient_sum(self, weights, X, y)
        limits = np.broadcast_to(clip, len(X))
        rows = (_gradient_sum(self, weights, X[row : row + 1], y[row : row + 1]) for row in range(len(X)))
        total: Floats = sum(
            (np.clip(row, -limit, limit) for row, limit in zip(rows, limits, strict=True)),
            np.zeros(len(weights)),
        )
        return total

    patch.setattr(LinearModel, "gradient_sum", by_number)


def twice_the_clip(patch: pytest.MonkeyPatch) -> None:
    """Noise for one clip, gradients of two."""

    def longer(
        self: LinearModel, weights: Floats, X: Floats, y: Floats, *, clip: Floats | None = None, **_: object
    ) -> Floats:
        return _gradient_sum(self, weights, X, y, clip=None if clip is None else 2.0 * np.asarray(clip))

    patch.setattr(LinearModel, "gradient_sum", longer)


def _fixed_seed(bits: int) -> Breaking:
    def apply(patch: pytest.MonkeyPatch) -> None:
        seeds = np.random.default_rng(0)
        begin = NoiseGenerator.__init__

        def weak(self: NoiseGenerator) -> None:
            seed = int(seeds.integers(2**bits)).to_bytes(32, "big")
            begin(self, lambda count: seed[-count:])

        patch.setattr(NoiseGenerator, "__init__", weak)

    return apply


def _first_only(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    kept = np.zeros_like(noise)
    kept[0] = noise[0]
    return kept


def _first_half(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    kept = noise.copy()
    kept[len(kept) // 2 :] = 0.0
    return kept


def _one_draw(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.full_like(noise, noise[0])


def everybody_in_every_batch(patch: pytest.MonkeyPatch) -> None:
    """Poisson batches hold all records, at the noise of a sample."""
    patch.setattr(training, "sampled", lambda dataset, rate, generator: _sampled(dataset, 1.0, generator))


BROKEN: dict[str, Breaking] = {
    "no noise": _noise_times(0.0),
    "a tenth of the noise": _noise_times(0.1),
    "half of the noise": _noise_times(0.5),
    "clip not applied": clip_not_applied,
    "twice the clip": twice_the_clip,
    "clip by row": clip_by_row,
    "clip of each coordinate": clip_each_coordinate,
    "noise of a fixed seed": _fixed_seed(0),
    "noise of a 16-bit seed": _fixed_seed(16),
    "noise in one coordinate": _shaped(_first_only),
    "noise in half of the coordinates": _shaped(_first_half),
    "one draw for all coordinates": _shaped(_one_draw),
    "absolute noise": _shaped(np.abs),
    "everybody in every batch": everybody_in_every_batch,
}
