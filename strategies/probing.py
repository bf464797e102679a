"""A probe: members try several lengths of a step before one of them is taken (PROTOCOL 4.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hansa.contract.blind_messages import ENCRYPTED_SUM, ApplyRequest
from hansa.contract.charter import Charter
from hansa.contract.decisions import Decision
from hansa.contract.features import BinaryLabel
from hansa.contract.jobs import AttemptResult, JobPlan, MetricValue, may_probe, probe_due
from hansa.contract.segments import STEP
from hansa.strategies.apply import ModelState, tried
from hansa.strategies.attempt import Attempt
from hansa.strategies.blind_state import BlindState
from hansa.strategies.stepping import NARROW, WIDE, Choice, Knob, Trial, outer_share

RATE: Final = "server_rate"
# The figure that steps are compared by, first found counts.
_LOSSES = ("log_loss", "rmse")
# The charter's ends are met by as much as a product of two floats may miss them.
_EDGE = 1e-12


@dataclass(frozen=True)
class Tried:
    """What a probe is about, and what its order brings of it.

    Parameters
    ----------
    attempt : the one whose step it is
    segments : `released` and `step`, or in mode `he` the encrypted sum
    pending : in mode `he` what makes a step of the sum
    """

    attempt: Attempt
    factors: tuple[float, ...]
    segments: Mapping[str, NDArray[Any]]
    pending: ApplyRequest | None = None


def factors(
    plan: JobPlan, charter: Charter, knobs: Mapping[str, float], number: int, *, asked: bool, blind: bool
) -> tuple[float, ...]:
    """By what the step that leads to round `number` is multiplied in a probe, rising; empty where nothing is tried.

    Parameters
    ----------
    asked : whether somebody wants one beyond those of the plan
    blind : whether the server sees no sums to follow the steps by; if it does, the first probe is enough
    """
    due = probe_due(number, plan.rounds, plan.evaluate_every, plan.tuning) and (blind or number == 1)
    if not due and not (asked and may_probe(number, plan.rounds, plan.evaluate_every, plan.tuning)):
        return ()
    knob = rate_knob(plan, charter, knobs)
    if knob is None or knob.pinned or knob.value <= 0:
        return ()
    wide = WIDE if due and number == 1 else NARROW
    # What lies outside the charter's range is tried at its end.
    inside = {min(max(it, knob.low / knob.value), knob.high / knob.value) for it in wide}
    return tuple(sorted(inside))


def rate_knob(plan: JobPlan, charter: Charter, knobs: Mapping[str, float]) -> Knob | None:
    """The server's rate as it is in force, kept from the very ends of its range; None where the charter opens none."""
    bounds = charter.knobs.get(RATE)
    if bounds is None:
        return None
    low, high = bounds.low * (1.0 + _EDGE), bounds.high * (1.0 - _EDGE)
    return Knob(RATE, knobs.get(RATE, bounds.default), low, high, pinned=RATE in plan.pinned)


def tries(
    attempt: Attempt, state: ModelState | BlindState, chosen: tuple[float, ...], plan: JobPlan
) -> Tried | None:
    """What a probe of an attempt's step brings; None where the step leads nowhere."""
    if isinstance(state, BlindState):
        pending = ApplyRequest(order=attempt.order, active=attempt.active, noise=attempt.mean_noise())
        return Tried(attempt, chosen, {ENCRYPTED_SUM: attempt.encrypted_sum()}, pending)
    rate = attempt.order.knobs.get(RATE, 1.0)
    mean, noise = attempt.mean_update(), attempt.mean_noise()
    released, step = tried(state, mean, plan.rule, rate, plan.rounds, noise=noise)
    if not (np.isfinite(released).all() and np.isfinite(step).all()):
        return None
    return Tried(attempt, chosen, {"released": released, STEP: step})


def trials(
    chosen: Sequence[float],
    figures: Sequence[Mapping[str, MetricValue]],
    sums: Sequence[NDArray[np.float64]],
    noise_sd: float,
    charter: Charter,
) -> list[Trial]:
    """What members saw of each factor.

    Parameters
    ----------
    sums : the noised histograms that the figures were made of, each f64[h]
    """
    features = charter.task.features
    records = features.holdout * sum(it.records for it in charter.members)
    found = []
    for factor, seen, histogram in zip(chosen, figures, sums, strict=True):
        trial = _trial(factor, seen)
        if isinstance(features.label, BinaryLabel):
            outer, error = outer_share(histogram.tolist(), noise_sd, records)
            trial = replace(trial, outer=outer, outer_error=error)
        found.append(trial)
    return found


def base_trial(figures: Mapping[str, MetricValue]) -> Trial | None:
    """What is known of the model before the step; None where it was not evaluated."""
    found = _trial(0.0, figures)
    return None if found.loss is None else found


def nearest(factor: float, chosen: Sequence[float]) -> float:
    """The factor that was tried which is nearest, in logs: figures are those of models that were tried."""
    return min(chosen, key=lambda it: abs(math.log(it / factor)))


def probe_decision(
    train: AttemptResult,
    probe: AttemptResult,
    choice: Choice,
    found: Sequence[Trial],
    base: Trial | None,
) -> Decision:
    """The choice as it is kept, with what it was made from."""
    return Decision(
        key=f"probe {probe.attempt}",
        by="probe",
        round=train.base + 1,
        sentence=choice.sentence,
        knobs={choice.knob: choice.value},
        inputs={
            "attempt": train.attempt,
            "factors": [_finite(it.factor) for it in found],
            "losses": [_finite(it.loss) for it in found],
            "errors": [it.error for it in found],
            "before": None if base is None else base.loss,
            "factor": choice.factor,
        },
    )


def _finite(loss: float | None) -> float | None:
    return loss if loss is not None and math.isfinite(loss) else None


def _trial(factor: float, figures: Mapping[str, MetricValue]) -> Trial:
    for name in _LOSSES:
        if name in figures:
            return Trial(factor, figures[name].value, figures[name].error)
    return Trial(factor, None)
