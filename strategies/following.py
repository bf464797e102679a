"""The rate follows the sums: what the next mean update says about the last step (`stepping.follow`), as a job runs it.

The server sees sums in modes `clear` and `masked`; what it makes of them costs no charge. In mode `he` it sees none,
and probes are all that moves the rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.contract.decisions import Decision
from hansa.contract.jobs import AttemptResult, JobPlan
from hansa.strategies.apply import ModelState, apply, moved_to, own_share
from hansa.strategies.attempt import Attempt
from hansa.strategies.ports import Journal
from hansa.strategies.probing import RATE, rate_knob
from hansa.strategies.slopes import slopes
from hansa.strategies.states import State
from hansa.strategies.stepping import Choice, Knob, follow

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LastStep:
    """The step that led to the present state: from where, by which mean update, at which rate, and how far.

    Parameters
    ----------
    rate : the factor of a probe included
    noise : standard deviation of the noise on each coordinate of the mean update
    """

    state: ModelState
    mean: Array
    rate: float
    way: Array
    noise: float

    @classmethod
    def of(cls, before: ModelState, after: ModelState, attempt: Attempt, rate: float) -> LastStep:
        """The step that an attempt's sum has made."""
        way = after.weights - before.weights
        return cls(before, attempt.mean_update(), rate, way, attempt.mean_noise())

    def followed(self, attempt: Attempt, plan: JobPlan, knob: Knob) -> Choice:
        """What an attempt's sum says of it."""
        own = own_share(plan.rule, self.rate, self.noise, plan.rounds)
        noise = max(self.noise, attempt.mean_noise())
        seen = slopes(self.way, self.mean, attempt.mean_update(), noise=noise, own=own)
        return follow(seen, made=attempt.order.base, knob=knob, step_rate=self.rate, rule=plan.rule)

    def taken_back(self, state: ModelState, factor: float, plan: JobPlan) -> ModelState:
        """The state after a round in which all but `factor` of the step is taken back."""
        kept = apply(self.state, self.mean, plan.rule, self.rate * factor, plan.rounds, noise=self.noise)
        return moved_to(state, kept, plan.rule, plan.rounds)


class Following:
    """The last step of a run, in a job that has its steps followed."""

    def __init__(self) -> None:
        self._last: LastStep | None = None

    def said(self, attempt: Attempt, journal: Journal) -> Choice | None:
        """What an attempt's sum says about the last step; None where nothing is followed."""
        plan, knobs = attempt.plan, attempt.order.knobs
        if plan.tuning != "probe" or self._last is None or attempt.shortfall():
            return None
        knob = rate_knob(plan, attempt.charter, knobs)
        if knob is None or knob.pinned or knob.value <= 0 or knob.name in journal.pinned():
            return None
        return self._last.followed(attempt, plan, knob)

    def taken_back(self, state: State, choice: Choice, plan: JobPlan) -> ModelState:
        """The state after a round in which part of the last step is taken back: it led too far."""
        assert self._last is not None
        assert isinstance(state, ModelState)
        return self._last.taken_back(state, choice.factor, plan)

    def remember(self, attempt: Attempt, before: State, new: State, factor: float) -> None:
        """The step that is about to be the last one."""
        self._last = None
        followed = attempt.plan.tuning == "probe" and attempt.charter.training.mechanism != "moments"
        if factor and isinstance(new, ModelState) and isinstance(before, ModelState) and followed:
            rate = factor * attempt.order.knobs.get(RATE, 1.0)
            self._last = LastStep.of(before, new, attempt, rate)

    def forget(self) -> None:
        """The round before made no step to follow."""
        self._last = None


def step_decision(result: AttemptResult, choice: Choice, knobs: Mapping[str, float]) -> Decision:
    """What became of a step and of the rate, as it is kept."""
    return Decision(
        key=f"step {result.attempt}",
        by="tuner",
        round=result.base + 1,
        sentence=choice.sentence,
        knobs={choice.knob: choice.value},
        inputs={"attempt": result.attempt, "kept": choice.factor, "rate_before": knobs[choice.knob]},
    )
