"""The plain policy: as many replicas as demand needs now; fewer only once the cooldown is over.

For services whose demand is a few jobs rather than a stream: there is nothing to forecast, and no headroom to keep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

from hansa.sidecar.scaling.signals import ScalingDecision, ServiceLimits, Signals


class ByDemand:
    """Demand over capacity, rounded up, within bounds."""

    def __init__(self, limits: ServiceLimits) -> None:
        self._limits = limits
        self._acted: float | None = None
        self._seen: float | None = None
        self._cost, self._looks, self._violations = 0.0, 0, 0

    def decide(self, signals: Signals) -> ScalingDecision:
        """What demand needs."""
        limits, current = self._limits, signals.ready + signals.starting
        hours = 0.0 if self._seen is None else max(0.0, signals.at - self._seen) / 3600
        self._seen = signals.at
        self._cost += hours * current * limits.price
        by, wanted, reason = "hold", current, "demand is not known; the replicas stay as they are"
        if signals.demand is not None and math.isfinite(signals.demand):
            self._looks += 1
            self._violations += signals.demand > signals.ready * limits.capacity
            needed = math.ceil(signals.demand / limits.capacity)
            by, wanted = "reactive", needed
            reason = f"demand {signals.demand:g} at {limits.capacity:g} a replica needs {needed}"
        # A clock that went back says nothing of how long ago that was.
        rested = self._acted is None or not 0 <= signals.at - self._acted < limits.cooldown_s
        if wanted < current and not rested:
            by, wanted, reason = (
                "cooldown",
                current,
                f"{reason}; nothing is taken away so soon after an action",
            )
        bounded = min(max(wanted, limits.minimum), limits.maximum)
        if bounded != wanted:
            by, reason = "bounds", f"{reason}; the bounds are {limits.minimum} to {limits.maximum}"
        if bounded != current:
            self._acted = signals.at
        return ScalingDecision(
            at=signals.at,
            service=limits.name,
            current=current,
            wanted=bounded,
            by=by,
            reason=reason,
            pattern="unknown",
            trusted=False,
            band=None,
            cost=self._cost,
            violated=self._violations / max(1, self._looks),
            regret=None,
        )

    def state(self) -> dict[str, Any]:
        """What it remembers."""
        return {
            "acted": self._acted,
            "seen": self._seen,
            "cost": self._cost,
            "looks": self._looks,
            "violations": self._violations,
        }

    @classmethod
    def from_state(cls, limits: ServiceLimits, state: Mapping[str, Any]) -> Self:
        """As it was."""
        made = cls(limits)
        made._acted, made._seen, made._cost = state["acted"], state["seen"], state["cost"]
        made._looks, made._violations = state["looks"], state["violations"]
        return made
