"""How far to step: a pure policy over what members saw of several lengths of one step.

After the sum of a round is known the server makes the pending step, delta, at the rate in force; members score
w + k delta for several factors k on their hold-outs. `planned` says for which k, `choose` which one is applied (0
drops the step) and which value the rate has from then on.

`follow` does the same from the sums alone, which cost no evaluation: where the next sum still points along the last
step it was short, where it points back it was long. Nothing is remembered between rounds but the rate and the last
step, which the journal holds. No clock, no network, no arrays.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
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
# A loss of so much is as good as none.
BEYOND_REASON = 1e9
# A dropped step cuts the rate to this part of the shortest step that was tried.
CUT = 0.5
# Where the loss is lowest: spread of the prior about a factor of 1, in powers of e (Student, 3 degrees of freedom).
WIDE_PRIOR, NARROW_PRIOR = 2.0, 0.7
# Taken is this quantile: what is too short is made up for in a round or two, what is too long may break the model.
CAUTION = 0.3
# Bins blur a loss by so much of it, whatever the noise.
BLUR = 0.03
# A factor up to twice the lowest point's leaves at least the rest of the scores inside the bins.
OUTSIDE, OUTSIDE_BLUR = 0.3, 0.05
# Places where the lowest point may lie: a fifth of a factor 2 apart, and so far beyond what was tried.
FINE, BEYOND = 2.0**0.2, 2.0
# The rate follows a later, narrow probe by this power: one step says little about the next ones.
DAMPED = 0.5

# Per round the rate grows by exp(GAIN (q - aim)), q the slope after a step over that before it, within these and 1.
GAIN, AIM, STEEPEST = 0.6, 0.3, -2.0
# Beyond this q the step was so short that it may be lengthened to where the slope would end, at most so many times.
SHORT, GROWTH = 0.8, 10.0
# After so many rounds at most so many times: by then it is more likely that the model swings.
EARLY, LATE_GROWTH = 8, 2.0
# Below this q it is taken back to where the slope ended, at least to so much of it.
LONG, LEAST_KEPT = -1.0, 0.03
# The same of rules that swing where they are fastest: a heavy ball, and steps divided by their own size.
HEAVY_GAIN, HEAVY_AIM, HEAVY_LONG = 0.6, -0.3, -3.0
ADAPTIVE_GAIN, ADAPTIVE_AIM, ADAPTIVE_LONG = 0.3, -0.3, -1.0


@dataclass(frozen=True)
class Trial:
    """What members saw of w + factor * delta.

    Parameters
    ----------
    loss : summed figure over members' hold-outs; None where noise hid it, not finite where the model broke
    error : its standard error; None or 0 where no noise was added
    outer, outer_error : share of the scores in the outermost, open bins (`outer_share`), and its standard error;
        None where scores are not binned
    """

    factor: float
    loss: float | None
    error: float | None = None
    outer: float | None = None
    outer_error: float = 0.0


@dataclass(frozen=True)
class Slopes:
    """A mean update before and after a step, times that step: how steeply the loss fell along it.

    Parameters
    ----------
    before : of the round that made the step, the noise that stands in both factors taken off (`slopes.slopes`)
    after : of the next round
    error : standard error of either
    """

    before: float
    after: float
    error: float = 0.0


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
    """What becomes of a step.

    Parameters
    ----------
    factor : of the pending step (`choose`), 0 drops it; or of the last one (`follow`), below 1 takes the rest back
    knob, value : which rate is in force from then on, and its value
    sentence : why, for people
    """

    factor: float
    knob: RateKnob
    value: float
    sentence: str


# --- when ---------------------------------------------------------------------------------------------


def planned(
    made: int, *, rounds: int, evaluate_every: int, alarm: bool = False, slopes: bool = False
) -> tuple[float, ...]:
    """Factors to try in the attempt that would make round `made` + 1, rising; empty where nothing is probed.

    A probe stands for the evaluation of the state that it leads to. One in a round without such an evaluation is one
    more, of which a job has as many as `MOST_EVALUATIONS` leaves.

    Parameters
    ----------
    made : rounds so far
    alarm : somebody asks for a probe: a guard, or the sidecar
    slopes : the server sees sums and follows them, so that only the first step is probed
    """
    if alarm:
        return NARROW if made else WIDE
    if made > (0 if slopes else NARROW_PROBES):
        return ()
    spare = int((MOST_EVALUATIONS - 1.0) * evaluations(rounds, evaluate_every))
    beside = [it for it in range(1, made + 2) if it % evaluate_every and it != rounds]
    if len(beside) > spare and (made + 1 in beside):
        return ()
    return NARROW if made else WIDE


def moved(rule: ServerRule, steps: int) -> RateKnob:
    """The rate that a factor speaks of.

    k scales the mean update. Where members walk at home and the rule keeps its length, that is how far they should
    have gone: the client's rate. A rule that divides by the update's own size does not hear the client's rate, and a
    single gradient sum has none.
    """
    return "client_rate" if steps > 1 and not _normalises(rule) else "server_rate"


# --- which length -------------------------------------------------------------------------------------


def choose(
    trials: Iterable[Trial], *, base: Trial | None, knob: Knob, rule: ServerRule | None = None
) -> Choice:
    """The factor that is applied, and the rate from then on.

    Along a step the loss falls, has its lowest point at some kappa, and rises. Every kappa is weighed by how well a
    parabola with its lowest point there fits the losses within their errors, by how many scores left the bins, and
    by a prior about 1: where noise hides everything the step stays about as it is.

    Parameters
    ----------
    trials : in any order; factors above 0
    base : the state that the step starts from, where it was evaluated; its factor is not read
    knob : the rate that made the step (`moved` names it)
    rule : how the server makes a step of an update, where known
    """
    tried = sorted(trials, key=lambda it: it.factor)
    if not tried or all(it.loss is None and it.outer is None for it in tried):
        value = knob.at(knob.value)
        return Choice(
            1.0, knob.name, value, f"noise hides all losses: the step is kept, {_moves(knob, value)}"
        )
    start = base if base is not None and _finite(base) else None
    seen = [it for it in tried if _finite(it)]
    if not seen and all(it.loss is not None for it in tried):
        return _dropped(knob, tried[0].factor, "no step leads to a finite loss")
    if start is not None and seen and all(_worse(it, start) for it in tried):
        lowest = min(seen, key=_loss)
        return _dropped(
            knob,
            tried[0].factor,
            f"every step is worse than the loss before, {_loss(start):.4g}, beyond noise: the best of "
            f"{len(tried)} lengths has {_loss(lowest):.4g}",
        )
    factor = _factor(tried, start)
    first = _wide(tried)
    scale = factor if first else factor**DAMPED
    if first and rule is not None and _normalises(rule):
        # Such a first step is as long as any, and momentum goes on along it for about 1 / (1 - beta1) rounds.
        scale *= 1.0 - rule.beta1
    value = knob.at(knob.value * scale)
    moved = _followed(factor, scale, knob, value)
    return Choice(factor, knob.name, value, _sentence(factor, tried, start, moved))


def outer_share(histogram: Sequence[float], noise_sd: float, records: float) -> tuple[float, float]:
    """Share of held-out scores in the outermost bins of either label, and its standard error.

    Those bins are open: their loss says little about how far out a score is, and their number does.

    Parameters
    ----------
    histogram : counts of negatives by bin, then of positives (`models.scores`)
    noise_sd : of each count
    records : held-out records, public
    """
    bins = len(histogram) // 2
    outermost = math.fsum(histogram[place] for place in {0, bins - 1, bins, 2 * bins - 1})
    return outermost / max(records, 1.0), 2.0 * noise_sd / max(records, 1.0)


# --- from the sums ------------------------------------------------------------------------------------


def follow(
    slopes: Slopes, *, made: int, knob: Knob, step_rate: float, rule: ServerRule | None = None
) -> Choice:
    """What the next mean update says about the last step: how much of it is kept, and the rate from then on.

    With q = after / before: a step as long as it should be has q about 0. Moving the rate by the slope along the last
    step is Baydin et al. 2018 (1703.04782); lengthening a step to where the slope would end is the secant rule of
    Barzilai and Borwein 1988. Where a step is taken back the sum that showed it belongs to a state that is left.

    Parameters
    ----------
    made : rounds so far, the last step's among them
    step_rate : the rate at which the last step was made, its factor included
    rule : how the server makes a step of an update, where known
    """
    gain, aim, longest = _pace(rule)
    before, after, error = slopes.before, slopes.after, max(slopes.error, 0.0)
    if not math.isfinite(before) or not math.isfinite(error):
        return Choice(1.0, knob.name, knob.at(knob.value), f"no slope is known: {_moves(knob, knob.value)}")
    if not math.isfinite(after):
        return _taken_back(LEAST_KEPT, "the update after the last step is not finite", knob, step_rate)
    if before <= CLEARLY * error:
        if after >= -CLEARLY * error and (error > 0.0 or after == 0.0):
            sentence = f"noise hides the slope along the last step: {_moves(knob, knob.value)}"
            return Choice(1.0, knob.name, knob.at(knob.value), sentence)
        # Momentum went uphill already.
        q, doubt = -1.0, 0.0
    else:
        q = after / before
        doubt = error * math.sqrt(1.0 + min(q * q, 4.0)) / before
        if q + doubt < longest:
            kept = max(1.0 / (1.0 - q - doubt), LEAST_KEPT)
            return _taken_back(
                kept, f"the slope along the last step turned to {q:.3g} of it", knob, step_rate
            )
    if q - doubt > SHORT:
        growth = GROWTH if made <= EARLY else LATE_GROWTH
        scale = min(1.0 / max(1.0 - q + doubt, 1.0 / growth), growth)
    else:
        scale = math.exp(gain / (1.0 + doubt * doubt) * (min(max(q, STEEPEST), 1.0) - aim))
    value = knob.at(knob.value * scale)
    sentence = f"the slope after the last step is {q:.3g} (error {doubt:.2g}) of the one before"
    return Choice(1.0, knob.name, value, f"{sentence}: {_moves(knob, value)}")


def _taken_back(kept: float, why: str, knob: Knob, step_rate: float) -> Choice:
    kept = float(f"{kept:.3g}")
    value = knob.at(min(knob.value, step_rate * kept))
    return Choice(kept, knob.name, value, f"{why}: {kept:.3g} of that step is kept, {_moves(knob, value)}")


# --- inside -------------------------------------------------------------------------------------------


def _pace(rule: ServerRule | None) -> tuple[float, float, float]:
    """Gain, aim, and the q below which a step is taken back."""
    if rule is not None and rule.name == "fedavgm":
        return HEAVY_GAIN, HEAVY_AIM, HEAVY_LONG
    if rule is not None and _normalises(rule):
        return ADAPTIVE_GAIN, ADAPTIVE_AIM, ADAPTIVE_LONG
    return GAIN, AIM, LONG


def _normalises(rule: ServerRule) -> bool:
    return rule.name in ("fedadam", "fedyogi")


def _wide(tried: Sequence[Trial]) -> bool:
    return len(tried) > len(NARROW)


def _dropped(knob: Knob, shortest: float, why: str) -> Choice:
    value = knob.at(knob.value * CUT * min(shortest, 1.0))
    return Choice(0.0, knob.name, value, f"{why}; the step is dropped, {_moves(knob, value)}")


def _moves(knob: Knob, value: float) -> str:
    if value == knob.value:
        return f"{knob.name} stays {value:.3g}"
    return f"{knob.name} {knob.value:.3g} -> {value:.3g}"


def _followed(factor: float, scale: float, knob: Knob, value: float) -> str:
    """How the rate follows a factor: in part where a probe is narrow or momentum goes on, and not out of its range."""
    part = "" if scale == factor else f", the rate follows by {scale:.3g}"
    inside = knob.pinned or math.isclose(value, knob.value * scale, rel_tol=1e-9)
    end = "" if inside else ", the end of its range"
    return f"{part}, {_moves(knob, value)}{end}"


def _sentence(factor: float, tried: Sequence[Trial], start: Trial | None, moved: str) -> str:
    seen = [it for it in tried if _finite(it)]
    before = "" if start is None else f" (before: {_loss(start):.4g})"
    lowest = min(seen, key=_loss) if seen else None
    found = (
        "no loss is seen" if lowest is None else f"the lowest is {_loss(lowest):.4g} at {lowest.factor:.3g}"
    )
    return (
        f"losses of {len(tried)} lengths from {tried[0].factor:.3g} to {tried[-1].factor:.3g}: {found}{before}; "
        f"weighed by their errors {factor:.3g} is taken{moved}"
    )


def _factor(tried: Sequence[Trial], start: Trial | None) -> float:
    """A cautious quantile of where the loss is lowest."""
    seen = [it for it in tried if _finite(it)]
    points = ([replace(start, factor=0.0)] if start is not None else []) + seen
    low, high = tried[0].factor / BEYOND, tried[-1].factor * BEYOND
    broken = [it.factor for it in tried if it.loss is not None and not _finite(it)]
    if broken:
        high = max(min(high, min(broken) / BEYOND), low)
    powers = range(math.ceil(math.log(low, FINE)), math.floor(math.log(high, FINE)) + 1)
    kappas = [FINE**power for power in powers] or [low]
    spread = WIDE_PRIOR if _wide(tried) else NARROW_PRIOR
    logs = [_fit(it, points) + _inside(it, tried) + _prior(it, spread) for it in kappas]
    top = max(logs)
    weights = [math.exp(it - top) for it in logs]
    reached = list(accumulate(weights))
    place = bisect_left(reached, CAUTION * reached[-1])
    return float(f"{kappas[place]:.3g}")


def _prior(kappa: float, spread: float) -> float:
    return -2.0 * math.log1p((math.log(kappa) / spread) ** 2 / 3.0)


def _inside(kappa: float, tried: Sequence[Trial]) -> float:
    """Log-likelihood of how many scores left the bins."""
    square = 0.0
    for it in tried:
        if it.outer is not None and math.isfinite(it.outer) and it.factor <= 2.0 * kappa:
            square += max(it.outer - OUTSIDE, 0.0) ** 2 / (it.outer_error**2 + OUTSIDE_BLUR**2)
    return -0.5 * square


def _fit(kappa: float, points: Sequence[Trial]) -> float:
    """Log-likelihood of B + D (u² - 2 u), u = k / kappa, D >= 0; beyond u = 2 a loss need only be no better than B."""
    inside = [it for it in points if it.factor <= 2.0 * kappa]
    if not inside:
        return 0.0
    blur = BLUR * min(abs(_loss(it)) for it in points) + 1e-12
    rows = [(_shape(it.factor / kappa), _loss(it), 1.0 / (_error(it) ** 2 + blur**2)) for it in inside]
    total = math.fsum(weight for _, _, weight in rows)
    shape = math.fsum(weight * x for x, _, weight in rows) / total
    level = math.fsum(weight * loss for _, loss, weight in rows) / total
    spread = math.fsum(weight * (x - shape) ** 2 for x, _, weight in rows)
    slope = math.fsum(weight * (x - shape) * (loss - level) for x, loss, weight in rows)
    depth = max(slope / spread, 0.0) if spread > 0.0 else 0.0
    ground = level - depth * shape
    square = math.fsum(weight * (loss - ground - depth * x) ** 2 for x, loss, weight in rows)
    for it in points:
        if it.factor > 2.0 * kappa:
            # As much as a point that fits, in the mean.
            square += 1.0 + min(_loss(it) - ground, 0.0) ** 2 / (_error(it) ** 2 + blur**2)
    return -0.5 * square


def _shape(u: float) -> float:
    return u * u - 2.0 * u


def _worse(trial: Trial, start: Trial) -> bool:
    """Whether a step leads to a loss that is clearly above the one before it; what noise hides does not."""
    if trial.loss is None:
        return False
    return not trial.loss <= _loss(start) + CLEARLY * math.hypot(_error(trial), _error(start))


def _finite(trial: Trial) -> bool:
    return trial.loss is not None and abs(trial.loss) < BEYOND_REASON


def _loss(trial: Trial) -> float:
    assert trial.loss is not None
    return trial.loss


def _error(trial: Trial) -> float:
    if trial.error is None:
        return 0.0
    return trial.error if 0.0 <= trial.error < BEYOND_REASON else BEYOND_REASON
