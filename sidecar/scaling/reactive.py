"""The reactive rule that runs beside the forecast: what it would hold, how often it would change it.

It is what the policy falls back to, what it is compared with, and what its number of changes is measured by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .fleet import Fleet
from .hpa import Hpa

TARGET = 0.7
# Where neither demand nor replicas changed for so long and a start-up, the rule's window holds nothing else.
_SETTLED_S = 360.0


class Reactive:
    """Kubernetes' rule at 70 %, on replicas of its own that exist on paper."""

    def __init__(self, minimum: int, maximum: int, startup_s: float) -> None:
        self.rule = Hpa(TARGET, minimum, maximum)
        self.fleet = Fleet(max(minimum, 1), startup_s)
        self._settled_s = _SETTLED_S + startup_s
        self._use, self._since = -1.0, 0.0
        # The newest look that was not worth one.
        self._rested: float | None = None

    def look(self, at: float, use: float) -> bool:
        """Whether it changed its replicas at a demand of `use` replicas; `at` in seconds, rising."""
        if use == self._use and at - self._since > self._settled_s:
            self._rested = at
            return False
        if self._rested is not None:
            # What it would have recommended all the while.
            self.rule.look(self._rested, self._use, self.fleet.ready, self.fleet.starting)
            self._rested = None
        if use != self._use:
            self._use, self._since = use, at
        self.fleet.pass_to(at)
        before = self.fleet.actions
        self.fleet.want(at, self.rule.look(at, use, self.fleet.ready, self.fleet.starting))
        if self.fleet.actions == before:
            return False
        self._since = at
        return True

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "rule": self.rule.state(),
            "fleet": self.fleet.state(),
            "use": self._use,
            "since": self._since,
            "rested": self._rested,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.rule.restore(state["rule"])
        self.fleet.restore(state["fleet"])
        self._use, self._since, self._rested = state["use"], state["since"], state["rested"]
