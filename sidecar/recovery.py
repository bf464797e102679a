"""When a job goes back to its last good round, at which rate it goes on, and when it is better paused. Pure.

A decision looks at what the server says of a job now (`Seen`) and at a small state that goes through JSON. There is no
clock, and nothing is counted by hearing it twice: a reading that is missing, late or repeated, a server or a sidecar
that was restarted change no decision. At most one action is under way; the caller saves the state before it acts, and
`next_step` says from what the server shows how far the action has come, so that none is done twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from statistics import median
from typing import Any, Literal, NamedTuple

from .anomaly.alarms import TO_SIGMA

Step = Literal["pause", "set rate", "roll back", "resume", "done"]
FailureKind = Literal["not-finite", "dropped", "other"]

# Figures that are looked at, first found counts, whatever the label is.
LOSSES, SCORES = ("log_loss", "rmse"), ("auc", "accuracy")
# Nothing is done inside so many standard errors.
ERRORS = 3.0
# Two rates that differ by less are the same knob.
_SAME = 1e-6
# What JSON has instead of infinity.
_MANY = 1e6
# Steps before one is called long.
_FEW = 3
# A slope that has grown for so many rounds has hardly grown in the first of them.
_BACK = 4
# Of a figure without noise, while too few are known to say by how much they scatter; and the least of it after that.
_UNKNOWN, _EXACT = 0.1, 0.01


@dataclass(frozen=True)
class Figure:
    """A released figure; `error` is its standard error, None where no noise was added."""

    value: float
    error: float | None = None


@dataclass(frozen=True)
class RoundFact:
    """A round that stands.

    Parameters
    ----------
    attempt : the one that became this round; rises for ever, while a round's number comes again after going back
    loss, score : of the model after the round; None where it was not evaluated, or noise hides the figure
    rate : the server's rate in that attempt, where it is known
    step : how far the round moved the weights, Euclidean
    slope : squared length of the mean gradient at the model before the round, what noise adds taken off, with its error
        (`slope_of`). Both are functions of noised sums, so they tell nothing new, and are known in rounds without
        evaluation too; None where the server sees no sums (`he`)
    """

    round: int
    attempt: int
    loss: Figure | None = None
    score: Figure | None = None
    rate: float | None = None
    step: float | None = None
    slope: Figure | None = None

    @property
    def judged(self) -> bool:
        """Whether anything is known by which a round could have gone wrong."""
        return self.loss is not None or self.step is not None or self.slope is not None


@dataclass(frozen=True)
class FailedAttempt:
    """An attempt that became no round: a model with values that are not finite, one that a probe dropped, another."""

    attempt: int
    kind: FailureKind
    rate: float | None = None


@dataclass(frozen=True)
class Seen:
    """What the server says of a job now.

    Parameters
    ----------
    rounds : rounds that stand, 40 of the newest are enough; round 0 as attempt 0 where it was evaluated
    failures : failed attempts, in any order
    kept : rounds whose states can be gone back to
    rate : the server's rate of the next attempt; None where nobody may move it
    low : least that the charter lets it be
    status : the job's, as `contract.jobs.JobStatus` has it
    """

    rounds: tuple[RoundFact, ...]
    failures: tuple[FailedAttempt, ...] = ()
    kept: tuple[int, ...] = ()
    rate: float | None = None
    low: float = 0.0
    status: str = "running"

    @property
    def newest(self) -> int:
        """The newest attempt that is over."""
        return max((*(it.attempt for it in self.rounds), *(it.attempt for it in self.failures)), default=0)


@dataclass(frozen=True)
class Rule:
    """One set of numbers for all jobs.

    Parameters
    ----------
    loss_errors, score_errors : standard errors by which a loss above, or a score below, those before is a divergence
    beside : of the other figure, so that a score alone is not believed where the loss is no worse
    least_loss, least_score : what is less is none, whatever the errors: a share of the loss, and points of the score
    long : a step so many times as long as the longest of the rounds before went astray. It is known exactly, and noise
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
    steep_errors: float = 4.0
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


