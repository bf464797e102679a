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
from hansa.strategies.slopes import slopes
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
