"""Who pulls against the others: sums of random groups beside the direction so far. Pure, numpy alone.

In an audit the cohort is split anew each round (`strategies.groups`) and each group's noised sum is known. A sum's
length along a direction is the sum of its members', and noise of a known size: over the rounds a regression on who
was in which group says how far each member goes along. Two directions are looked at, because two kinds of poison
differ in theirs:

    now    where the mean update should point in this round: what it was, moved on by the model's step and the
           public curvature, and by the round's other groups. A member that sends its sum with the other sign goes
           back along it.
    first  where the job's first rounds led. A member with other labels pulls along it, or against it, for good, while
           the others' pulls end once the model fits them.

A member is named where both its distance from the others and its own pull are beyond noise, where the others differ
less among each other, and where nobody else looks nearly as bad. In mode `he` the server sees no sums, and there is no
audit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hansa.strategies.audit_direction import Direction, GroupSum, expected
from hansa.strategies.audit_regression import Contrasts, Regression

__all__ = [
    "AUDIT_SENTENCE",
    "FEWEST_ROUNDS",
    "MOST_ROUNDS",
    "QUARANTINED_FROM",
    "RULE",
    "Audit",
    "AuditRule",
    "Direction",
    "GroupSum",
    "MemberEvidence",
    "Verdict",
    "evidence",
    "verdict",
]

Array = NDArray[np.float64]
Kind = Literal["sign", "pull"]

# What the page says wherever an audit is mentioned.
AUDIT_SENTENCE = (
    "Where a charter has audit_groups the server sees in every round the sum of each group instead of the cohort's: "
    "the set that a member hides in "
    "shrinks to its group, of at least the charter's audit_groups members, and from groups that are split anew each "
    "round it learns more of each member than from as many ordinary rounds. What a member's own noise protects stays "
    "protected."
)

# Members are not alike: so much of a projection may be wrong without noise.
MISFIT = 0.15
# A variance above zero where there is no noise.
_TINY = 1e-300
# Fewest members of a cohort of which one is quarantined without a person; below that it is only suggested.
QUARANTINED_FROM = 8
# Rounds of an audit before anybody is named, and at most.
FEWEST_ROUNDS, MOST_ROUNDS = 8, 25


@dataclass(frozen=True)
class AuditRule:
    """When a member is named; one set of numbers for all audits.

    Parameters
    ----------
    contrast : standard errors between the member and the mean of the others
    own : standard errors of a reversed sign's own projection below zero, and `reversed` its least size, as a share
        of the others' mean
    others : standard errors of the others' mean above zero, for there to be a direction at all
    pull : least distance of a pull from the others' mean, as a share of the clip
    spread : and in standard deviations of what the others differ by beyond noise
    apart : and in times the others' own mean pull: members that pull the same way, each as far as its records make it,
        are no poison
    gap : standard errors between it and the next worst
    """

    contrast: float = 4.5
    own: float = 2.0
    reversed: float = 0.5
    others: float = 3.0
    pull: float = 0.08
    spread: float = 4.0
    apart: float = 2.0
    gap: float = 2.0


RULE = AuditRule()


@dataclass(frozen=True)
class Audit:
    """What the rounds of an audit say of each member.

    Parameters
    ----------
    members : all that were in a group
    clip : of one entity's gradient
    now, first : along either direction
    rounds : audited so far
    pulled, pulls : sum over so many of them of what a pull of 1 is, as a mean gradient
    """

    members: tuple[str, ...]
    clip: float
    now: Regression
    first: Regression
    rounds: int = 0
    pulled: float = 0.0
    pulls: int = 0

    @property
    def unit(self) -> float:
        """What a pull of 1 is on average, as a share of the clip."""
        return self.pulled / max(self.pulls, 1) / self.clip

    @classmethod
    def start(cls, members: Sequence[str], clip: float) -> Audit:
        """Before the first audited round."""
        empty = Regression.empty(len(members))
        return cls(tuple(members), clip, empty, empty)

    def plus(self, groups: Sequence[GroupSum], direction: Direction) -> Audit:
        """With one more round.

        Parameters
        ----------
        groups : at least two, of this round
        direction : from earlier rounds alone, at this round's model (`Direction.at`)
        """
        now, first = self.now, self.first
        ways = [expected(direction, [it for it in groups if it is not group]) for group in groups]
        # One for all groups: one of its own would be larger for a group the less its members bring, and blame them.
        far = math.fsum(it for _, it in ways) / max(len(ways), 1)
        for group, (along, _) in zip(groups, ways, strict=True):
            row = self._row(group)
            if far > 0:
                sd = math.hypot(group.noise, MISFIT * far * float(row.sum()), _TINY)
                now = now.plus(far * row, float(group.total @ along), sd)
        length = float(np.linalg.norm(direction.first))
        if length == 0:
            return replace(self, now=now, rounds=self.rounds + 1)
        # In units of how far groups go in this round, so that a model that is pulled to and fro counts as one at rest.
        pulls = np.array([float(group.total @ direction.first) / length for group in groups])
        noise = np.array([group.noise for group in groups])
        usual = math.sqrt(max(float((pulls**2 - noise**2).mean()), float(noise.mean()) ** 2, _TINY))
        size = float(np.mean([size for group in groups for size in group.sizes]))
        for group, pull in zip(groups, pulls, strict=True):
            sd = math.hypot(group.noise / usual, MISFIT)
            first = first.plus(self._row(group) / size, float(pull) / usual, sd)
        return replace(
            self,
            now=now,
            first=first,
            rounds=self.rounds + 1,
            pulled=self.pulled + usual / size,
            pulls=self.pulls + 1,
        )

    def _row(self, group: GroupSum) -> Array:
        row = np.zeros(len(self.members))
        for name, size in zip(group.members, group.sizes, strict=True):
            row[self.members.index(name)] = size
        return row

    def as_json(self) -> dict[str, Any]:
        """As JSON has it; some numbers a pair of members."""
        sums = {
            name: [it.matrix.tolist(), it.product.tolist(), it.square, it.rows]
            for name, it in (("now", self.now), ("first", self.first))
        }
        beside = {"clip": self.clip, "rounds": self.rounds, "pulled": self.pulled, "pulls": self.pulls}
        return {"version": 1, "members": list(self.members), **beside, **sums}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Audit:
        """What `as_json` wrote.

        Raises
        ------
        ValueError : the state is of another version
        """
        if state.get("version") != 1:
            raise ValueError(
                f"the audit's state is of version {state.get('version')}, not 1: begin a new audit"
            )
        now, first = (_regression(*state[name]) for name in ("now", "first"))
        beside = {name: state[name] for name in ("rounds", "pulled", "pulls")}
        return cls(tuple(state["members"]), state["clip"], now, first, **beside)


@dataclass(frozen=True)
class MemberEvidence:
    """What is known of one member.

    Parameters
    ----------
    along : how far it goes along the direction now, the others' mean being `others`; 1 is as far as was expected
    contrast : standard errors between the two
    pull : its mean gradient along the first direction less the others' mean, as a share of the clip
    pull_errors : the same in standard errors
    """

    member: str
    along: float
    others: float
    contrast: float
    pull: float
    pull_errors: float

    def as_numbers(self) -> dict[str, float]:
        """By name, for a record."""
        return {
            "along": self.along,
            "others": self.others,
            "contrast": self.contrast,
            "pull": self.pull,
            "pull_errors": self.pull_errors,
        }


@dataclass(frozen=True)
class Verdict:
    """The member that an audit names.

    Parameters
    ----------
    quarantine : whether it is held out; else a person is asked to look, because the cohort is small
    """

    member: str
    kind: Kind
    quarantine: bool
    evidence: MemberEvidence
    sentence: str


def evidence(audit: Audit) -> tuple[MemberEvidence, ...]:
    """What is known of every member, in the order of `audit.members`; empty while that is nothing."""
    now, first = Contrasts.of(audit.now), Contrasts.of(audit.first)
    if now is None and first is None:
        return ()
    return tuple(
        MemberEvidence(
            member=name,
            along=0.0 if now is None else float(now.own[place]),
            others=0.0 if now is None else float(now.others[place]),
            contrast=0.0 if now is None else float(-now.z[place]),
            pull=0.0 if first is None else float(first.own[place] - first.others[place]) * audit.unit,
            pull_errors=0.0 if first is None else float(first.z[place]),
        )
        for place, name in enumerate(audit.members)
    )


def verdict(audit: Audit, rule: AuditRule = RULE) -> Verdict | None:
    """The one member that pulls against all others beyond noise; None where there is none, or more than one."""
    if audit.rounds < FEWEST_ROUNDS:
        return None
    known = evidence(audit)
    named = {
        name: kind
        for name, kind in (
            (_reversed(audit, rule), "sign"),
            (_pulling(audit, rule), "pull"),
        )
        if name is not None
    }
    if len(named) != 1:
        return None
    name, kind = next(iter(named.items()))
    found = next(it for it in known if it.member == name)
    quarantine = len(audit.members) >= QUARANTINED_FROM
    return Verdict(name, kind, quarantine, found, _sentence(found, kind, audit, quarantine))  # type: ignore[arg-type]


def _regression(matrix: list[list[float]], product: list[float], square: float, rows: int) -> Regression:
    return Regression(np.array(matrix, dtype=np.float64), np.array(product, dtype=np.float64), square, rows)


def _reversed(audit: Audit, rule: AuditRule) -> str | None:
    """Who goes back along the direction now while all others go along."""
    found = Contrasts.of(audit.now)
    if found is None:
        return None
    order = np.argsort(found.own)
    worst, next_worst = int(order[0]), int(order[1])
    own, others = float(found.own[worst]), float(found.others[worst])
    holds = (
        -found.z[worst] >= rule.contrast
        and own <= -rule.reversed * others
        and own <= -rule.own * found.errors[worst]
        and others >= rule.others * found.others_errors[worst]
        and found.gap(next_worst, worst) >= rule.gap
    )
    return audit.members[worst] if holds else None


def _pulling(audit: Audit, rule: AuditRule) -> str | None:
    """Who pulls along the first direction, either way, where all others nearly agree."""
    found = Contrasts.of(audit.first)
    if found is None:
        return None
    middle = float(np.median(found.own))
    order = np.argsort(np.abs(found.own - middle))
    worst, next_worst = int(order[-1]), int(order[-2])
    rest = np.delete(found.own, worst)
    noise = np.delete(np.diag(found.covariance), worst)
    spread = math.sqrt(max(float(rest.var(ddof=1) - noise.mean()), 0.0))
    distance = abs(float(found.own[worst] - found.others[worst]))
    holds = (
        abs(found.z[worst]) >= rule.contrast
        and distance * audit.unit >= rule.pull
        and distance >= rule.spread * spread
        and distance >= rule.apart * abs(float(found.others[worst]))
        and abs(found.gap(worst, next_worst)) >= rule.gap
    )
    return audit.members[worst] if holds else None


def _sentence(found: MemberEvidence, kind: str, audit: Audit, quarantine: bool) -> str:
    if kind == "sign":
        what = (
            f"goes {abs(found.along):.2g} times as far as expected against the direction in which the others go "
            f"{found.others:.2g} times as far along, {found.contrast:.1f} standard errors apart"
        )
    else:
        what = (
            f"pulls the model by {abs(found.pull):.0%} of the clip away from where the others do, "
            f"{abs(found.pull_errors):.1f} standard errors, while they agree among each other"
        )
    after = (
        "it is held out until an operator releases it"
        if quarantine
        else f"with {len(audit.members)} members it is only suggested to look at it"
    )
    return f"{found.member} {what}, over {audit.rounds} audited rounds; {after}."
