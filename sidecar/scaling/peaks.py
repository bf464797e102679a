"""The largest demand of the last hours, in constant memory: what the guard holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

HOURS = 2


class Peaks:
    """The largest value of each of the last hours."""

    def __init__(self) -> None:
        self._hours: deque[tuple[int, float]] = deque()

    def put(self, at: float, value: float) -> None:
        """Take in a value at a time in seconds."""
        hour = int(at // 3600)
        if self._hours and self._hours[-1][0] == hour:
            self._hours[-1] = (hour, max(value, self._hours[-1][1]))
        else:
            self._hours.append((hour, value))
        while self._hours[0][0] < hour - HOURS:
            self._hours.popleft()

    @property
    def largest(self) -> float:
        """Of these hours and the present one; 0 without any."""
        return max((value for _, value in self._hours), default=0.0)

    def state(self) -> list[list[float]]:
        """All of it, for JSON."""
        return [[hour, value] for hour, value in self._hours]

    @classmethod
    def from_state(cls, state: Sequence[Sequence[float]]) -> Peaks:
        """What `state` gave."""
        found = cls()
        found._hours.extend((int(hour), value) for hour, value in state)
        return found
