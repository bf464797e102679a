"""One attempt at a member, in order: evaluate what arrived, train, put both on the grid, add noise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.split import Split
from hansa.clients.fitting import fit_beside
from hansa.clients.prepared import View, Views
from hansa.clients.statistics import moments_sum, statistics_sum
from hansa.clients.training import local_update
from hansa.contract.charter import Charter
from hansa.contract.errors import RefusalError
from hansa.contract.features import MulticlassLabel
from hansa.contract.jobs import JobPlan
from hansa.contract.messages import Order
from hansa.contract.segments import (
    EVALUATION,
    LARGEST_WEIGHT,
    PREPARATION,
    STATISTICS,
    STEP,
    UPDATE,
    SegmentSpec,
    member_weight,
    segment_specs,
    walks_at_home,
)
from hansa.contract.wire import Segments
from hansa.models.linear import RowModel
from hansa.models.model import Model
from hansa.models.scores import score_histogram
from hansa.privacy.noise import NoiseGenerator
from hansa.strategies.grids import grid_of, noise_on


@dataclass(frozen=True)
class LocalWork:
    """A member's records and model, and what is computed on them."""

    name: str
    charter: Charter
    model: Model
    records: Split
    generator: Callable[[], NoiseGenerator] = NoiseGenerator
    # Where the final model goes, and in a demo the exact held-out scores; None keeps nothing.
    folder: Path | None = None
    keep_scores: bool = False
    _views: Views = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_views", Views(self.charter.task, self.model, self.records))

    @property
    def parameters(self) -> int:
        """Coordinates of the charter's model."""
        return self.model.parameters

    @property
    def entities(self) -> int:
        """How many entities it computes on, on either side."""
        return self.records.train.entity_count + self.records.holdout.entity_count

    def known(self, entities: Collection[bytes]) -> frozenset[bytes]:
        """Those of these entities that it has records of."""
        asked = np.array(sorted(entities), dtype="S32")
        there = [asked[np.isin(asked, it.entities)] for it in (self.records.train, self.records.holdout)]
        return frozenset(np.concatenate(there).tolist())

    def without(self, entities: Collection[bytes]) -> LocalWork:
        """The same work on the other entities' records; sums are divided by public constants as before.

        Parameters
        ----------
        entities : ids as `data.encode.entity_ids` makes them
        """
        return replace(self, records=self.records.without(entities))

    def check(self, order: Order, segments: Segments) -> None:
        """Refuse arrays of another length than the charter's model has, and a preparation of no check."""
        needed = {"train": {"weights"}, "evaluate": {"released"}, "statistics": set[str]()}[order.kind]
        needed |= {STEP} if order.factors else set()
        # While the released model is the weights themselves, they are sent once.
        allowed = needed | ({"released"} if order.evaluate else set())
        # Whether one is due is checked with the order.
        allowed |= {PREPARATION} if needed else set()
        if not needed <= set(segments) <= allowed:
            raise RefusalError(
                "bad-size", f"the attempt needs segments {sorted(needed)}, it carries {sorted(segments)}"
            )
        self._views.check(segments)
        for name in set(segments) - {PREPARATION}:
            self._check_length(name, segments[name])

    def check_preparation(self, segments: Segments) -> None:
        """Refuse a preparation that no contract check can lead to."""
        self._views.check(segments)

    def run(self, plan: JobPlan, order: Order, segments: Segments, noise: Mapping[str, float]) -> Segments:
        """The upload of one attempt: `update` u32[d], `statistics` u32[m] or, where asked for, `evaluation` u32[h].

        Parameters
        ----------
        noise : the multiplier z that is charged, by segment; empty where the charter has no noise

        Raises
        ------
        RefusalError : `noise-below-floor`, a segment that would leave without the noise that the charter wants
        """
        upload: dict[str, NDArray[np.uint32]] = {}
        for spec in segment_specs(self.charter, plan, order, self.model.parameters):
            multiplier = noise.get(spec.name, 0.0)
            self._check_noise(spec, plan, multiplier)
            values = self._values(spec.name, plan, order, segments, multiplier)
            upload[spec.name] = self._on_grid(spec, values, order, multiplier)
        return upload

    def _check_noise(self, spec: SegmentSpec, plan: JobPlan, multiplier: float) -> None:
        """Nothing leaves with less noise than the charter wants, whatever was checked before."""
        private = self.charter.privacy.noise != "none"
        at_home = spec.name == UPDATE and walks_at_home(self.charter, plan)
        if (multiplier > 0) != private or not (at_home or spec.multiplier >= multiplier):
            raise RefusalError(
                "noise-below-floor",
                f"segment '{spec.name}': the charter has noise '{self.charter.privacy.noise}', "
                f"the order leaves room for a multiplier of {spec.multiplier:g}, charged was {multiplier:g}",
                {"segment": spec.name},
            )

    def _values(
        self, name: str, plan: JobPlan, order: Order, segments: Segments, multiplier: float
    ) -> NDArray[np.float64]:
        """One segment in its own units; steps at home have their noise already."""
        if name == STATISTICS:
            return statistics_sum(self.records.train, self.charter.task.features)
        view = self._views.of(segments)
        if name == UPDATE and self.charter.training.mechanism == "moments":
            # The charter has checked that the model is one of those.
            assert isinstance(view.model, RowModel)
            return moments_sum(view.model, view.records.train, view.features, self.charter.training.clip)
        if name == UPDATE:
            return member_weight(self.charter, self.name) * local_update(
                view.model,
                np.array(segments["weights"]),
                view.records.train,
                charter=self.charter,
                plan=plan,
                member=self.name,
                knobs=order.knobs,
                generator=self.generator(),
                noise=multiplier or None,
            )
        assert name == EVALUATION, name
        weights = np.array(segments.get("released", segments.get("weights")))
        if not order.factors:
            return self._histogram(view, weights)
        tries = (weights + factor * segments[STEP] for factor in order.factors)
        return np.concatenate(
            [self._histogram(view, it.clip(-LARGEST_WEIGHT, LARGEST_WEIGHT)) for it in tries]
        )

    def _on_grid(
        self, spec: SegmentSpec, values: NDArray[np.float64], order: Order, multiplier: float
    ) -> NDArray[np.uint32]:
        # Only members that mask with each other are summed together.
        summands = len(next(circle for circle in order.circles if self.name in circle))
        # Whether a refusal comes must not hang on a record.
        encoded = grid_of(spec, summands).encode(np.nan_to_num(values))
        if spec.multiplier == 0:
            # No noise at all, or that of each step at home, which is in the values.
            return encoded
        noise = noise_on(spec, self.charter, summands, multiplier, member=self.name)
        return noise.add(encoded, self.generator(), modulus=spec.modulus, summands=summands)

    def keep(self, plan: JobPlan, segments: Segments, rounds: int) -> None:
        """Write the released model, and held-out scores where a demo wants them, into the member's folder.

        Beside the weights stands how many rounds they took, and under which contract. A model that needs its
        preparation is kept with it. The member's own version is fitted in another process; the rest takes as long as
        there are records, so the answer is paced as an upload is.
        """
        if "released" in segments:
            self._check_length("released", segments["released"])
        self._views.check(segments)
        if self.folder is None or "released" not in segments:
            return
        weights = np.array(segments["released"])
        path = self.folder / f"model-{plan.job}.npz"
        self.folder.mkdir(parents=True, exist_ok=True)
        contract = np.array([self.charter.task.features.digest])
        arrays = {"weights": weights, "rounds": np.array([rounds]), "contract": contract}
        if PREPARATION in segments:
            arrays["preparation"] = np.array(segments[PREPARATION])
        np.savez(path, **arrays)  # type: ignore[arg-type]
        if self.keep_scores:
            view = self._views.of(segments)
            held_out = view.records.holdout
            scores = view.model.predict(weights, held_out.X)
            np.savez(self.folder / "held_out.npz", labels=held_out.y, scores=scores)
        train, label = self.records.train, self.charter.task.features.label
        if not isinstance(label, MulticlassLabel) and len(train):
            view = self._views.of(segments)
            fit_beside(self.folder, plan.job, train, view.model.predict(weights, view.records.train.X), label)

    def _histogram(self, view: View, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        held_out = view.records.holdout
        # Bins lie around the prevalence that the charter declares, whatever the model was told.
        features, bins = self.charter.task.features, self.charter.metrics.bins
        return score_histogram(
            features, held_out.y, view.model.predict(weights, held_out.X), held_out.entities, bins
        )

    def _check_length(self, name: str, array: NDArray[np.float64]) -> None:
        if array.dtype != np.dtype("<f8") or array.shape != (self.model.parameters,):
            raise RefusalError(
                "bad-size",
                f"segment '{name}' has {array.size} values of {array.dtype}; "
                f"the charter's model has {self.model.parameters}",
                {"expected": self.model.parameters},
            )
        # Beyond such weights the last bit of a product would decide how a record counts (`models.model.padded`).
        if not (np.isfinite(array).all() and np.abs(array).max() <= LARGEST_WEIGHT):
            raise RefusalError(
                "bad-size", f"segment '{name}' holds values that are not finite, or above {LARGEST_WEIGHT:g}"
            )
