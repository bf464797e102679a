"""Apply: from an attempt's sum to the state of the next round, and what is written down of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.contract.jobs import AttemptResult
from hansa.contract.segments import LARGEST_WEIGHT, UPDATE
from hansa.contract.typed import clipped
from hansa.strategies.apply import apply, squared_length, usable
from hansa.strategies.attempt import Attempt
from hansa.strategies.auditing import Auditing, audited
from hansa.strategies.blind_state import BlindState
from hansa.strategies.moments import solved_state
from hansa.strategies.ports import Journal
from hansa.strategies.probing import RATE
from hansa.strategies.roster import Roster
from hansa.strategies.states import State


@dataclass(frozen=True)
class Step:
    """A round that is about to be written: the state it leads to, its result, and the audit with its sums."""

    state: State
    result: AttemptResult
    auditing: Auditing | None

    @classmethod
    def of(
        cls, attempt: Attempt, before: State, new: State, auditing: Auditing | None, journal: Journal
    ) -> Step:
        """The step of an attempt. Whom an audit names with its sums is written down here.

        Parameters
        ----------
        auditing : as it stands before
        """
        result = _result(attempt, before, new)
        return cls(new, result, audited(auditing, attempt, before, journal))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For the checkpoint."""
        return {**self.state.arrays(), **({} if self.auditing is None else self.auditing.arrays())}


def next_state(attempt: Attempt, state: State, roster: Roster, factor: float = 1.0) -> State | None:
    """What the sum makes of the state: computed here, or by all members alike; None with `attempt.failure`.

    Parameters
    ----------
    factor : by what the step is multiplied; 0 drops it
    """
    plan, charter = attempt.plan, attempt.charter
    if isinstance(state, BlindState):
        assert roster.custody is not None
        return roster.custody.apply(attempt, roster.willing, factor)
    if charter.training.mechanism == "moments":
        new = solved_state(state, attempt.decoded(UPDATE), attempt.noise_sd(UPDATE), charter)
    else:
        rate, noise = factor * attempt.order.knobs.get(RATE, 1.0), attempt.mean_noise()
        new = apply(state, attempt.mean_update(), plan.rule, rate, plan.rounds, noise=noise)
    if not usable(new):
        values = f"values that are not finite, or beyond {LARGEST_WEIGHT:g}"
        attempt.failure = f"the new model has {values}; the one before it stays"
        return None
    return new


def spoilt(attempt: Attempt, roster: Roster) -> str:
    """Why the job cannot go on after this attempt, in mode `he`; empty where it can."""
    wrong = "" if roster.custody is None else roster.custody.spoilt
    if not wrong and not attempt.diverged:
        return ""
    return clipped(wrong or f"the members' models differ: {attempt.failure}")


def _result(attempt: Attempt, before: State, new: State) -> AttemptResult:
    result = attempt.result("applied", round_number=new.round)
    if isinstance(new, BlindState) or isinstance(before, BlindState):
        return result.model_copy(update={"tag": new.tag if isinstance(new, BlindState) else ""})
    # Functions of the sum, which the server has: they tell nothing new.
    step = float(np.linalg.norm(new.weights - before.weights))
    slope = None
    if attempt.charter.training.mechanism != "moments":
        slope = squared_length(attempt.mean_update(), attempt.mean_noise())
    return result.model_copy(update={"step": step, "slope": slope})
