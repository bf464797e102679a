"""Who fails, answers late, or gives shares or sums that are wrong: counted by member, and when a person is told. Pure.

Counted over a window of attempts, because a bad week is not for ever; compared with the others, because when everybody
fails it is the network; with a rest after each suggestion. What comes twice, late or in another order counts once. No
clock: an attempt's number says when.

Nobody is accused of a poisoned model here. Leaving members out in turn finds none under noise and makes the honest pay;
an audit looks at sums of groups (`strategies.audit_groups`), where the charter has `audit_groups`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Literal

Fault = Literal["failure", "late", "bad-share", "bad-sum"]
FAULTS: tuple[Fault, ...] = ("failure", "late", "bad-share", "bad-sum")
_WORDS: Mapping[Fault, str] = {
    "failure": "failed",
    "late": "did not answer in time",
    "bad-share": "gave a bad share, or complained of one,",
    "bad-sum": "found the sum wrong",
}

# What the page says of an audit (`strategies.audit_groups` has the same), and what those who sign a charter should know
# before they allow one.
AUDIT_SENTENCE = (
    "Where a charter has audit_groups the server sees in every round the sum of each group instead of the cohort's: "
    "the set that a member hides in "
    "shrinks to its group, of at least the charter's audit_groups members, and from groups that are split anew each "
    "round it learns more of each member than from as many ordinary rounds. What a member's own noise protects stays "
    "protected."
)
# Why there is none in mode `he`.
BLIND_SENTENCE = (
    "In mode 'he' the server sees no sum, of a group or of all: there is no audit. A member is suggested for what can "
    "be counted of it, failures, late replies, bad shares and bad sums, and for nothing else."
)


@dataclass(frozen=True)
class MemberRule:
    """How faults are counted: one set of numbers for all members.

    Parameters
    ----------
    window : latest attempts that count
    least : fewest faults of a kind in it that are told, by kind
    share : and least share of the attempts the member was asked in, for failures and late replies
    times : and so many times the others' median share, for those
    rest : attempts in which the same of the same member is not told again
    """

    window: int = 50
    least: Mapping[Fault, int] = field(
        default_factory=lambda: {"failure": 5, "late": 8, "bad-share": 3, "bad-sum": 3}
    )
    share: float = 0.3
    times: float = 3.0
    rest: int = 50


@dataclass(frozen=True)
class AttemptFacts:
    """What one attempt says of its members.

    Parameters
    ----------
    asked : its cohort
    faults : kind and member of what went wrong; one that is not in the cohort counts as well
    """

    attempt: int
    asked: tuple[str, ...]
    faults: tuple[tuple[Fault, str], ...] = ()


@dataclass(frozen=True)
class Suggestion:
    """A member that a person should look at; `hansa members quarantine` is theirs to say.

    Parameters
    ----------
    key : the same for the same finding, so that it is told once
    """

    key: str
    member: str
    fault: Fault
    sentence: str
    evidence: Mapping[str, float]


@dataclass(frozen=True)
class MemberCounts:
    """The latest attempts, rising, at most `MemberRule.window`; and until which attempt which finding rests."""

    attempts: tuple[AttemptFacts, ...] = ()
    rests: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        rows = [[it.attempt, list(it.asked), [list(fault) for fault in it.faults]] for it in self.attempts]
        return {"version": 1, "attempts": rows, "rests": dict(self.rests)}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> MemberCounts:
        """What `as_json` wrote.

        Errors
        ------
        ValueError : the state is of another version
        """
        if state.get("version") != 1:
            raise ValueError(f"the counts are of version {state.get('version')}, not 1: start counting anew")
        rows = (
            AttemptFacts(attempt, tuple(asked), tuple((kind, name) for kind, name in faults))
            for attempt, asked, faults in state["attempts"]
        )
        return cls(tuple(rows), dict(state["rests"]))

    def count(self, member: str, fault: Fault) -> int:
        """Attempts of the window in which this went wrong."""
        return sum((fault, member) in it.faults for it in self.attempts)

    def asked(self, member: str) -> int:
        """Attempts of the window in which the member was asked."""
        return sum(member in it.asked for it in self.attempts)


MEMBER_RULE = MemberRule()


def fault_of(outcome: str, code: str) -> Fault | None:
    """Which fault a participation is (`contract.jobs.Participation`); None where it is nobody's, as a spent budget."""
    if code in ("bad-share", "bad-sum"):
        return "bad-share" if code == "bad-share" else "bad-sum"
    if outcome == "missing":
        return "late"
    return "failure" if outcome == "failed" else None


