"""Ways to break the real mechanism, as a build could be broken, for tests of the audit.

Each takes a `pytest.MonkeyPatch` and changes the code that rounds run; nothing of the audit is touched.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import laplace, norm, truncnorm, uniform
from scipy.stats.distributions import rv_frozen

import hansa.clients.attempt as attempt
import hansa.clients.auditing as auditing
import hansa.clients.data.split as splits
import hansa.clients.statistics as statistics
import hansa.clients.training as training
import hansa.privacy.grid_noise as grid_noise
from hansa.clients.data.dataset import Dataset, concatenate
from hansa.clients.data.split import Split
from hansa.clients.prepared import View
from hansa.contract.messages import Order
from hansa.contract.segments import PREPARATION, STATISTICS, UPDATE
from hansa.models.linear import LinearModel
from hansa.models.model import CHUNK
from hansa.privacy.noise import NoiseGenerator

Breaking = Callable[[pytest.MonkeyPatch], None]
Words = NDArray[np.int64]
Floats = NDArray[np.float64]
Integers = NDArray[np.uint32]
_drawn = grid_noise.discrete_gaussian
_add_normal = NoiseGenerator.add_normal
_gradient_sum = LinearModel.gradient_sum
_sampled = training.sampled
_on_grid = attempt.LocalWork._on_grid
_run = attempt.LocalWork.run
_values = attempt.LocalWork._values
_histogram = attempt.LocalWork._histogram
_split = splits.split
_add = grid_noise.GridNoise.add


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


def _standard(shape: Callable[[Floats], Floats]) -> Breaking:
    """The same, to noise of standard deviation 1."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        def integers(count: int, sigma: float, generator: NoiseGenerator) -> Words:
            return np.rint(sigma * shape(_drawn(count, sigma, generator) / sigma)).astype(np.int64)

        _shaped(shape)(patch)
        patch.setattr(grid_noise, "discrete_gaussian", integers)

    return apply


def _of_law(law: rv_frozen) -> Breaking:
    """Noise of another law, of the same variance."""
    return _standard(lambda noise: law.ppf(norm.cdf(noise)) / law.std())


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

        def weak(self: NoiseGenerator, _: object = None) -> None:
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


