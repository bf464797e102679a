"""What the scaler decided about a service, on what figures, and what became of it; one a service and moment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hansa.contract.typed import Frozen, Sentence, Slug

Replicas = Annotated[int, Field(ge=0, le=1_000_000)]
Outcome = Literal["nothing", "scaled", "paused", "dry run", "failed"]
Share = Annotated[float, Field(ge=0)]


class DemandBand(Frozen):
    """A forecast of demand at the start-up horizon."""

    low: float
    middle: float
    high: float


class ScalingEntry(Frozen):
    """One decision; the fields are those of `sidecar.scaling.ScalingDecision` and of the look it was made on.

    Cost and regret (what was spent more than hindsight would have) are in the currency of the service's price.
    """

    at: Annotated[float, Field(ge=0, lt=2**40)]
    service: Slug
    current: Replicas
    wanted: Replicas
    by: Slug
    reason: Sentence
    pattern: Sentence
    trusted: bool
    band: DemandBand | None
    cost: Share
    violated: Share
    regret: float | None
    ready: Replicas
    starting: Replicas
    leaving: Replicas
    demand: Share | None
    queue: Share | None
    cpu: Share | None
    memory: Share | None
    did: Outcome
    problem: Sentence
