"""Probes as a run makes them: when one is due, what it found, what becomes of the step (`probing` has the rules)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hansa.contract.decisions import Decision
from hansa.contract.jobs import AttemptResult, MetricValue
from hansa.contract.segments import EVALUATION
from hansa.contract.typed import clipped
from hansa.models.scores import figures as released_figures
from hansa.strategies.attempt import Attempt
from hansa.strategies.ports import Journal
from hansa.strategies.probing import (
    Tried,
    base_trial,
    factors,
    nearest,
    probe_decision,
    rate_knob,
    trials,
    tries,
)
from hansa.strategies.states import State
from hansa.strategies.stepping import Choice, Knob, Trial, choose

# Rounds without a probe after one that came to nothing.
PROBE_REST = 10


@dataclass(frozen=True)
class Question:
    """What a probe asks: how far to go with a step, by which knob."""

    tried: Tried
    knob: Knob


@dataclass(frozen=True)
class Found:
    """What a probe found of a step.

    Parameters
    ----------
    evaluated : what the probe leaves behind whatever becomes of the step
    factor : the length that is taken, one of those that were tried; 0 drops the step
    figures : of the model that it leads to
    base : what was known of the model before; None where that was nothing
    """

    evaluated: AttemptResult
    choice: Choice
    factor: float
    figures: Mapping[str, MetricValue]
    trials: tuple[Trial, ...]
    base: Trial | None

    @property
    def result(self) -> AttemptResult:
        """The probe's result, with the figures of the model that the step led to."""
        return self.evaluated.model_copy(update={"metrics": self.figures})

    def decision(self, train: AttemptResult) -> Decision:
        """The choice as it is kept.

        Parameters
        ----------
        train : the attempt whose step it is
        """
        return probe_decision(train, self.evaluated, self.choice, self.trials, self.base)


class Probes:
    """Whether a step is probed in this run."""

    def __init__(self) -> None:
        # Before this round no step is probed: a probe came to nothing.
        self._again = 0

    def question(self, attempt: Attempt, state: State, journal: Journal) -> Question | None:
        """What is to be tried of an attempt's step; None where nothing is."""
        plan, charter, knobs = attempt.plan, attempt.charter, attempt.order.knobs
        if plan.tuning != "probe" or attempt.shortfall() or journal.wanted() != "run":
            return None
        asked, blind = journal.probe_wanted(), charter.protection.blind
        chosen = factors(plan, charter, knobs, state.round + 1, asked=asked, blind=blind)
        tried = tries(attempt, state, chosen, plan) if chosen else None
        knob = rate_knob(plan, charter, knobs)
        if tried is None or knob is None or knob.name in journal.pinned():
            return None
        return Question(tried, knob)

    def rests(self, number: int) -> bool:
        """Whether the step that leads to this round is not probed because a probe came to nothing before."""
        return self._again > number

    def failed(self, probe: Attempt, reason: str, number: int, journal: Journal) -> None:
        """The step is taken as it is; those that answered have paid, so that no other one is probed for a while."""
        journal.commit(probe.result("failed", round_number=None, reason=reason), None)
        attempt, self._again = probe.order.attempt, number + PROBE_REST
        sentence = clipped(f"the probe came to nothing, and the step is taken as it is: {reason}")
        journal.decide(
            Decision(key=f"probe {attempt}", by="probe", round=probe.order.base, sentence=sentence)
        )


def found_by(probe: Attempt, question: Question, before: Mapping[str, MetricValue]) -> Found:
    """What the opened sums of a probe say, and the length of the step that follows from it.

    Parameters
    ----------
    before : figures of the model before the step; none where it was not evaluated
    """
    plan, charter, chosen = probe.plan, probe.charter, question.tried.factors
    sums, noise_sd = probe.tried_sums(), probe.noise_sd(EVALUATION)
    features, calibrate = charter.task.features, charter.metrics.calibration
    figures = [released_figures(features, it, noise_sd=noise_sd, calibrate=calibrate) for it in sums]
    found = trials(chosen, figures, list(sums), noise_sd, charter)
    base = base_trial(before)
    choice = choose(found, base=base, knob=question.knob, rule=plan.rule)
    # A step that is dropped is a round all the same: it is paid, and the plan has so many.
    factor = nearest(choice.factor, chosen) if choice.factor else 0.0
    return Found(
        evaluated=probe.result("evaluated", round_number=None),
        choice=choice,
        factor=factor,
        figures=figures[chosen.index(factor)] if factor else before,
        trials=tuple(found),
        base=base,
    )
