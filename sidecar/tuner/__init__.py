"""The tuner beside a job: trends for people and guards, and successive halving (lengths: `strategies.stepping`)."""

from .decisions import Decision, KnobState, decided
from .guard import guard
from .halving import Segment, halve
from .trends import Direction, Trend, trend

__all__ = [
    "Decision",
    "Direction",
    "KnobState",
    "Segment",
    "Trend",
    "decided",
    "guard",
    "halve",
    "trend",
]
