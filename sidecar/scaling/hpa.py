"""What the Kubernetes Horizontal Pod Autoscaler does with its defaults: the rival in every replay.

Written after the algorithm's description and its Go source (pkg/controller/podautoscaler, `GetResourceReplicas` and
`stabilizeRecommendation`), for a metric that all replicas share evenly. Its limit on the speed of scaling up (four
pods or the double in 15 seconds) is left out, so the rival is a little better here than in a cluster.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

TOLERANCE = 0.1
PERIOD_S = 15.0
DOWN_WINDOW_S = 300.0
# Sums of floats: a demand of exactly three replicas is three, not four.
_EXACT = 1e-9


def recommended(use: float, ready: int, starting: int, target: float) -> int:
    """Replicas that one look recommends, before stabilisation and bounds.

    Parameters
    ----------
    use : demand in units of what one replica serves
    ready, starting : replicas that serve, and that do not yet
    target : the share of its capacity that a replica should be used at
    """
    current = ready + starting
    if ready == 0:
        return current
    ratio = use / (ready * target)
    if starting == 0 or ratio <= 1.0:
        if abs(1.0 - ratio) <= TOLERANCE + _EXACT:
            return current
        return math.ceil(ratio * ready - _EXACT)
    # Upwards, those that start are counted as unused, lest they be asked for twice.
    ratio = use / (current * target)
    if ratio < 1.0 or abs(1.0 - ratio) <= TOLERANCE + _EXACT:
        return current
    return math.ceil(ratio * current - _EXACT)


class Hpa:
    """Up at once, down to the largest recommendation of the last 300 seconds."""

    def __init__(self, target: float, minimum: int = 1, maximum: int = 100) -> None:
        self.target, self.minimum, self.maximum = target, minimum, maximum
        # Times and recommendations; these fall, so the first is the largest of the window.
        self._kept: deque[tuple[float, int]] = deque()

    def look(self, at: float, use: float, ready: int, starting: int) -> int:
        """Replicas wanted now; `at` in seconds, rising."""
        wanted = recommended(use, ready, starting, self.target)
        while self._kept and self._kept[-1][1] <= wanted:
            self._kept.pop()
        self._kept.append((at, wanted))
        while self._kept[0][0] < at - DOWN_WINDOW_S:
            self._kept.popleft()
        current = ready + starting
        if wanted < current:
            wanted = min(current, self._kept[0][1])
        return min(max(wanted, self.minimum), self.maximum)

    def state(self) -> list[list[float]]:
        """The recommendations of the last 300 seconds, for JSON."""
        return [[at, replicas] for at, replicas in self._kept]

    def restore(self, state: Sequence[Sequence[float]]) -> None:
        """Go on from what `state` gave."""
        self._kept = deque((at, int(replicas)) for at, replicas in state)
