"""Two budgets that a policy lives on: minutes in which demand may exceed capacity, and changes of the replicas.

Each is an account: it is credited as time passes, charged when what it is for happens, and holds so much at most that
a quiet week cannot be saved up for a bad one. How full it is sets a price, and the policy weighs by that price.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


def _clipped(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


@dataclass
class ViolationBudget:
    """Minutes of violation that may still happen, and what one costs, in replica-minutes.

    Attributes
    ----------
    share : of all minutes, as the user set it
    saved : minutes
    log_price : of a violated minute, when half of the most is saved up; steered slowly
    """

    share: float
    saved: float = 7.5
    log_price: float = math.log(30.0)

    # A day of a budget of 1 % is 14 minutes. Not all of the budget is aimed at: what nobody foresees comes on top.
    MOST = 15.0
    LEAST = -60.0
    AIM = 0.93
    SWING = 4.0
    STEER = 0.0005
    LOWEST = 0.0
    HIGHEST = math.log(3000.0)

    def pass_by(self, minutes: float, violated: float) -> None:
        """Time went by, `violated` minutes of it with demand above capacity."""
        # A budget of nothing still needs an account that fills, or one violation would hold the peak for ever.
        earned = max(self.share, 1e-4) * self.AIM * minutes
        self.saved = _clipped(self.saved - violated + earned, self.LEAST, self.MOST)
        self.log_price += self.STEER * minutes * (0.5 - self.saved / self.MOST)
        self.log_price = _clipped(self.log_price, self.LOWEST, self.HIGHEST)

    @property
    def spent(self) -> bool:
        """Whether nothing is left, so that the recent peak is held."""
        return self.saved < 0.0

    @property
    def price(self) -> float:
        """Replica-minutes that a minute of violation is worth avoiding for."""
        fullness = _clipped(self.saved / self.MOST, -1.0, 1.0)
        return math.exp(self.log_price + self.SWING * (0.5 - fullness))


@dataclass
class ActionBudget:
    """Changes of the number of replicas: as many as the reactive rule beside it would have made, not many more.

    Attributes
    ----------
    saved : changes that may still be made before they get dear
    """

    saved: float = 0.0

    MOST = 15.0
    LEAST = -40.0
    SWING = 1.5
    RATE = 1.05
    # A change that saves so many replica-minutes is worth two of the usual ones.
    GOOD = 25.0
    SHARE = 0.5

    def earn(self) -> None:
        """The reactive rule made a change."""
        self.saved = min(self.saved + self.RATE, self.MOST)

    def spend(self, saves: float) -> None:
        """We made one, which saves so many replica-minutes, as far as that is known."""
        self.saved = max(self.saved - (self.SHARE if saves >= self.GOOD else 1.0), self.LEAST)

    @property
    def dearness(self) -> float:
        """By what the usual price of a change is multiplied: 1/4.5 with the most saved up, 4.5 with as many owed."""
        return math.exp(-self.SWING * self.saved / self.MOST)