@dataclass(frozen=True)
class RollBack:
    """Go back to a kept round, at another rate.

    Parameters
    ----------
    undoes : attempt of the newest round at the decision; once it stands no more the job has gone back
    rate_before, rate : of the server; None where nobody may move it
    """

    key: str
    to_round: int
    undoes: int
    rate_before: float | None
    rate: float | None
    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CutRate:
    """Go on from the standing round at a lower rate: an attempt came to nothing."""

    key: str
    rate_before: float
    rate: float
    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GiveBack:
    """It goes well: give back some of the rate that was cut."""

    key: str
    rate_before: float
    rate: float
    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pause:
    """Going back does not help; a person should look."""

    key: str
    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)


Action = RollBack | CutRate | GiveBack | Pause
_KINDS: Mapping[str, type[Action]] = {it.__name__: it for it in (RollBack, CutRate, GiveBack, Pause)}


@dataclass(frozen=True)
class RecoveryState:
    """Everything that recovery remembers of a job.

    Parameters
    ----------
    normal : the rate that is given back; None while nothing is cut
    factor : what the rate is of the normal one, `most` how much of it is given back
    changed : newest attempt when an action was last decided on; only later ones are evidence
    given : whether something was given back since the last cut
    failed : newest failed attempt that was looked at
    setbacks : attempts at which a rate was cut, the newest last
    pending : the action under way
    made : keys of the latest actions
    """

    normal: float | None = None
    factor: float = 1.0
    most: float = 1.0
    changed: int = 0
    given: bool = False
    failed: int = 0
    setbacks: tuple[int, ...] = ()
    pending: Action | None = None
    made: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        kind = type(self.pending).__name__ if self.pending else None
        return {"version": 1, **asdict(self), "kind": kind}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> RecoveryState:
        """What `as_json` wrote.

        Errors
        ------
        ValueError : the state is of another version
        """
        if state.get("version") != 1:
            raise ValueError(
                f"recovery's state is of version {state.get('version')}, not 1: start recovery anew"
            )
        own = {it.name: state[it.name] for it in fields(cls)}
        if own["pending"] is not None:
            own["pending"] = _KINDS[state["kind"]](**own["pending"])
        own |= {"setbacks": tuple(own["setbacks"]), "made": tuple(own["made"])}
        return cls(**own)


def slope_of(square: float, noise: float, length: int) -> Figure:
    """What a noised mean update says of the gradient's squared length.

    Parameters
    ----------
    square : its own squared length
    noise, length : standard deviation of the noise on each of so many coordinates
    """
    value = square - length * noise**2
    error = noise * math.sqrt(2.0 * length * noise**2 + 4.0 * max(value, 0.0))
    return Figure(value, error if noise > 0 else None)


def figures_of(metrics: Mapping[str, Figure]) -> tuple[Figure | None, Figure | None]:
    """Loss and score among a round's figures."""
    loss = next((metrics[name] for name in LOSSES if name in metrics), None)
    return loss, next((metrics[name] for name in SCORES if name in metrics), None)


def decide(state: RecoveryState, seen: Seen, rule: Rule = RULE) -> tuple[RecoveryState, Action | None]:
    """The action to take now, or the one under way; and the state to save before it is taken.

    The same state and what is seen always give the same answer. None while the job does not run, unless an action
    that was decided on before is not finished.
    """
    seen = _in_order(seen)
    if state.pending is not None:
        if next_step(state.pending, seen) != "done":
            return state, state.pending
        state = replace(state, pending=None)
    if seen.status not in ("running", "queued"):
        return state, None
    state = _released(state, seen, rule)
    failed = [it for it in seen.failures if it.attempt > state.failed and it.kind != "other"]
    found = _divergence(state, seen, rule)
    if failed:
        state = replace(state, failed=max(it.attempt for it in failed))
    if found is not None:
        return _go_back(state, seen, found, rule)
    if failed:
        return _after_failures(state, seen, failed, rule)
    return _given_back(state, seen, rule)


def next_step(action: Action, seen: Seen) -> Step:
    """What is still to be done of an action; the order is such that every step may be the last before a kill.

    A rate that is neither the old nor the new one was moved by somebody later, whose word counts.
    """
    runs = seen.status in ("running", "queued")
    if isinstance(action, Pause):
        return "pause" if runs else "done"
    to_set = (
        action.rate is not None
        and seen.rate is not None
        and action.rate_before is not None
        and _same(seen.rate, action.rate_before)
        and not _same(seen.rate, action.rate)
    )
    if not isinstance(action, RollBack):
        return "set rate" if to_set and seen.status != "finished" else "done"
    if any(it.attempt == action.undoes for it in seen.rounds):
        if runs:
            return "pause"
        if seen.status == "finished":
            return "done"
        return "set rate" if to_set else "roll back"
    return "resume" if seen.status in ("paused", "failed") else "done"


