"""What an actuator offers: how many replicas of one service there are, and how many there shall be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class ActuatorError(Exception):
    """Replicas cannot be read or changed; the sentence names what is wrong and what to do. Tried again next time."""


@dataclass(frozen=True)
class Replicas:
    """One look at a service's replicas.

    Attributes
    ----------
    ready : replicas that serve
    starting : replicas that were asked for and do not serve yet
    leaving : replicas that take no new work and end once theirs is done; neither of the above
    ids : of those that serve or start, the oldest first
    """

    ready: int
    starting: int = 0
    leaving: int = 0
    ids: tuple[str, ...] = ()

    @property
    def current(self) -> int:
        """Replicas that serve or will."""
        return self.ready + self.starting


@dataclass(frozen=True)
class Load:
    """Mean share of what the replicas may use, 0 to 1 and above; None: not known."""

    cpu: float | None = None
    memory: float | None = None


class Actuator(Protocol):
    """Replicas of one service. Both calls return soon: what takes longer shows in the next `read`."""

    def read(self) -> Replicas:
        """How the replicas stand now.

        Raises
        ------
        ActuatorError : nobody can say
        """
        ...

    def scale(self, to: int) -> Replicas:
        """Have so many replicas serve or start; said again it changes nothing. How they stand after that.

        Raises
        ------
        ActuatorError : it was not done, or in part
        """
        ...

    def load(self) -> Load:
        """What the replicas use of processor and memory; nothing where that is not known."""
        ...
