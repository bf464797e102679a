"""DoG, a rate without a rate (Ivgi, Hinder and Carmon 2023, 2302.12022): distance over gradients.

The step is the farthest way from the start so far over the root of all squared gradient norms. For steps at home or a
server's plain steps; with noise on the updates their norms are mostly noise and steps become too short.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Of 1 + |start|: how far the first step goes.
FIRST = 1e-4


@dataclass(frozen=True)
class Dog:
    """What is remembered: the farthest distance, and the sum of squared norms. JSON-able."""

    farthest: float
    squares: float = 0.0

    @classmethod
    def start(cls, norm: float) -> Dog:
        """Before the first step, from weights of that norm."""
        return cls(FIRST * (1.0 + norm))

    def step(self, distance: float, gradient: float) -> tuple[Dog, float]:
        """What is remembered then, and the rate of the step.

        Parameters
        ----------
        distance : of the weights from the start
        gradient : norm of the mean gradient there; one that is not finite makes no step
        """
        if not (math.isfinite(distance) and math.isfinite(gradient)):
            return self, 0.0
        following = Dog(max(self.farthest, distance), self.squares + gradient * gradient)
        return following, following.farthest / math.sqrt(
            following.squares
        ) if following.squares > 0.0 else 0.0