def counted(
    counts: MemberCounts, facts: Iterable[AttemptFacts], rule: MemberRule = MEMBER_RULE
) -> MemberCounts:
    """The counts with more attempts; of one that is known already faults that are new are added."""
    known = {it.attempt: it for it in counts.attempts}
    for it in facts:
        before = known.get(it.attempt)
        if before is not None:
            faults = tuple(dict.fromkeys((*before.faults, *it.faults)))
            it = replace(before, asked=tuple(dict.fromkeys((*before.asked, *it.asked))), faults=faults)
        known[it.attempt] = replace(it, faults=tuple(sorted(set(it.faults))))
    latest = sorted(known)[-rule.window :]
    return replace(counts, attempts=tuple(known[number] for number in latest))


def suggestions(
    counts: MemberCounts, rule: MemberRule = MEMBER_RULE
) -> tuple[MemberCounts, tuple[Suggestion, ...]]:
    """Members that should be looked at and were not told of lately; and the counts to save before they are told."""
    if not counts.attempts:
        return counts, ()
    newest = counts.attempts[-1].attempt
    members = sorted({name for it in counts.attempts for name in (*it.asked, *(who for _, who in it.faults))})
    asked = {name: counts.asked(name) for name in members}
    rests = {key: until for key, until in counts.rests.items() if until > newest}
    found = []
    for fault in FAULTS:
        numbers = {name: counts.count(name, fault) for name in members}
        shares = {name: numbers[name] / max(asked[name], numbers[name], 1) for name in members}
        for name in members:
            told = f"{fault} {name}"
            usual = median([share for other, share in shares.items() if other != name] or [0.0])
            if told in rests or not _stands_out(fault, numbers[name], shares[name], usual, rule):
                continue
            rests[told] = newest + rule.rest
            found.append(
                _suggestion(f"{told} {newest}", name, fault, numbers[name], asked[name], usual, shares[name])
            )
    return replace(counts, rests=rests), tuple(found)


def _stands_out(fault: Fault, number: int, share: float, usual: float, rule: MemberRule) -> bool:
    if number < rule.least[fault]:
        return False
    # Of a network that is down everybody is a victim; nobody gives a bad share by accident.
    return fault in ("bad-share", "bad-sum") or (share >= rule.share and share >= rule.times * usual)


def _suggestion(
    key: str, name: str, fault: Fault, number: int, asked: int, usual: float, share: float
) -> Suggestion:
    sentence = (
        f"{name} {_WORDS[fault]} in {number} of the latest {max(asked, number)} attempts it was asked in; the others' "
        f"median share is {100 * usual:.0f} %. Look at it, or hold it out with: hansa members quarantine {name}"
    )
    evidence = {"count": float(number), "asked": float(asked), "share": share, "others": usual}
    return Suggestion(key, name, fault, sentence, evidence)


# An audit: after so many alarms in so many rounds, for so many rounds at most.
ALARMS, WITHIN, AUDIT_ROUNDS = 2, 10, 25


@dataclass(frozen=True)
class AuditPlan:
    """An audit of rounds `first` to `last`."""

    first: int
    last: int
    sentence: str


def audit_due(
    alarms: Collection[float],
    newest: int,
    *,
    groups: int | None,
    mode: str,
    controllers: int,
    audited: Sequence[tuple[int, int]] = (),
) -> AuditPlan | None:
    """The audit that the second alarm in ten rounds calls for; None where there is none, or the charter allows none.

    Parameters
    ----------
    alarms : rounds of alarms about the model (loss, score) for the worse, one a round
    newest : the job's newest round
    groups : the charter's `audit_groups`
    controllers : members that can be asked, by controller; fewer than two groups of them are not split
    audited : first and last rounds of earlier audits: an alarm calls for one audit
    """
    if groups is None or mode != "masked" or controllers < 2 * groups:
        return None
    heard = max((last for _, last in audited), default=-math.inf)
    latest = sorted({it for it in alarms if math.isfinite(it) and max(heard, newest - WITHIN) < it <= newest})
    if len(latest) < ALARMS:
        return None
    sentence = (
        f"{len(latest)} alarms in rounds {latest[0]:g} to {latest[-1]:g}: an audit of up to {AUDIT_ROUNDS} rounds, in "
        f"groups of at least {groups}. {AUDIT_SENTENCE}"
    )
    return AuditPlan(newest + 1, newest + AUDIT_ROUNDS, sentence)
