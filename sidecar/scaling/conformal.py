"""How far above its forecast a demand comes: the newest forecast errors, in units of what was expected of them.

This is split conformal prediction with scaled scores on a sliding window (Vovk et al. 2005; Lei et al. 2018), without
a fixed level: `budget` moves the level with the violations that really happened, as adaptive conformal inference does
(Gibbs and Candès 2021), so that the rate holds although demand does not keep to one distribution.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

import numpy as np

from .packed import Floats, packed, unpacked

KEPT = 1000


class Errors:
    """The newest scaled errors of one forecaster."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._newest)

    def add(self, error: float) -> None:
        """Take in one more, and let the oldest go."""
        self._newest.append(error)
        insort(self._sorted, error)
        if len(self._newest) > KEPT:
            oldest = self._newest.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]

    def above(self, errors: Floats) -> Floats:
        """Share of errors above each of `errors`, never 0 or 1: half an error more counts on either side."""
        count = len(self._sorted)
        above = count - np.searchsorted(self._sorted, errors, side="right")
        found: Floats = (above + 0.5) / (count + 1)
        return found

    def quantile(self, level: float) -> float:
        """The error that a share `level` of them does not exceed; 0 before there is one."""
        if not self._sorted:
            return 0.0
        return self._sorted[min(int(level * len(self._sorted)), len(self._sorted) - 1)]

    def state(self) -> str:
        """All of it, for JSON."""
        return packed(np.array(self._newest))

    @classmethod
    def from_state(cls, state: str) -> Errors:
        """What `state` gave."""
        found = cls()
        found._newest.extend(unpacked(state).tolist())
        found._sorted = sorted(found._newest)
        return found
