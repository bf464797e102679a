"""One attempt at a member, in order: evaluate what arrived, train, put the update on the grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.split import Split
from hansa.clients.training import local_update
from hansa.contract.charter import Charter
from hansa.contract.errors import RefusalError
from hansa.contract.jobs import JobPlan
from hansa.contract.messages import Order
from hansa.contract.segments import EVALUATION, UPDATE, segment_specs
from hansa.contract.wire import Segments
from hansa.models.model import Model
from hansa.models.scores import score_histogram
from hansa.privacy.noise import NoiseGenerator
from hansa.secagg.fixed_point import Grid


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

    @property
    def parameters(self) -> int:
        """Coordinates of the charter's model."""
        return self.model.parameters

    def check(self, order: Order, segments: Segments) -> None:
        """Refuse arrays of another length than the charter's model has."""
        needed = {"weights"} if order.kind == "train" else {"released"}
        # While the released model is the weights themselves, they are sent once.
        allowed = needed | ({"released"} if order.evaluate else set())
        if not needed <= set(segments) <= allowed:
            raise RefusalError(
                "bad-size", f"the attempt needs segments {sorted(needed)}, it carries {sorted(segments)}"
            )
        for name, array in segments.items():
            self._check_length(name, array)

    def run(self, plan: JobPlan, order: Order, segments: Segments) -> Segments:
        """The upload of one attempt: `update` u32[d] and, where asked for, `evaluation` u32[h]."""
        # Only members that mask with each other are summed together.
        summands = len(next(circle for circle in order.circles if self.name in circle))
        specs = segment_specs(self.charter, plan, order, self.model.parameters)
        grids = {spec.name: Grid(spec.bound, summands, tail=spec.tail) for spec in specs}
        upload: dict[str, NDArray[np.uint32]] = {}
        if order.kind == "train":
            update = local_update(
                self.model,
                np.array(segments["weights"]),
                self.records.train,
                charter=self.charter,
                plan=plan,
                member=self.name,
                knobs=order.knobs,
                generator=self.generator(),
                noise=None,
            )
            upload[UPDATE] = grids[UPDATE].encode(update)
        if order.evaluate or order.kind == "evaluate":
            histogram = self._histogram(np.array(segments.get("released", segments.get("weights"))))
            upload[EVALUATION] = grids[EVALUATION].encode(histogram)
        return upload

    def keep(self, plan: JobPlan, segments: Segments) -> None:
        """Write the released model, and held-out scores where a demo wants them, into the member's folder."""
        if "released" in segments:
            self._check_length("released", segments["released"])
        if self.folder is None or "released" not in segments:
            return
        weights = np.array(segments["released"])
        self.folder.mkdir(parents=True, exist_ok=True)
        np.savez(self.folder / f"model-{plan.job}.npz", weights=weights)
        if self.keep_scores:
            held_out = self.records.holdout
            scores = self.model.predict(weights, held_out.X)
            np.savez(self.folder / "held_out.npz", labels=held_out.y, scores=scores)

    def _histogram(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        held_out = self.records.holdout
        features, bins = self.charter.task.features, self.charter.metrics.bins
        return score_histogram(
            features, held_out.y, self.model.predict(weights, held_out.X), held_out.entities, bins
        )

    def _check_length(self, name: str, array: NDArray[np.float64]) -> None:
        if array.dtype != np.dtype("<f8") or array.shape != (self.model.parameters,):
            raise RefusalError(
                "bad-size",
                f"segment '{name}' has {array.size} values of {array.dtype}; "
                f"the charter's model has {self.model.parameters}",
                {"expected": self.model.parameters},
            )
        if not np.isfinite(array).all():
            raise RefusalError("bad-size", f"segment '{name}' holds values that are not finite")