def acted(state: RecoveryState, key: str) -> RecoveryState:
    """The action of that key is finished."""
    return replace(state, pending=None) if state.pending is not None and state.pending.key == key else state


def refused(state: RecoveryState, key: str, reason: str) -> RecoveryState:
    """The server did not do it, and asking again would not help: the job is paused instead."""
    if state.pending is None or state.pending.key != key:
        return state
    if isinstance(state.pending, Pause):
        return replace(state, pending=None)
    pause = Pause(f"{key} refused", f"Recovery could not act, and a person should look: {reason}")
    return _taken(state, pause, state.changed)


def _in_order(seen: Seen) -> Seen:
    """Rounds rising, each once however often it was read."""
    known: dict[int, RoundFact] = {}
    for it in sorted(seen.rounds, key=lambda it: (it.round, it.attempt)):
        other = known.get(it.attempt)
        known[it.attempt] = it if other is None or other.loss is None else other
    return replace(seen, rounds=tuple(known.values()))


class _Divergence(NamedTuple):
    """Where it went wrong: the newest round that was good (None: none is), and the numbers."""

    good: RoundFact | None
    words: str
    evidence: dict[str, float]


class _Level(NamedTuple):
    """A weighted mean of figures and its standard error."""

    value: float
    error: float


def _divergence(state: RecoveryState, seen: Seen, rule: Rule) -> _Divergence | None:
    """The latest evaluated rounds beside those before them."""
    rounds = [it for it in seen.rounds if it.loss is not None]
    fresh = [it for it in rounds if it.attempt > state.changed]
    broken = [it for it in fresh if not _finite(it.loss) and _new(it, state, seen, rule)]
    if broken:
        before = [it for it in rounds if it.round < broken[0].round and _finite(it.loss)]
        words = f"the loss after round {broken[0].round} is no number"
        return _Divergence(before[-1] if before else None, words, {"round": float(broken[0].round)})
    astray = _astray(state, seen, rule) or _steep(state, seen, rule)
    if astray is not None:
        return astray
    rounds = [it for it in rounds if _finite(it.loss)]
    worst: tuple[float, _Divergence] | None = None
    for size in range(1, min(rule.group, len(fresh)) + 1):
        before, group = rounds[:-size], rounds[-size:]
        if not before or any(it.attempt <= state.changed for it in group):
            break
        score, found = _compared(before[-rule.before :], group, rule)
        if found is not None and (worst is None or score > worst[0]):
            worst = score, found
    return None if worst is None else worst[1]


def _astray(state: RecoveryState, seen: Seen, rule: Rule) -> _Divergence | None:
    """A step far longer than those before, whoever asked for it."""
    rounds = seen.rounds
    for place, it in enumerate(rounds):
        before = [
            other.step for other in rounds[max(place - rule.before, 0) : place] if other.step is not None
        ]
        if not _new(it, state, seen, rule) or it.step is None or len(before) < _FEW:
            continue
        longest = max(before)
        if not it.step <= rule.long * longest:
            words = (
                f"the step of round {it.round} was {_over(it.step, longest):.3g} times as long as any before"
            )
            evidence = {"round": float(it.round), "step": it.step, "longest_before": longest}
            return _Divergence(rounds[place - 1], words, evidence)
    return None


def _new(it: RoundFact, state: RecoveryState, seen: Seen, rule: Rule) -> bool:
    """Whether a round is one of the latest and came after the last action: what is older was judged, or is too late."""
    return it.attempt > state.changed and it.round > seen.rounds[-1].round - rule.group


