"""What was spent, and what hindsight would have spent: counted while it happens."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Regret:
    """Replica-minutes of this service, and of one that knew its demand a start-up ahead and was never late.

    Hindsight pays at every moment for the most that demand needs until a replica asked for then would serve: no policy
    that keeps demand within capacity at every look spends less.

    Attributes
    ----------
    spent, hindsight, minutes, violated : replica-minutes and minutes so far; hindsight is a start-up behind
    matched : what was spent of the minutes that hindsight has judged
    """

    startup_s: float
    spent: float = 0.0
    hindsight: float = 0.0
    matched: float = 0.0
    minutes: float = 0.0
    violated: float = 0.0
    # Time, minutes, replicas paid for, replicas needed: of looks that hindsight has not judged.
    _open: deque[tuple[float, float, float, int]] = field(default_factory=deque)

    def look(self, at: float, minutes: float, paid: float, needed: int, violated: bool) -> None:
        """So long a time began at `at`, with replicas paid for and needed."""
        self.spent += minutes * paid
        self.minutes += minutes
        self.violated += minutes * violated
        self._open.append((at, minutes, paid, needed))
        while self._open and at - self._open[0][0] >= self.startup_s:
            first = self._open[0]
            # What is needed at the very moment when it would serve counts too.
            most = max(it[3] for it in self._open if it[0] - first[0] <= self.startup_s)
            self.hindsight += first[1] * most
            self.matched += first[1] * first[2]
            self._open.popleft()

    @property
    def share_violated(self) -> float:
        """Of all minutes."""
        return self.violated / self.minutes if self.minutes else 0.0

    @property
    def more(self) -> float | None:
        """Replica-minutes spent over hindsight's; negative where violations saved them. None before there are any."""
        return self.matched - self.hindsight if self.matched else None

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "startup_s": self.startup_s, "spent": self.spent, "hindsight": self.hindsight,
            "matched": self.matched, "minutes": self.minutes, "violated": self.violated,
            "open": [list(it) for it in self._open],
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Regret:
        """What `state` gave."""
        found = cls(**{name: value for name, value in state.items() if name != "open"})
        found._open.extend((it[0], it[1], it[2], int(it[3])) for it in state["open"])
        return found
