"""What a quantity was in each part of the last seven days: daily and weekly seasonality that gaps do not shift."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .packed import Floats, packed, unpacked

DAY_S = 86_400.0
# The parts of a day are no shorter than this: five minutes make 2,016 numbers a week.
FINEST_S = 300.0
# Yesterday counts most; every day further back counts less by this.
_WEIGHTS = 0.7 ** np.arange(7)


def parts(period_s: float) -> int:
    """In how many parts a day is cut for samples that come every so many seconds."""
    return max(1, round(DAY_S / max(period_s, FINEST_S)))


class Season:
    """Mean of the quantity in every part of the week, of the newest week that had it.

    Parameters
    ----------
    day : parts of a day
    """

    def __init__(self, day: int) -> None:
        self.day = day
        self.table: Floats = np.full(7 * day, np.nan)
        self._part, self._count = -1, 0
        # What stood where the newest part stands now.
        self._week_ago = math.nan
        self._back = -day * np.arange(1, 8)

    def put(self, at: float, value: float) -> None:
        """Take in a value at a time in seconds."""
        part = int(at * self.day // DAY_S)
        place = part % len(self.table)
        if part != self._part:
            self._forget(self._part + 1, part)
            self._week_ago = float(self.table[place])
            self._part, self._count = part, 0
            self.table[place] = 0.0
        self._count += 1
        self.table[place] += (value - self.table[place]) / self._count

    def days(self, at: float) -> Floats:
        """Values one to seven days before a time; NaN where there was none. Shape (7,)."""
        part = int(at * self.day // DAY_S)
        found: Floats = self.table[(part + self._back) % len(self.table)]
        if part == self._part:
            found[6] = self._week_ago
        return found

    def usual(self, at: float, otherwise: float) -> float:
        """The weighted mean of these days, or `otherwise` where nothing is known."""
        return usual(self.days(at), otherwise)

    def _forget(self, first: int, last: int) -> None:
        # Parts that had no value keep last week's no longer than a week.
        if self._part >= 0 and first < last:
            skipped = np.arange(first, min(last, first + len(self.table)))
            self.table[skipped % len(self.table)] = np.nan

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "day": self.day, "table": packed(self.table), "part": self._part, "count": self._count,
            "week_ago": packed(np.array([self._week_ago])),
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Season:
        """What `state` gave."""
        found = cls(state["day"])
        found.table, found._part, found._count = unpacked(state["table"]), state["part"], state["count"]
        found._week_ago = float(unpacked(state["week_ago"])[0])
        return found


def usual(days: Floats, otherwise: float) -> float:
    """Weighted mean of seven days of which some are NaN."""
    known = days == days
    if not known.any():
        return otherwise
    weights = _WEIGHTS[known]
    return float(weights @ days[known] / weights.sum())