def _steep(state: RecoveryState, seen: Seen, rule: Rule) -> _Divergence | None:
    """A gradient far larger than those of the rounds before: the model was moved away from where it was small."""
    rounds = seen.rounds
    for place, it in enumerate(rounds):
        before = [
            other.slope for other in rounds[max(place - rule.before, 0) : place] if _noised(other.slope)
        ]
        if not _new(it, state, seen, rule) or not _noised(it.slope) or len(before) < _FEW:
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
            return _Divergence(good, words, {**evidence, "slope_errors": z})
    return None


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
) -> tuple[float, _Divergence | None]:
    """By how many standard errors a group of rounds is worse than those before, and what is made of it."""
    usual, now = _level([it.loss for it in before], rule), _level([it.loss for it in group], None)
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
        return z, _Divergence(_good(before, usual, rule), words, evidence)
    high, low = _level([it.score for it in before], rule), _level([it.score for it in group], None)
    if high is None or low is None:
        return 0.0, None
    fall = high.value - low.value
    score_z = _over(fall, math.hypot(high.error, low.error))
    if score_z >= max(rule.score_errors, ERRORS) and fall >= rule.least_score and z >= rule.beside:
        evidence |= {"score": low.value, "score_before": high.value, "score_errors": score_z}
        words = f"the score of {which}, {low.value:.4g}, is {score_z:.1f} standard errors below {high.value:.4g} before"
        return score_z, _Divergence(_good(before, usual, rule), words, evidence)
    return 0.0, None


def _good(before: Sequence[RoundFact], usual: _Level, rule: Rule) -> RoundFact:
    """The newest round whose own loss is not suspicious; one that was only lucky is passed over."""
    return next((it for it in reversed(before[-3:]) if not _doubtful(it.loss, usual, rule)), before[-1])


def _doubtful(loss: Figure | None, usual: _Level | None, rule: Rule) -> bool:
    """Whether a single loss is somewhat high, though no divergence."""
    if loss is None or usual is None:
        return False
    return not loss.value - usual.value <= rule.lucky * (loss.error or usual.error)


def _level(figures: Sequence[Figure | None], rule: Rule | None) -> _Level | None:
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
        return _Level(value, math.sqrt(square) / total)
    if rule is None:
        return _Level(value, 0.0)
    moves = [abs(b.value - a.value) for a, b in pairwise(known)]
    scatter = TO_SIGMA * median(moves) if len(moves) > 1 else _UNKNOWN * abs(value)
    return _Level(value, max(scatter, _EXACT * abs(value)))


def _go_back(
    state: RecoveryState, seen: Seen, found: _Divergence, rule: Rule
) -> tuple[RecoveryState, Action | None]:
    """Back to a kept round that was good, or a pause where there is none or it did not help."""
    key = f"roll back {seen.newest}"
    if key in state.made:
        return state, None
    good = found.good
    reachable = [] if good is None else [it for it in seen.kept if it <= good.round]
    if good is None or not reachable:
        sentence = (
            f"{_capital(found.words)}, and no good round's state is kept to go back to: the job is paused."
        )
        return _paused(state, seen, sentence, found.evidence)
    if _spent(state, seen, rule):
        return _paused(state, seen, _exhausted(found.words, rule), found.evidence)
    state, rate = _cut(state, seen, good.rate, rule)
    newest = seen.rounds[-1]
    to_round = max(reachable)
    sentence = f"{_capital(found.words)}: back to round {to_round}{_at_rate(seen.rate, rate)}; charges stay."
    evidence = {**found.evidence, "to_round": float(to_round), "setbacks": float(len(state.setbacks))}
    return _done(
        state, RollBack(key, to_round, newest.attempt, seen.rate, rate, sentence, evidence), seen.newest
    )


def _after_failures(
    state: RecoveryState, seen: Seen, failed: Sequence[FailedAttempt], rule: Rule
) -> tuple[RecoveryState, Action | None]:
    """The standing round is good; the rate is cut unless whoever dropped the step cut it already."""
    latest = max(failed, key=lambda it: it.attempt)
    key = f"cut rate {latest.attempt}"
    if key in state.made:
        return state, None
    what = "led to values that are not finite" if latest.kind == "not-finite" else "was worse and was dropped"
    words = f"the step of attempt {latest.attempt} {what}"
    evidence = {"attempt": float(latest.attempt), "failures": float(len(failed))}
    if _spent(state, seen, rule):
        return _paused(state, seen, _exhausted(words, rule), evidence)
    lowered = latest.rate is not None and seen.rate is not None and seen.rate < 0.7 * latest.rate
    if lowered or seen.rate is None:
        return replace(state, setbacks=(*state.setbacks, latest.attempt), changed=seen.newest), None
    state, rate = _cut(state, seen, seen.rounds[-1].rate if seen.rounds else None, rule)
    if rate is None or _same(rate, seen.rate):
        return replace(state, changed=seen.newest), None
    sentence = f"{_capital(words)}; the round before stands, and it goes on{_at_rate(seen.rate, rate)}."
    return _done(state, CutRate(key, seen.rate, rate, sentence, evidence), seen.newest)


