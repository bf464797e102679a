"""The phases of a round up to the opened sum, with what each remembers of its run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from hansa.strategies.gathering import Gathering
from hansa.strategies.ordering import Ordering
from hansa.strategies.run import Run
from hansa.strategies.selection import Selection
from hansa.strategies.states import State
from hansa.strategies.unmasking import UnmaskPhase
from hansa.strategies.uploads import Uploads


@dataclass(frozen=True)
class Phases:
    """Select, train (an order and its uploads) and unmask, over one run."""

    run: Run
    gathering: Gathering
    ordering: Ordering
    uploads: Uploads
    unmasking: UnmaskPhase

    @classmethod
    def of(cls, run: Run, *, sleep: Callable[[float], None], gather_s: float, randomness: Random) -> Phases:
        """The phases of a run that begins."""
        gathering = Gathering(run, sleep=sleep, gather_s=gather_s)
        return cls(run, gathering, Ordering(run, randomness), Uploads(run), UnmaskPhase(run))

    def select(self, state: State) -> Selection:
        """The next cohort, without those that are set aside this turn."""
        return self.gathering.select(state, self.uploads.aside(self.ordering.opened))