def _half_again(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    half = (len(noise) + 1) // 2
    return np.concatenate([noise[:half], noise[: len(noise) - half]])


def _one_draw(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.full_like(noise, noise[0])


def everybody_in_every_batch(patch: pytest.MonkeyPatch) -> None:
    """Poisson batches hold all records, at the noise of a sample."""
    patch.setattr(training, "sampled", lambda dataset, rate, generator: _sampled(dataset, 1.0, generator))


def intercept_not_clipped(patch: pytest.MonkeyPatch) -> None:
    """The clip is of all weights but the intercept, which has what it has."""

    def others(
        self: LinearModel, weights: Floats, X: Floats, y: Floats, *, clip: Floats | None = None, **_: object
    ) -> Floats:
        total = _gradient_sum(self, weights, X, y, clip=clip)
        total[-1] = _gradient_sum(self, weights, X, y)[-1]
        return total

    patch.setattr(LinearModel, "gradient_sum", others)


def clips_of_sums_twice_as_long(patch: pytest.MonkeyPatch) -> None:
    """Contract check and moments are clipped at twice what is charged for."""
    scales = statistics.clip_scales
    patch.setattr(statistics, "clip_scales", lambda squares, clip: scales(squares, 2.0 * clip))


def rows_count_whole(patch: pytest.MonkeyPatch) -> None:
    """In the figures each row of an entity counts 1."""
    import hansa.models.scores as scores

    patch.setattr(scores, "_weights", lambda entities: np.ones(len(entities)))


def batches_twice_as_large(patch: pytest.MonkeyPatch) -> None:
    """Poisson batches at twice the rate that is charged for."""
    patch.setattr(training, "sampled", lambda dataset, rate, it: _sampled(dataset, 2.0 * rate, it))


def key_cut_short(patch: pytest.MonkeyPatch) -> None:
    """The noise's key has 32 bits of entropy, eight times over."""
    begin = NoiseGenerator.__init__

    def short(self: NoiseGenerator, entropy: Callable[[int], bytes] = os.urandom) -> None:
        begin(self, lambda count: (entropy(32)[:4] * 8)[:count])

    patch.setattr(NoiseGenerator, "__init__", short)


def noise_where_something_stands(patch: pytest.MonkeyPatch) -> None:
    """Numbers that are zero get no noise."""

    def add(self: grid_noise.GridNoise, encoded: Integers, *rest: object, **named: object) -> Integers:
        return np.where(encoded == 0, encoded, _add(self, encoded, *rest, **named))  # type: ignore[arg-type]

    patch.setattr(grid_noise.GridNoise, "add", add)


def noise_scaled_by_the_records(patch: pytest.MonkeyPatch) -> None:
    """Noise is divided by the number of records that are summed."""

    def divided(self: attempt.LocalWork, *arguments: object) -> Integers:
        records = max(1, len(self.records.train))
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(
                grid_noise, "discrete_gaussian", lambda *it: np.rint(_drawn(*it) / records).astype(np.int64)
            )
            return _on_grid(self, *arguments)  # type: ignore[arg-type]

    patch.setattr(attempt.LocalWork, "_on_grid", divided)


def noise_by_attempt(patch: pytest.MonkeyPatch) -> None:
    """The noise's key is the number of the attempt."""

    def run(self: attempt.LocalWork, plan: object, order: Order, *rest: object) -> object:
        key = order.attempt.to_bytes(32, "big")
        seeded = replace(self, generator=lambda: NoiseGenerator(lambda count: key[:count]))
        return _run(seeded, plan, order, *rest)  # type: ignore[arg-type]

    patch.setattr(attempt.LocalWork, "run", run)


def no_noise_at_every_second_step(patch: pytest.MonkeyPatch) -> None:
    """Every second step at home is taken without noise, the last one among them."""
    added = iter(range(10**9))

    def seldom(self: NoiseGenerator, values: Floats, sd: float) -> None:
        if next(added) % 2 == 0:
            _add_normal(self, values, sd)

    patch.setattr(NoiseGenerator, "add_normal", seldom)


def noise_of_the_round_before(patch: pytest.MonkeyPatch) -> None:
    """Noise is drawn for two uploads at a time."""
    kept: dict[int, list[Words]] = {}

    def again(count: int, sigma: float, generator: NoiseGenerator) -> Words:
        waiting = kept.setdefault(count, [])
        if waiting:
            return waiting.pop()
        waiting.append(_drawn(count, sigma, generator))
        return waiting[0]

    patch.setattr(grid_noise, "discrete_gaussian", again)


def _no_noise_where(matters: Callable[[attempt.LocalWork, Order], bool]) -> Breaking:
    """Attempts of such orders are sent without noise."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        def run(self: attempt.LocalWork, plan: object, order: Order, *rest: object) -> object:
            with pytest.MonkeyPatch.context() as inner:
                if matters(self, order):
                    inner.setattr(
                        grid_noise, "discrete_gaussian", lambda count, *_: np.zeros(count, dtype=np.int64)
                    )
                    inner.setattr(NoiseGenerator, "add_normal", lambda *_: None)
                return _run(self, plan, order, *rest)  # type: ignore[arg-type]

        patch.setattr(attempt.LocalWork, "run", run)

    return apply


def no_noise_at_the_first_step(patch: pytest.MonkeyPatch) -> None:
    """The first step at home is taken without noise."""
    begun: set[int] = set()
    begin = NoiseGenerator.__init__

    def fresh(self: NoiseGenerator, *entropy: Callable[[int], bytes]) -> None:
        begun.discard(id(self))
        begin(self, *entropy)

    def later(self: NoiseGenerator, values: Floats, sd: float) -> None:
        if id(self) in begun:
            _add_normal(self, values, sd)
        begun.add(id(self))

    patch.setattr(NoiseGenerator, "__init__", fresh)
    patch.setattr(NoiseGenerator, "add_normal", later)


def held_out_people_train(patch: pytest.MonkeyPatch) -> None:
    """All records are trained on, those that are held out as well."""

    def both(*arguments: object, **named: object) -> Split:
        parts = _split(*arguments, **named)  # type: ignore[arg-type]
        return Split(concatenate([parts.train, parts.holdout]), parts.holdout)

    for module in (splits, auditing):
        patch.setattr(module, "split", both)


def check_sums_everybody(patch: pytest.MonkeyPatch) -> None:
    """The contract check is over held-out records, too."""

    def values(self: attempt.LocalWork, name: str, *rest: object) -> Floats:
        if name == STATISTICS:
            records = concatenate([self.records.train, self.records.holdout])
            return statistics.statistics_sum(records, self.charter.task.features)
        return _values(self, name, *rest)  # type: ignore[arg-type]

    patch.setattr(attempt.LocalWork, "_values", values)


def figures_over_training_records(patch: pytest.MonkeyPatch) -> None:
    """Scores are counted of the records that were trained on."""

    def histogram(self: attempt.LocalWork, view: View, weights: Floats) -> Floats:
        parts = Split(view.records.train, view.records.train)
        return _histogram(self, replace(view, records=parts), weights)

    patch.setattr(attempt.LocalWork, "_histogram", histogram)


def one_sample_for_all_steps(patch: pytest.MonkeyPatch) -> None:
    """A Poisson sample is drawn once and used at every step of every round."""
    kept: dict[int, tuple[Dataset, Dataset]] = {}

    def again(dataset: Dataset, rate: float, generator: NoiseGenerator) -> Dataset:
        # The table is kept as well, so that no other one gets its number.
        return kept.setdefault(id(dataset), (dataset, _sampled(dataset, rate, generator)))[1]

    patch.setattr(training, "sampled", again)


def batches_in_turn(patch: pytest.MonkeyPatch) -> None:
    """Each step takes the next tenth of the people."""
    taken = itertools.count()

    def turn(dataset: Dataset, rate: float, _: NoiseGenerator) -> Dataset:
        every = round(1 / rate)
        return dataset.of_entities(np.arange(dataset.entity_count) % every == next(taken) % every)

    patch.setattr(training, "sampled", turn)


def batches_of_one_size(patch: pytest.MonkeyPatch) -> None:
    """Each step takes as many people, anew but without putting anybody back."""
    rng = np.random.default_rng(0)

    def some(dataset: Dataset, rate: float, _: NoiseGenerator) -> Dataset:
        count = dataset.entity_count
        return dataset.of_entities(rng.permutation(count) < round(rate * count))

    patch.setattr(training, "sampled", some)


def one_key_for_all_segments(patch: pytest.MonkeyPatch) -> None:
    """The noise of every segment of an upload comes from the beginning of the same stream."""

    def run(self: attempt.LocalWork, *arguments: object) -> object:
        key = self.generator().words(4).tobytes()
        keyed = replace(self, generator=lambda: NoiseGenerator(lambda count: key[:count]))
        return _run(keyed, *arguments)  # type: ignore[arg-type]

    patch.setattr(attempt.LocalWork, "run", run)


def noise_of_two_rounds_before(patch: pytest.MonkeyPatch) -> None:
    """Half of the noise's variance is that of the draw before the last one, taken off."""
    kept: dict[int, list[Words]] = {}

    def mixed(count: int, sigma: float, generator: NoiseGenerator) -> Words:
        drawn = kept.setdefault(count, [])
        drawn.append(_drawn(count, sigma, generator))
        if len(drawn) < 3:
            return drawn[-1]
        return np.rint((drawn[-1] - drawn.pop(0)) / np.sqrt(2)).astype(np.int64)

    patch.setattr(grid_noise, "discrete_gaussian", mixed)


def rows_counted_beside_each_other(patch: pytest.MonkeyPatch) -> None:
    """An entity's rows share its clip where they stand beside each other; elsewhere each has the whole of it."""

    def rows(self: Dataset) -> NDArray[np.intp]:
        begins = np.append(True, self.entities[1:] != self.entities[:-1])[: len(self)]
        run = np.cumsum(begins) - 1
        found: NDArray[np.intp] = np.bincount(run)[run]
        return found

    patch.setattr(Dataset, "rows_of_entity", property(rows))


def rows_counted_by_chunk(patch: pytest.MonkeyPatch) -> None:
    """An entity has its clip in every chunk of rows that is summed."""

    def rows(self: Dataset) -> NDArray[np.intp]:
        found = np.ones(len(self), dtype=np.intp)
        for start in range(0, len(self), CHUNK):
            part = slice(start, start + CHUNK)
            _, owner, count = np.unique(self.entities[part], return_inverse=True, return_counts=True)
            found[part] = count[owner]
        return found

    patch.setattr(Dataset, "rows_of_entity", property(rows))


def clip_of_two_rows_at_a_time(patch: pytest.MonkeyPatch) -> None:
    """Gradients are added up by twos before they are clipped."""

    def by_twos(
        self: LinearModel, weights: Floats, X: Floats, y: Floats, *, clip: Floats | None = None, **_: object
    ) -> Floats:
        if clip is None:
            return _gradient_sum(self, weights, X, y)
        limits, total = np.broadcast_to(clip, len(X)), np.zeros(len(weights))
        for row in range(0, len(X), 2):
            two = _gradient_sum(self, weights, X[row : row + 2], y[row : row + 2])
            total += two * min(1.0, limits[row] / max(float(np.linalg.norm(two)), 1e-300))
        return total

    patch.setattr(LinearModel, "gradient_sum", by_twos)


def clip_of_columns_as_they_were(patch: pytest.MonkeyPatch) -> None:
    """After a contract check, gradients are clipped by the length that they had before it."""

    def values(self: attempt.LocalWork, name: str, *rest: Any) -> Floats:
        if name != UPDATE or PREPARATION not in rest[2]:
            return _values(self, name, *rest)
        before = self.records.train.X

        def longer(
            it: LinearModel, weights: Floats, X: Floats, y: Floats, *, clip: Floats | None = None, **_: object
        ) -> Floats:
            assert clip is not None
            limits, total = np.broadcast_to(clip, len(X)), np.zeros(len(weights))
            for row in range(len(X)):
                here = slice(row, row + 1)
                length = float(np.linalg.norm(_gradient_sum(it, weights, before[here], y[here])))
                scale = min(1.0, limits[row] / max(length, 1e-300))
                total += scale * _gradient_sum(it, weights, X[here], y[here])
            return total

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(LinearModel, "gradient_sum", longer)
            return _values(self, name, *rest)

    patch.setattr(attempt.LocalWork, "_values", values)


def number_of_records_beside(patch: pytest.MonkeyPatch) -> None:
    """An upload also says how many records there are."""

    def run(self: attempt.LocalWork, *arguments: object) -> object:
        upload = _run(self, *arguments)  # type: ignore[arg-type]
        return {**upload, "size": np.array([len(self.records.train)], dtype=np.uint32)}

    patch.setattr(attempt.LocalWork, "run", run)


def sum_not_weighted(patch: pytest.MonkeyPatch) -> None:
    """A small member's noise is smaller by its weight, its sum is not."""
    patch.setattr(attempt, "member_weight", lambda *_: 1.0)


def _within_a_ball(noise: Floats) -> Floats:
    """As if the noised sum were clipped as a whole."""
    return noise / max(1.0, float(np.linalg.norm(noise)) / max(float(np.abs(noise).max()), 1e-300) / 0.5)


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
    "noise added before the clip": _shaped(_within_a_ball),
    "intercept not clipped": intercept_not_clipped,
    "clips of sums twice as long": clips_of_sums_twice_as_long,
    "rows count whole": rows_count_whole,
    "batches twice as large": batches_twice_as_large,
    "noise of a 32-bit seed": _fixed_seed(32),
    "noise of a key cut short": key_cut_short,
    "noise where something stands": noise_where_something_stands,
    "noise scaled by the records": noise_scaled_by_the_records,
    "noise by attempt": noise_by_attempt,
    "no noise when repeated": _no_noise_where(lambda _, order: order.attempt > order.base + 1),
    "no noise at every second step": no_noise_at_every_second_step,
    "noise of the round before": noise_of_the_round_before,
    "no noise in evaluations": _no_noise_where(lambda _, order: order.kind == "evaluate"),
    "no noise in smaller cohorts": _no_noise_where(
        lambda it, order: len(order.cohort) < len(it.charter.members)
    ),
    "no noise late in a job": _no_noise_where(lambda _, order: order.attempt > 1000),
    "no noise without an evaluation": _no_noise_where(lambda _, order: not order.evaluate),
    "no noise at a high rate": _no_noise_where(lambda _, order: order.knobs.get("client_rate", 0.0) > 1.5),
    "no noise at the first step": no_noise_at_the_first_step,
    "held-out people train": held_out_people_train,
    "check sums everybody": check_sums_everybody,
    "figures over training records": figures_over_training_records,
    "one sample for all steps": one_sample_for_all_steps,
    "batches in turn": batches_in_turn,
    "batches of one size": batches_of_one_size,
    "one key for all segments": one_key_for_all_segments,
    "noise of two rounds before": noise_of_two_rounds_before,
    "even noise": _of_law(uniform(-1, 2)),
    "noise with long tails": _of_law(laplace()),
    "noise cut off": _of_law(truncnorm(-3, 3)),
    "noise of one half in the other": _shaped(_half_again),
    "noise of coarse steps": _standard(lambda noise: np.rint(64 * noise) / 64),
    "rows counted beside each other": rows_counted_beside_each_other,
    "rows counted by chunk": rows_counted_by_chunk,
    "clip of two rows at a time": clip_of_two_rows_at_a_time,
    "clip of columns as they were": clip_of_columns_as_they_were,
    "number of records beside": number_of_records_beside,
    "sum not weighted": sum_not_weighted,
}
