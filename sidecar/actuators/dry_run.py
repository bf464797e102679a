"""Replicas that are only counted: what a policy would do, with nothing started and nothing stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

from .replicas import ActuatorError, Load, Replicas


class DryRun:
    """A count that behaves as replicas do: those that are added serve after the start-up time.

    Parameters
    ----------
    replicas : how many there are at first
    startup_s : seconds until one that was added serves
    """

    def __init__(
        self, replicas: int = 1, startup_s: float = 0.0, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._startup_s = startup_s
        self._now = now
        self._numbers = count(1)
        # When each serves, by name; the oldest first.
        self._serves = {f"dry-{next(self._numbers)}": now() for _ in range(replicas)}

    def read(self) -> Replicas:
        """How many would stand now."""
        now = self._now()
        ready = sum(at <= now for at in self._serves.values())
        return Replicas(ready, len(self._serves) - ready, ids=tuple(self._serves))

    def scale(self, to: int) -> Replicas:
        """Count so many."""
        if to < 0:
            raise ActuatorError(f"{to} replicas cannot be; ask for 0 or more")
        for name in list(self._serves)[to:]:
            del self._serves[name]
        while len(self._serves) < to:
            self._serves[f"dry-{next(self._numbers)}"] = self._now() + self._startup_s
        return self.read()

    def load(self) -> Load:
        """Nothing runs, so that nothing is known."""
        return Load()
