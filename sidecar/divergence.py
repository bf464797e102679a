"""Whether the latest rounds of a job went wrong, and which was the last good one. Pure; what is judged is what is seen.

Three things say so: figures that are worse than those before by more than their errors, a gradient that has grown by
more than its noise, a step far longer than any before. Only the latest rounds are judged: what is older was, or is
told too late to act on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from .anomaly.alarms import TO_SIGMA
from .job_facts import Figure, RoundFact, Seen

# Nothing is done inside so many standard errors.
ERRORS = 3.0
# What JSON has instead of infinity.
_MANY = 1e6
# Steps before one is called long.
_FEW = 3
# A slope that has grown for so many rounds has hardly grown in the first of them.
_BACK = 4
# Of a figure without noise, while too few are known to say by how much they scatter; and the least of it after that.
_UNKNOWN, _EXACT = 0.1, 0.01


@dataclass(frozen=True)
class Rule:
    """One set of numbers for all jobs.

    Parameters
    ----------
    loss_errors, score_errors : standard errors by which a loss above, or a score below, those before is a divergence
    beside : of the other figure, so that a score alone is not believed where the loss is no worse
    least_loss, least_score : what is less is none, whatever the errors: a share of the loss, and points of the score
    long : a step so many times as long as the longest of the rounds before went astray, unless the model after it is
        known to be no worse: a probe raises a rate that was far too low by as much. A step is known exactly, and noise
        makes steps of about one length; whoever wants a rate raised so far in the middle of a job does it in two moves
    steep_errors, steeper : a slope beyond the largest of some rounds before by so many standard errors, and so many
        times as large, is one that leads away from where it was flat; without noise the loss says it better
    group : so many of the latest evaluated rounds are taken together, each number of them by itself
    before : so many evaluated rounds before them say how it was; a round older counts `fade` times
    lucky : a round within so many errors of those before may be gone back to
    cut : the rate is multiplied by this at a setback, and three times at one that follows before anything is given back
    give_back : and divided by this while it goes well, after `calm` evaluated rounds each time
    ceiling : where giving back went wrong, no more is given back than this part of the rate at which it did
    most : setbacks in `window` attempts; the next pauses the job
    """

    loss_errors: float = 4.0
    score_errors: float = 4.0
    beside: float = 1.0
    least_loss: float = 0.05
    least_score: float = 0.03
    long: float = 5.0
    steep_errors: float = 4.5
    steeper: float = 2.0
    group: int = 4
    before: int = 8
    fade: float = 0.8
    lucky: float = 1.5
    cut: float = 0.3
    give_back: float = math.sqrt(0.3)
    calm: int = 1
    ceiling: float = 0.55
    most: int = 5
    window: int = 30


RULE = Rule()


class Divergence(NamedTuple):
    """Where it went wrong: the newest round that was good (None: none is), and the numbers."""

    good: RoundFact | None
    words: str
    evidence: dict[str, float]


class Level(NamedTuple):
    """A weighted mean of figures and its standard error."""

    value: float
    error: float


def divergence(seen: Seen, changed: int, rule: Rule) -> Divergence | None:
    """The latest evaluated rounds beside those before them."""
    rounds = [it for it in seen.rounds if it.loss is not None]
    fresh = [it for it in rounds if it.attempt > changed]
    broken = [it for it in fresh if not _finite(it.loss) and _new(it, seen, changed, rule)]
    if broken:
        before = [it for it in rounds if it.round < broken[0].round and _finite(it.loss)]
        words = f"the loss after round {broken[0].round} is no number"
        return Divergence(before[-1] if before else None, words, {"round": float(broken[0].round)})
    astray = _astray(seen, changed, rule) or _steep(seen, changed, rule)
    if astray is not None:
        return astray
    rounds = [it for it in rounds if _finite(it.loss)]
    worst: tuple[float, Divergence] | None = None
    for size in range(1, min(rule.group, len(fresh)) + 1):
        before, group = rounds[:-size], rounds[-size:]
        if not before or any(it.attempt <= changed for it in group):
            break
        score, found = _compared(before[-rule.before :], group, rule)
        if found is not None and (worst is None or score > worst[0]):
            worst = score, found
    return None if worst is None else worst[1]


def _astray(seen: Seen, changed: int, rule: Rule) -> Divergence | None:
    """A step far longer than those before, whoever asked for it."""
    rounds = seen.rounds
    for place, it in enumerate(rounds):
        before = [
            other.step for other in rounds[max(place - rule.before, 0) : place] if other.step is not None
        ]
        if not _new(it, seen, changed, rule) or it.step is None or len(before) < _FEW:
            continue
        longest = max(before)
        if not it.step <= rule.long * longest and not _went_well(rounds[:place], it, rule):
            words = (
                f"the step of round {it.round} was {_over(it.step, longest):.3g} times as long as any before"
            )
            evidence = {"round": float(it.round), "step": _over(it.step, 1.0), "longest_before": longest}
            return Divergence(rounds[place - 1], words, evidence)
    return None


def _went_well(before: Sequence[RoundFact], it: RoundFact, rule: Rule) -> bool:
    """Whether the model after a step is known to be no worse, as of one that was probed: its figures come with it."""
    usual = level([other.loss for other in before[-rule.before :]], rule)
    return it.loss is not None and usual is not None and not doubtful(it.loss, usual, rule)


def _new(it: RoundFact, seen: Seen, changed: int, rule: Rule) -> bool:
    """Whether a round is one of the latest and came after the last action: what is older was judged, or is too late."""
    return it.attempt > changed and it.round > seen.rounds[-1].round - rule.group


def _steep(seen: Seen, changed: int, rule: Rule) -> Divergence | None:
    """A gradient far larger than those of the rounds before: the model was moved away from where it was small."""
    rounds = seen.rounds
    for place, it in enumerate(rounds):
        # Not the latest two: a model that is led astray slowly is steeper from round to round.
        before = _alike(rounds[: max(place - 2, 0)], it, rule)
        if not _new(it, seen, changed, rule) or not _noised(it.slope) or len(before) < _FEW:
            continue
        top = max(before, key=lambda slope: slope.value if slope else 0.0)
        assert it.slope is not None
        assert top is not None
        z = _over(it.slope.value - top.value, math.hypot(it.slope.error or 0.0, top.error or 0.0))
        if z >= max(rule.steep_errors, ERRORS) and it.slope.value >= rule.steeper * max(top.value, 0.0):
            good = _flat(rounds[:place], it, before, rule)
            words = (
                f"the gradient after round {it.round - 1} is larger than it was before by {z:.1f} standard errors, "
                f"{it.slope.value:.3g} against {top.value:.3g}"
            )
            evidence = {"round": float(it.round - 1), "slope": it.slope.value, "largest_before": top.value}
            return Divergence(good, words, {**evidence, "slope_errors": z})
    return None


def _alike(earlier: Sequence[RoundFact], it: RoundFact, rule: Rule) -> list[Figure | None]:
    """Slopes to compare with: of rounds at no lower a rate where there were any; small steps stay where it is flat."""
    known = [other for other in earlier if _noised(other.slope)]
    alike = [other for other in known if (other.rate or 0.0) >= 0.9 * (it.rate or 0.0)]
    chosen = (
        alike if len(alike) >= _FEW else [other for other in known if other.round > it.round - rule.before]
    )
    return [other.slope for other in chosen[-rule.before + 2 :]]


def _flat(
    rounds: Sequence[RoundFact], after: RoundFact, before: Sequence[Figure | None], rule: Rule
) -> RoundFact:
    """The newest round whose slope, which the next one says, is what it was usually."""
    usual = median(it.value for it in before if it is not None)
    following = after.slope
    for it in reversed(rounds[-_BACK:]):
        if following is not None and following.value <= usual + rule.lucky * (following.error or 0.0):
            return it
        following = it.slope
    return rounds[-_BACK:][0]


def _noised(slope: Figure | None) -> bool:
    return slope is not None and slope.error is not None and slope.error > 0 and math.isfinite(slope.value)


def _compared(
    before: Sequence[RoundFact], group: Sequence[RoundFact], rule: Rule
) -> tuple[float, Divergence | None]:
    """By how many standard errors a group of rounds is worse than those before, and what is made of it."""
    usual, now = level([it.loss for it in before], rule), level([it.loss for it in group], None)
    if usual is None or now is None:
        return 0.0, None
    rise = now.value - usual.value
    z = _over(rise, math.hypot(usual.error, now.error))
    evidence = {
        "loss": now.value,
        "loss_before": usual.value,
        "loss_errors": z,
        "rounds": float(len(group)),
        "from_round": float(group[0].round),
    }
    first, last = group[0].round, group[-1].round
    which = f"round {last}" if first == last else f"rounds {first} to {last}"
    if z >= max(rule.loss_errors, ERRORS) and rise >= rule.least_loss * abs(usual.value):
        words = (
            f"the loss of {which}, {now.value:.4g}, is {z:.1f} standard errors above {usual.value:.4g} before"
        )
        return z, Divergence(_good(before, usual, rule), words, evidence)
    # Noise hides an AUC in one round and not in the next, and then another figure stands in its place.
    named = {it.score.name for it in group if it.score is not None}
    if len(named) != 1:
        return 0.0, None
    alike = [it.score for it in before if it.score is not None and it.score.name in named]
    high, low = level(alike, rule), level([it.score for it in group], None)
    if high is None or low is None:
        return 0.0, None
    fall = high.value - low.value
    score_z = _over(fall, math.hypot(high.error, low.error))
    if score_z >= max(rule.score_errors, ERRORS) and fall >= rule.least_score and z >= rule.beside:
        evidence |= {"score": low.value, "score_before": high.value, "score_errors": score_z}
        words = f"the score of {which}, {low.value:.4g}, is {score_z:.1f} standard errors below {high.value:.4g} before"
        return score_z, Divergence(_good(before, usual, rule), words, evidence)
    return 0.0, None


def _good(before: Sequence[RoundFact], usual: Level, rule: Rule) -> RoundFact:
    """The newest round whose own loss is not suspicious; one that was only lucky is passed over."""
    return next((it for it in reversed(before[-3:]) if not doubtful(it.loss, usual, rule)), before[-1])


def doubtful(loss: Figure | None, usual: Level | None, rule: Rule) -> bool:
    """Whether a single loss is somewhat high, though no divergence."""
    if loss is None or usual is None:
        return False
    return not loss.value - usual.value <= rule.lucky * (loss.error or usual.error)


def level(figures: Sequence[Figure | None], rule: Rule | None) -> Level | None:
    """Mean by errors, older ones counting less where a rule says so; None where nothing is known.

    Where no noise was added the errors are what the figures scatter by from round to round, of which a group of
    latest rounds says nothing: theirs are 0.
    """
    known = [it for it in figures if it is not None and math.isfinite(it.value)]
    if not known:
        return None
    noised = all(it.error is not None and it.error > 0 and math.isfinite(it.error) for it in known)
    errors = [it.error or 0.0 for it in known] if noised else [1.0] * len(known)
    ages = range(len(known) - 1, -1, -1)
    fades = [1.0 if rule is None else rule.fade**age for age in ages]
    weights = [fade / error**2 for fade, error in zip(fades, errors, strict=True)]
    total = math.fsum(weights)
    value = math.fsum(weight * it.value for weight, it in zip(weights, known, strict=True)) / total
    if noised:
        square = math.fsum((weight * error) ** 2 for weight, error in zip(weights, errors, strict=True))
        return Level(value, math.sqrt(square) / total)
    if rule is None:
        return Level(value, 0.0)
    moves = [abs(b.value - a.value) for a, b in pairwise(known)]
    scatter = TO_SIGMA * median(moves) if len(moves) > 1 else _UNKNOWN * abs(value)
    return Level(value, max(scatter, _EXACT * abs(value)))


def _finite(figure: Figure | None) -> bool:
    return figure is not None and math.isfinite(figure.value)


def _over(difference: float, error: float) -> float:
    """In standard errors; of an exact figure any difference is very many."""
    many = math.copysign(_MANY, difference) if difference else 0.0
    return max(-_MANY, min(difference / error, _MANY)) if error > 0 else many
