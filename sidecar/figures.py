"""What sidecar and scaler show Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hansa.contract.exposition import Family, Meter

if TYPE_CHECKING:
    from .scaler.journal import Entry

LOOKS = Family("hansa_sidecar_looks_total", "counter", "Looks at all jobs.")
LOOKED = Family("hansa_sidecar_look_timestamp_seconds", "gauge", "When all jobs were last looked at.")
CONTROL = Family("hansa_sidecar_control_up", "gauge", "1 while control answers.")
WATCHED = Family("hansa_sidecar_watched_jobs", "gauge", "Jobs that are watched.")
DECISIONS = Family(
    "hansa_sidecar_decisions_total", "counter", "Decisions that were entered, by policy.", ("by",), 20
)
REFUSED = Family("hansa_sidecar_refused_decisions_total", "counter", "Decisions that control did not take.")
REPLICAS = Family(
    "hansa_scaler_replicas", "gauge", "Replicas by service and state.", ("service", "state"), 256
)
WANTED = Family("hansa_scaler_wanted_replicas", "gauge", "Replicas that are wanted.", ("service",), 64)
DEMAND = Family(
    "hansa_scaler_demand", "gauge", "Demand in units of the service's capacity.", ("service",), 64
)
DID = Family(
    "hansa_scaler_looks_total", "counter", "Looks at a service, by what was done.", ("service", "did"), 400
)
SCALED = Family(
    "hansa_scaler_look_timestamp_seconds", "gauge", "When a service was last looked at.", ("service",), 64
)


def noted(meter: Meter, entry: Entry) -> None:
    """Count one look at a service."""
    service = entry.decision.service
    for state in ("ready", "starting", "leaving"):
        meter.set(REPLICAS, service, state, to=getattr(entry, state))
    meter.set(WANTED, service, to=entry.decision.wanted)
    if entry.demand is not None:
        meter.set(DEMAND, service, to=entry.demand)
    meter.add(DID, service, entry.did)
    meter.set(SCALED, service, to=entry.decision.at)
