"""Is it worth joining? Every member's own model, the federated one and one on the pooled records.

Same contract, same splits, same model: own and pooled are trained to convergence, without a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.cli.results import Figure, HeldOut, exact_figures
from hansa.cli.simulation import SimulatedFederation
from hansa.clients.data.dataset import Dataset, concatenate
from hansa.models.fit import fit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Exact figures on held-out records by the way the model was trained."""

    own: Mapping[str, Figure]
    federated: Mapping[str, Figure]
    pooled: Mapping[str, Figure]

    def as_json(self) -> dict[str, dict[str, object]]:
        """As it stands in `compare`."""
        return {
            way: {name: figure.as_json() for name, figure in getattr(self, way).items()}
            for way in ("own", "federated", "pooled")
        }


def compare(federation: SimulatedFederation, released: Mapping[str, Array], seed: int) -> Comparison:
    """Train every member alone and one model on all records; `released` is what the federation reached."""
    members = federation.records
    pooled = _converged(federation, concatenate([part.train for part in members.values()]), seed)
    own = {name: _converged(federation, part.train, seed) for name, part in members.items()}
    return Comparison(
        own=_figures(federation, {name: {"released": weights} for name, weights in own.items()}),
        federated=_figures(federation, dict.fromkeys(members, released)),
        pooled=_figures(federation, {name: {"released": pooled} for name in members}),
    )


def _converged(federation: SimulatedFederation, records: Dataset, seed: int) -> Array:
    return fit(federation.model, federation.model.initial(seed), records.X, records.y)


def _figures(federation: SimulatedFederation, models: Mapping[str, Mapping[str, Array]]) -> dict[str, Figure]:
    held_out = {
        name: HeldOut(part.holdout.y, federation.predict(models[name], part.holdout.X))
        for name, part in federation.records.items()
    }
    return exact_figures(held_out, federation.charter.task.features.label)
