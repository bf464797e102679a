"""How far a value is from the nearest earlier one: 30 lines, bounded memory."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from typing import Any

# Values nearer to an earlier one than the range over this are not stored again: so many are kept at most, and one.
CELLS = 1024


class Seen:
    """The values of one quantity so far, no two nearer than a 1,024th of their range where room is short."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values = array("d")

    def see(self, value: float) -> tuple[float, float]:
        """Distance to the nearest earlier value over the range so far, this one's too, and that value.

        The distance is from 0 to 1, the first value's 0. Remembers the value, which must be finite.
        """
        values = self._values
        place = bisect_left(values, value)
        below = value - values[place - 1] if place else math.inf
        above = values[place] - value if place < len(values) else math.inf
        distance = min(below, above)
        if distance == math.inf:
            values.append(value)
            return 0.0, value
        span = max(value, values[-1]) - min(value, values[0])
        nearest = value - below if below <= above else value + above
        if distance * CELLS >= span > 0.0:
            values.insert(place, value)
            if len(values) > 2 * CELLS:
                self._thin(span / CELLS)
        return (distance / span if span > 0.0 else 0.0), nearest

    def _thin(self, apart: float) -> None:
        """Leave out inner values nearer to the one before than that; the least and the largest stay."""
        kept, last = array("d", self._values[:1]), self._values[-1]
        for value in self._values[1:-1]:
            if value - kept[-1] >= apart:
                kept.append(value)
        kept.append(last)
        self._values = kept

    def state(self) -> list[float]:
        """The values, rising."""
        return self._values.tolist()

    @classmethod
    def restore(cls, state: list[Any]) -> Seen:
        """What `state` wrote."""
        made = cls()
        made._values = array("d", state)
        return made
