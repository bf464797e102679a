"""How often a demand's value changes: a metric that is scraped every five minutes jumps every five minutes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# So many gaps between changes are kept, and so many are needed before a period is named.
KEPT, ENOUGH = 64, 6
# A value that happens to repeat makes a gap longer, never shorter: the period is among the shortest gaps.
SHARE = 0.2


class Rhythm:
    """Finds the period of a held value and says when a new one is there.

    Attributes
    ----------
    period : seconds between samples; None before it is known
    sampled : seconds of the newest sample; a value that stays is a sample again after a period
    """

    def __init__(self) -> None:
        self.period: float | None = None
        self.sampled = 0.0
        self._value: float | None = None
        self._changed: float | None = None
        self._gaps: list[float] = []

    def look(self, at: float, value: float) -> bool:
        """Whether this is a new sample. `at` rises."""
        if self._value is None:
            self._value, self._changed, self.sampled = value, None, at
            return True
        if value != self._value:
            if self._changed is not None:
                self._gaps.append(at - self._changed)
                del self._gaps[:-KEPT]
                if len(self._gaps) >= ENOUGH:
                    self.period = sorted(self._gaps)[int(SHARE * len(self._gaps))]
            self._value, self._changed, self.sampled = value, at, at
            return True
        if self.period is not None and at - self.sampled >= self.period - 1.0:
            self.sampled = at
            return True
        return False

    @property
    def next_at(self) -> float | None:
        """When the next sample is due, in seconds."""
        return None if self.period is None else self.sampled + self.period

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "period": self.period, "sampled": self.sampled, "value": self._value, "changed": self._changed,
            "gaps": self._gaps,
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Rhythm:
        """What `state` gave."""
        found = cls()
        found.period, found.sampled = state["period"], state["sampled"]
        found._value, found._changed, found._gaps = state["value"], state["changed"], list(state["gaps"])
        return found
