"""How far to step: a pure policy over what members saw of several lengths of one step.

After the sum of a round is known the server makes the pending step, delta, at the rate in force; members score
w + k delta for several factors k on their hold-outs. `planned` says for which k, `choose` which one is applied (0
drops the step) and which value the rate has from then on. Nothing is remembered between rounds but that value.

Along a step the loss falls, has its lowest point at some kappa, and rises. `choose` weighs every kappa by how well a
parabola with its lowest point there fits the losses within their errors, and by a prior about 1: where noise hides
the losses the step stays as it is. No clock, no network, no arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from hansa.contract.jobs import ServerRule, evaluations

RateKnob = Literal["client_rate", "server_rate"]

# Of the first round: two decades either way, by half decades.
WIDE = tuple(10.0 ** (half / 2) for half in range(-4, 5))
# Of later ones.
NARROW = (0.5, 1.0, 2.0)
# So many probes of three follow the wide one.
NARROW_PROBES = 5
# Evaluations of a probed job, over those of its plan.
MOST_EVALUATIONS = 1.4
# What is worse by so many standard errors is worse.
CLEARLY = 2.0
# A dropped step cuts the rate to this part of the shortest step that was tried.
CUT = 0.5
# Spread of the prior about a factor of 1, in powers of e; heavy tails (Student, 3 degrees of freedom).
PRIOR = 1.0
# Where the lowest point may lie, in steps of a fifth of a factor 2, beyond the tried factors by so much.
FINE, BEYOND = 2.0**0.2, 2.0


@dataclass(frozen=True)
class Trial:
    """What members saw of w + factor * delta.

    Parameters
    ----------
    loss : summed figure over members' hold-outs; None where noise hid it, not finite where the model broke
    error : its standard error; None or 0 where no noise was added
    """

    factor: float
    loss: float | None
    error: float | None = None


@dataclass(frozen=True)
class Knob:
    """A rate as it is in force and the charter's range for it."""

    name: RateKnob
    value: float
    low: float
    high: float
    pinned: bool = False

    def at(self, value: float) -> float:
        """The value, moved into the range; the one in force where it is pinned, or the value is no number."""
        if self.pinned or not math.isfinite(value):
            return self.value
        return min(max(value, self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """What becomes of a pending step.

    Parameters
    ----------
    factor : k of the state that is adopted, w + k delta; 0 drops the step
    knob, value : which rate is in force from the next round on, and its value
    sentence : why, for people
    """

    factor: float
    knob: RateKnob
    value: float
    sentence: str


def planned(
    made: int, *, rounds: int, evaluate_every: int, alarm: bool = False, enabled: bool = True
) -> tuple[float, ...]:
    """Factors to try in the attempt that would make round `made` + 1, rising; empty where nothing is probed.

    A probe stands for the evaluation of the state that it leads to. One in a round without such an evaluation is one
    more, of which a job has as many as `MOST_EVALUATIONS` leaves.
    """
    if not enabled:
        return ()
    if alarm:
        return NARROW if made else WIDE
    spare = int((MOST_EVALUATIONS - 1.0) * evaluations(rounds, evaluate_every))
    probes = 0
    for number in range(made + 1):
        due = (number + 1) % evaluate_every == 0 or number + 1 == rounds
        probed = probes <= NARROW_PROBES and (due or spare > 0)
        if probed:
            probes += 1
            spare -= not due
    if not probed:
        return ()
    return WIDE if probes == 1 else NARROW


def moved(rule: ServerRule, steps: int) -> RateKnob:
    """The rate that a factor speaks of.

    k scales the mean update. Where members walk at home and the rule keeps its length, that is how far they should
    have gone: the client's rate. A rule that divides by the update's own size does not hear the client's rate, and a
    single gradient sum has none.
    """
    normalises = rule.name in ("fedadam", "fedyogi")
    return "client_rate" if steps > 1 and not normalises else "server_rate"


def choose(trials: Iterable[Trial], *, base: Trial | None, knob: Knob) -> Choice:
    """The factor that is applied, and the rate from then on.

    Parameters
    ----------
    trials : in any order; factors above 0
    base : the state that the step starts from, where it was evaluated; its factor is not read
    knob : the rate that made the step (`moved` names it)
    """
    tried = sorted(trials, key=lambda it: it.factor)
    if not tried or all(it.loss is None for it in tried):
        return _kept(knob, "noise hides the losses of all steps: this one is taken as it is")
    seen = [it for it in tried if it.loss is not None and math.isfinite(it.loss)]
    start = base if base is not None and base.loss is not None and math.isfinite(base.loss) else None
    if not seen:
        return _dropped(knob, tried[0].factor, "no step leads to a finite loss")
    if start is not None and all(_worse(it, start) for it in tried):
        best = min(seen, key=_loss)
        return _dropped(
            knob,
            tried[0].factor,
            f"every step is worse than the loss before, {_loss(start):.4g}, beyond noise: the best of "
            f"{len(tried)} lengths has {_loss(best):.4g}",
        )
    factor = _factor(
        seen, start, broken=[it.factor for it in tried if it.loss is not None and it not in seen]
    )
    value = knob.at(knob.value * factor)
    return Choice(factor, knob.name, value, _sentence(factor, seen, start, knob, value))


def _kept(knob: Knob, why: str) -> Choice:
    return Choice(1.0, knob.name, knob.at(knob.value), f"{why}; {knob.name} stays {knob.value:.3g}")


def _dropped(knob: Knob, shortest: float, why: str) -> Choice:
    value = knob.at(knob.value * CUT * min(shortest, 1.0))
    return Choice(
        0.0, knob.name, value, f"{why}; the step is dropped, {knob.name} {knob.value:.3g} -> {value:.3g}"
    )


def _sentence(factor: float, seen: Sequence[Trial], start: Trial | None, knob: Knob, value: float) -> str:
    lowest = min(seen, key=_loss)
    before = "" if start is None else f" (before: {_loss(start):.4g})"
    moves = f"stays {value:.3g}" if value == knob.value else f"{knob.value:.3g} -> {value:.3g}"
    return (
        f"of {len(seen)} lengths from {seen[0].factor:.3g} to {seen[-1].factor:.3g} the lowest loss is "
        f"{_loss(lowest):.4g} at {lowest.factor:.3g}{before}; weighed by errors {factor:.3g} is taken; "
        f"{knob.name} {moves}"
    )


def _factor(seen: Sequence[Trial], start: Trial | None, broken: Sequence[float]) -> float:
    """Posterior mean of where the loss is lowest, in logs."""
    points = ([Trial(0.0, start.loss, start.error)] if start is not None else []) + list(seen)
    low, high = min(it.factor for it in seen) / BEYOND, max(it.factor for it in seen) * BEYOND
    if broken:
        high = min(high, min(broken) / BEYOND)
    least, most = math.ceil(math.log(low, FINE)), math.floor(math.log(high, FINE))
    kappas = [FINE**power for power in range(least, most + 1)] or [low]
    logs = [_log_likelihood(kappa, points) + _log_prior(kappa) for kappa in kappas]
    top = max(logs)
    weights = [math.exp(it - top) for it in logs]
    mean = math.fsum(weight * math.log(kappa) for weight, kappa in zip(weights, kappas, strict=True))
    return float(f"{math.exp(mean / math.fsum(weights)):.3g}")


def _log_prior(kappa: float) -> float:
    return -2.0 * math.log1p((math.log(kappa) / PRIOR) ** 2 / 3.0)


def _log_likelihood(kappa: float, points: Sequence[Trial]) -> float:
    """How well B + D (u² - 2 u), u = k / kappa, D >= 0, fits; beyond u = 2 a loss need only be no better than B."""
    floor = 1e-4 * max(abs(_loss(it)) for it in points) + 1e-12
    inside = [it for it in points if it.factor <= 2.0 * kappa]
    outside = [it for it in points if it.factor > 2.0 * kappa]
    rows = [(_shape(it.factor / kappa), _loss(it), 1.0 / (_error(it) ** 2 + floor**2)) for it in inside]
    total = math.fsum(weight for _, _, weight in rows)
    if not rows:
        return 0.0
    shape = math.fsum(weight * x for x, _, weight in rows) / total
    level = math.fsum(weight * loss for _, loss, weight in rows) / total
    spread = math.fsum(weight * (x - shape) ** 2 for x, _, weight in rows)
    slope = math.fsum(weight * (x - shape) * (loss - level) for x, loss, weight in rows)
    depth = max(slope / spread, 0.0) if spread > 0 else 0.0
    ground = level - depth * shape
    square = math.fsum(weight * (loss - ground - depth * x) ** 2 for x, loss, weight in rows)
    for it in outside:
        square += 1.0 + min(_loss(it) - ground, 0.0) ** 2 / (_error(it) ** 2 + floor**2)
    return -0.5 * square


def _shape(u: float) -> float:
    return u * u - 2.0 * u


def _worse(trial: Trial, start: Trial) -> bool:
    """Whether a step leads to a loss that is clearly above the one before it."""
    if trial.loss is None:
        return False
    return not trial.loss <= _loss(start) + CLEARLY * math.hypot(_error(trial), _error(start))


def _loss(trial: Trial) -> float:
    assert trial.loss is not None
    return trial.loss


def _error(trial: Trial) -> float:
    return trial.error if trial.error is not None and math.isfinite(trial.error) else 0.0
