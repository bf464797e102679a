"""How many replicas the coming sample is worth: the number at which their cost and that of violations are least.

A minute of demand above capacity has a price (`budget`), a replica costs its minutes, so for each number of replicas
there is an expected cost, and the cheapest is wanted. Where the forecast is sharp this takes a high quantile, where it
is blurred a lower one: it spends the violations where they save most.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .forecaster import NAMES, Forecaster, Outlook, outlook_from, stored_outlook
from .packed import Floats, packed, unpacked

REACTIVE = "reactive"
# Of what a forecaster would have cost, a sample counts half after 350 later ones.
_MEMORY = 0.998
# The regression uses all that the others do; one of them is followed while it is so much cheaper.
_MARGIN = 0.9
EXACT = 1e-9


@dataclass(frozen=True)
class Prices:
    """What things cost for the length of one sample.

    Attributes
    ----------
    minutes : until the next sample
    late : of these, how many a replica that is asked for too late does not serve
    violation : replica-minutes that a violated minute is worth
    action : replica-minutes that a change is worth
    """

    minutes: float
    late: float
    violation: float
    action: float

    def of(self, replicas: Floats | float, needed: float) -> Any:
        """Replica-minutes: held through, or, where that is cheaper, taken away once the sample is there."""
        dropped = replicas * self.late + np.minimum(replicas, needed) * (self.minutes - self.late)
        return np.minimum(replicas * self.minutes, dropped + self.action)


@dataclass(frozen=True)
class Plan:
    """What a sample that is due is prepared for.

    Attributes
    ----------
    replicas : the cheapest number
    by : the forecaster followed
    costs : expected, of 0, 1, 2 ... replicas
    low, middle, high : the forecast; `high` is what the number is for
    level : the quantile that `high` is
    """

    replicas: int
    by: str
    costs: Floats
    low: float
    middle: float
    high: float
    level: float


@dataclass(frozen=True)
class _Waiting:
    """A forecast whose sample has not come."""

    outlook: Outlook
    wanted: tuple[int, ...]


class Planner:
    """Follows the forecaster that would have been cheapest, and says whether any is to be trusted.

    Attributes
    ----------
    shadow : what each forecaster, and the reactive rule, would have cost, in replica-minutes a sample, forgetting
    chosen : the forecaster followed
    """

    def __init__(self, period_s: float) -> None:
        self.forecaster = Forecaster(period_s)
        self.shadow = dict.fromkeys((*NAMES, REACTIVE), 0.0)
        self.chosen = NAMES[0]
        self._waiting: deque[_Waiting] = deque()

    @property
    def trusted(self) -> bool:
        """Whether there is experience, and following the forecast was no dearer than the reactive rule."""
        experienced = len(self.forecaster.errors[self.chosen]) >= 30
        return experienced and self.shadow[self.chosen] <= 1.1 * self.shadow[REACTIVE]

    def learn(self, at: float, value: float, ahead: int, reactive: int, prices: Prices) -> None:
        """Compare a sample with what was planned for it; `reactive` is what the reactive rule had when it came."""
        while len(self._waiting) >= ahead:
            waited = self._waiting.popleft()
            self.forecaster.learn(at, value, waited.outlook)
            for name, wanted in zip((*NAMES, REACTIVE), (*waited.wanted, reactive), strict=True):
                cost = self._cost(wanted, value, prices, held=name == REACTIVE)
                self.shadow[name] += (1.0 - _MEMORY) * (cost - self.shadow[name])
        best = min(NAMES, key=self.shadow.__getitem__)
        self.chosen = best if self.shadow[best] < _MARGIN * self.shadow[NAMES[0]] else NAMES[0]

    def plan(self, at: float, value: float, due: float, period_s: float, most: int, prices: Prices) -> Plan:
        """Take in a sample and plan for the one that is due; `most` replicas are thought of."""
        outlook = self.forecaster.outlook(at, value, due, period_s)
        grid = np.arange(min(most, math.ceil(1.3 * self.forecaster.largest) + 2) + 1, dtype=np.float64)
        found, wanted = None, []
        for name, middle, scale in zip(NAMES, outlook.middles, outlook.scales, strict=True):
            above = self.forecaster.errors[name].above((grid - middle) / scale)
            costs = prices.of(grid, max(1, math.ceil(middle))) + prices.violation * prices.late * above
            wanted.append(int(costs.argmin()))
            if name == self.chosen:
                # Where violations are cheap the number is for less than the middle; a band is not turned round for it.
                errors, level = self.forecaster.errors[name], max(0.5, 1.0 - float(above[wanted[-1]]))
                low, center, high = (middle + scale * errors.quantile(it) for it in (0.1, 0.5, level))
                found = Plan(wanted[-1], name, costs, max(low, 0.0), max(center, 0.0), max(high, 0.0), level)
        self._waiting.append(_Waiting(outlook, tuple(wanted)))
        assert found is not None
        return found

    def _cost(self, wanted: int, value: float, prices: Prices, held: bool) -> float:
        needed = max(1, math.ceil(value - EXACT))
        paid = float(max(wanted, needed))
        violated = prices.violation * prices.late * (value > wanted + EXACT)
        # The reactive rule takes nothing away between samples.
        return violated + (paid * prices.minutes if held else float(prices.of(paid, needed)))

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "forecaster": self.forecaster.state(), "shadow": self.shadow, "chosen": self.chosen,
            "waiting": [{**stored_outlook(it.outlook), "wanted": list(it.wanted)} for it in self._waiting],
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Planner:
        """What `state` gave."""
        found = cls(86_400.0)
        found.forecaster = Forecaster.from_state(state["forecaster"])
        found.shadow, found.chosen = dict(state["shadow"]), state["chosen"]
        found._waiting.extend(_Waiting(outlook_from(it), tuple(it["wanted"])) for it in state["waiting"])
        return found


def stored_plan(plan: Plan) -> dict[str, Any]:
    """A plan, for JSON."""
    return {**plan.__dict__, "costs": packed(plan.costs)}


def plan_from(state: Mapping[str, Any]) -> Plan:
    """What `stored_plan` gave."""
    return Plan(**{**state, "costs": unpacked(state["costs"])})
