"""Is it worth joining? Every member's own model, the federated one, its personal version, and one on all records.

Same contract, same splits, same model: own and pooled are trained to convergence, without a network; personalised
is what a member makes of the federated model at home (`clients.personal`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.cli.results import Figure, HeldOut, exact_figures
from hansa.cli.simulation import SimulatedFederation
from hansa.clients.data.dataset import Dataset, concatenate
from hansa.clients.personal import personalise
from hansa.models.fit import fit

Array = NDArray[np.float64]
WAYS = ("own", "federated", "personalised", "pooled")


@dataclass(frozen=True)
class Comparison:
    """Exact figures on held-out records by the way the model was trained."""

    own: Mapping[str, Figure]
    federated: Mapping[str, Figure]
    # As federated where there is no personal model, for a label of several classes.
    personalised: Mapping[str, Figure]
    pooled: Mapping[str, Figure]

    def as_json(self) -> dict[str, dict[str, object]]:
        """As it stands in `compare`."""
        return {way: {name: figure.as_json() for name, figure in getattr(self, way).items()} for way in WAYS}


def compare(federation: SimulatedFederation, released: Mapping[str, Array], seed: int) -> Comparison:
    """Train every member alone and one model on all records; `released` is what the federation reached."""
    members = federation.records
    pooled = _converged(federation, concatenate([part.train for part in members.values()]), seed)
    own = {name: _converged(federation, part.train, seed) for name, part in members.items()}
    alone = {
        name: federation.predict({"released": own[name]}, part.holdout.X) for name, part in members.items()
    }
    joined = {name: federation.predict(released, part.holdout.X) for name, part in members.items()}
    together = {
        name: federation.predict({"released": pooled}, part.holdout.X) for name, part in members.items()
    }
    return Comparison(
        own=_figures(federation, alone),
        federated=_figures(federation, joined),
        personalised=_figures(federation, personal_predictions(federation, released)),
        pooled=_figures(federation, together),
    )


def personal_predictions(federation: SimulatedFederation, released: Mapping[str, Array]) -> dict[str, Array]:
    """What each member's personal version predicts for its held-out records; the model itself where it has none."""
    label = federation.charter.task.features.label
    made = {}
    for name, part in federation.records.items():
        held_out = federation.predict(released, part.holdout.X)
        fitted = personalise(part.train, federation.predict(released, part.train.X), label)
        made[name] = held_out if fitted is None else fitted.predict(held_out, part.holdout.X, label)
    return made


def _converged(federation: SimulatedFederation, records: Dataset, seed: int) -> Array:
    return fit(federation.model, federation.model.initial(seed), records.X, records.y)


def _figures(federation: SimulatedFederation, predicted: Mapping[str, Array]) -> dict[str, Figure]:
    held_out = {name: HeldOut(part.holdout.y, predicted[name]) for name, part in federation.records.items()}
    return exact_figures(held_out, federation.charter.task.features.label)
