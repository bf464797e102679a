"""When a job goes back to its last good round, at which rate it goes on, and when it is better paused. Pure.

A decision looks at what the server says of a job now (`Seen`) and at a small state that goes through JSON. There is no
clock, and nothing is counted by hearing it twice: a reading that is missing, late or repeated, a server or a sidecar
that was restarted change no decision. At most one action is under way; the caller saves the state before it acts, and
`next_step` says from what the server shows how far the action has come, so that none is done twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from .divergence import ERRORS, RULE, Divergence, Rule, divergence, doubtful, level
from .job_facts import FailedAttempt, Figure, RoundFact, Seen, figures_of, in_order, slope_of

__all__ = [
    "ERRORS",
    "RULE",
    "Action",
    "CutRate",
    "FailedAttempt",
    "Figure",
    "GiveBack",
    "Pause",
    "RecoveryState",
    "RollBack",
    "RoundFact",
    "Rule",
    "Seen",
    "acted",
    "decide",
    "figures_of",
    "next_step",
    "refused",
    "slope_of",
]

Step = Literal["pause", "set rate", "roll back", "resume", "done"]

# Two rates that differ by less are the same knob.
_SAME = 1e-6


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


def decide(state: RecoveryState, seen: Seen, rule: Rule = RULE) -> tuple[RecoveryState, Action | None]:
    """The action to take now, or the one under way; and the state to save before it is taken.

    The same state and what is seen always give the same answer. None while the job does not run, unless an action
    that was decided on before is not finished.
    """
    seen = in_order(seen)
    if state.pending is not None:
        if next_step(state.pending, seen) != "done":
            return state, state.pending
        state = replace(state, pending=None)
    if seen.status not in ("running", "queued"):
        return state, None
    state = _released(state, seen, rule)
    failed = [it for it in seen.failures if it.attempt > state.failed and it.kind != "other"]
    found = divergence(seen, state.changed, rule)
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
        if seen.status in ("finished", "stopped"):
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


def _go_back(
    state: RecoveryState, seen: Seen, found: Divergence, rule: Rule
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
    """Some of what was cut, after enough rounds in which nothing was wrong."""
    normal = state.normal
    if normal is None or seen.rate is None or state.factor >= state.most:
        return state, None
    usual = level([it.loss for it in seen.rounds if it.attempt <= state.changed][-rule.before :], rule)
    fresh = [it for it in seen.rounds if it.attempt > state.changed and it.judged]
    calm = [it for it in fresh if not doubtful(it.loss, usual, rule)]
    key = f"give back {seen.newest}"
    if len(calm) < rule.calm or key in state.made:
        return state, None
    factor = min(state.most, state.factor / rule.give_back)
    rate = max(seen.low, normal * factor)
    state = replace(state, factor=factor, given=True)
    if _same(rate, seen.rate):
        return replace(state, changed=seen.newest), None
    sentence = (
        f"{len(calm)} round{'s' * (len(calm) > 1)} went well{_at_rate(seen.rate, rate)}; it was {normal:.3g}."
    )
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


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _SAME * max(abs(one), abs(other))