def _given_back(state: RecoveryState, seen: Seen, rule: Rule) -> tuple[RecoveryState, Action | None]:
    """Some of what was cut, after enough evaluated rounds in which nothing was wrong."""
    normal = state.normal
    if normal is None or seen.rate is None or state.factor >= state.most:
        return state, None
    usual = _level([it.loss for it in seen.rounds if it.attempt <= state.changed][-rule.before :], rule)
    fresh = [it for it in seen.rounds if it.attempt > state.changed and it.judged]
    calm = [it for it in fresh if not _doubtful(it.loss, usual, rule)]
    key = f"give back {seen.newest}"
    if len(calm) < rule.calm or key in state.made:
        return state, None
    factor = min(state.most, state.factor / rule.give_back)
    rate = max(seen.low, normal * factor)
    state = replace(state, factor=factor, given=True)
    if _same(rate, seen.rate):
        return replace(state, changed=seen.newest), None
    sentence = f"{len(calm)} evaluated rounds went well{_at_rate(seen.rate, rate)}; it was {normal:.3g}."
    evidence = {"rounds": float(len(calm)), "normal": normal, "factor": factor}
    return _done(state, GiveBack(key, seen.rate, rate, sentence, evidence), seen.newest)


def _released(state: RecoveryState, seen: Seen, rule: Rule) -> RecoveryState:
    """Old setbacks are forgotten, and a rate that somebody else moved is no longer ours to give back."""
    kept = tuple(it for it in state.setbacks if it > seen.newest - rule.window)
    state = replace(state, setbacks=kept, most=state.most if kept else 1.0)
    if state.normal is None:
        return state
    ours = max(seen.low, state.normal * state.factor)
    if seen.rate is None or not _same(seen.rate, ours) or state.factor >= 1.0:
        return replace(state, normal=None, factor=1.0, given=False)
    return state


def _cut(
    state: RecoveryState, seen: Seen, good_rate: float | None, rule: Rule
) -> tuple[RecoveryState, float | None]:
    """One more setback, and the rate after it: of the one at which it last went well, whoever raised it since."""
    state = replace(state, setbacks=(*state.setbacks, seen.newest))
    if seen.rate is None:
        return state, None
    normal = state.normal
    if normal is None:
        normal = seen.rate if good_rate is None else min(good_rate, seen.rate)
    most = state.factor * rule.ceiling if state.given else state.most
    # What the last cut did not end is not ended by another of the same size.
    factor = state.factor * rule.cut ** (3 if state.normal is not None and not state.given else 1)
    state = replace(state, normal=normal, factor=factor, most=max(most, factor), given=False)
    return state, max(seen.low, normal * factor)


def _spent(state: RecoveryState, seen: Seen, rule: Rule) -> bool:
    return len([it for it in state.setbacks if it > seen.newest - rule.window]) >= rule.most


def _paused(
    state: RecoveryState, seen: Seen, sentence: str, evidence: Mapping[str, float]
) -> tuple[RecoveryState, Action | None]:
    """A pause after which a person decides: whoever resumes begins with all setbacks forgiven."""
    key = f"pause {seen.newest}"
    if key in state.made:
        return state, None
    return _done(replace(state, setbacks=()), Pause(key, sentence, evidence), seen.newest)


def _done(state: RecoveryState, action: Action, newest: int) -> tuple[RecoveryState, Action]:
    return _taken(state, action, newest), action


def _taken(state: RecoveryState, action: Action, newest: int) -> RecoveryState:
    return replace(state, pending=action, changed=newest, made=(*state.made, action.key)[-16:])


def _exhausted(words: str, rule: Rule) -> str:
    return (
        f"{_capital(words)}, and {rule.most} lower rates within {rule.window} attempts did not help: "
        "the job is paused for a person to look."
    )


def _at_rate(before: float | None, rate: float | None) -> str:
    return "" if before is None or rate is None else f", the server's rate {before:.3g} -> {rate:.3g}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _finite(figure: Figure | None) -> bool:
    return figure is not None and math.isfinite(figure.value)


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _SAME * max(abs(one), abs(other))


def _over(difference: float, error: float) -> float:
    """In standard errors; of an exact figure any difference is very many."""
    many = math.copysign(_MANY, difference) if difference else 0.0
    return max(-_MANY, min(difference / error, _MANY)) if error > 0 else many
