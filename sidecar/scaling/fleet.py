"""Replicas of a replayed service: asked for, starting, serving, taken away."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any


class Fleet:
    """Replicas that serve so long after they were asked for, and go at once.

    Attributes
    ----------
    ready : replicas that serve
    actions : times that the number was changed
    """

    def __init__(self, replicas: int, startup_s: float) -> None:
        self.ready = replicas
        self.actions = 0
        self._startup_s = startup_s
        # When each of those that start will serve, the next first.
        self._starting: deque[float] = deque()

    @property
    def starting(self) -> int:
        """Replicas that are paid for and do not serve yet."""
        return len(self._starting)

    @property
    def paid(self) -> int:
        """Replicas that cost."""
        return self.ready + len(self._starting)

    def pass_to(self, at: float) -> None:
        """Let time go on to `at`, in seconds."""
        while self._starting and self._starting[0] <= at:
            self._starting.popleft()
            self.ready += 1

    def want(self, at: float, replicas: int) -> None:
        """Ask for replicas, or take away: first those that do not serve yet, the newest first."""
        change = replicas - self.paid
        if change == 0:
            return
        self.actions += 1
        if change > 0:
            self._starting.extend([at + self._startup_s] * change)
        for _ in range(-change):
            if self._starting:
                self._starting.pop()
            else:
                self.ready -= 1

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {"ready": self.ready, "actions": self.actions, "starting": list(self._starting)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.ready, self.actions, self._starting = state["ready"], state["actions"], deque(state["starting"])
