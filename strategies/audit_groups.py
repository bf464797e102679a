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

Array = NDArray[np.float64]
Kind = Literal["sign", "pull"]

# What the page says wherever an audit is mentioned.
AUDIT_SENTENCE = (
    "During an audit the server sees the sum of each group instead of the cohort's: the set that a member hides in "
    "shrinks to its group, of at least the charter's audit_groups members, and the groups change from round to "
    "round, so that over an audit more can be inferred about a single member. What its own noise protects stays "
    "protected."
)

# Least share of a new mean update in the direction now, and of the change that the public curvature says a step brings.
GAIN, BELIEVED = 0.4, 0.5
# Rounds that say where a job set out to.
FIRST_ROUNDS = 3
# One update counts at most so many times the usual length, so that a single one does not turn the direction.
LONGEST = 3.0
# Members are not alike: so much of a projection may be wrong without noise.
MISFIT = 0.15
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
class GroupSum:
    """The opened sum of one group of an attempt.

    Parameters
    ----------
    members : its active members
    sizes : what each one's sum counts in the divisor, as `segments.divisor` has it
    total : sum of their updates, f64[d]
    noise : standard deviation of the noise on each coordinate
    """

    members: tuple[str, ...]
    sizes: tuple[float, ...]
    total: Array
    noise: float


@dataclass(frozen=True)
class Direction:
    """Where updates have pointed so far, from the job's first round on, audited or not; arrays are f64[d].

    Parameters
    ----------
    now, variance : what the next mean update is expected to be, and the variance of each coordinate by noise
    first : sum of the first mean updates, each cut to a usual length
    usual : length of mean updates, a running mean
    weights : the model that the newest update was made at
    """

    now: Array
    first: Array
    weights: Array
    variance: float = 0.0
    usual: float = 0.0
    rounds: int = 0

    @classmethod
    def start(cls, weights: Array) -> Direction:
        """Before the first update."""
        zeros = np.zeros_like(weights)
        return cls(zeros, zeros, weights)

    def at(self, weights: Array, curvature: float) -> Direction:
        """The direction at another model: every weight's derivative has moved by the curvature.

        Parameters
        ----------
        curvature : of the mean loss along a weight, public (`ServerRule.curvature`), 0 where it is not known
        """
        moved = self.now - BELIEVED * curvature * (weights - self.weights) if self.rounds else self.now
        return replace(self, now=moved, weights=weights)

    def after(self, mean_update: Array, noise: float) -> Direction:
        """With one more mean update, made at `weights`; `noise` is each coordinate's standard deviation."""
        length = float(np.linalg.norm(mean_update))
        usual = (
            length
            if self.rounds == 0
            else self.usual + 0.3 * (min(length, LONGEST * self.usual) - self.usual)
        )
        most = LONGEST * (self.usual if self.rounds else length)
        cut = mean_update if length <= most else mean_update * (most / length)
        gain = _gain(cut - self.now, noise) if self.rounds else 1.0
        return Direction(
            now=self.now + gain * (cut - self.now),
            first=self.first + cut if self.rounds < FIRST_ROUNDS else self.first,
            weights=self.weights,
            variance=(1.0 - gain) ** 2 * self.variance + (gain * noise) ** 2,
            usual=usual,
            rounds=self.rounds + 1,
        )


def _gain(surprise: Array, noise: float) -> float:
    """How much of a surprise is believed: what noise does not explain of it, or more."""
    energy = float(surprise @ surprise)
    return max(GAIN, 1.0 - surprise.size * noise**2 / energy) if energy > 0 else GAIN


@dataclass(frozen=True)
class Regression:
    """Weighted least squares of projections on who was in the group: X'X [m, m], X'y [m], y'y in units of the noise.

    What members do changes from round to round, and by more than the noise: residuals that are larger than it widen
    the errors as much.
    """

    matrix: Array
    product: Array
    square: float = 0.0
    rows: int = 0

    @classmethod
    def empty(cls, members: int) -> Regression:
        return cls(np.zeros((members, members)), np.zeros(members))

    def plus(self, row: Array, value: float, sd: float) -> Regression:
        """With one more projection."""
        row, value = row / sd, value / sd
        return Regression(
            self.matrix + np.outer(row, row),
            self.product + row * value,
            self.square + value**2,
            self.rows + 1,
        )

    def solved(self) -> tuple[Array, Array] | None:
        """Estimates and their covariance; None while the groups do not tell all members apart."""
        freedom = self.rows - len(self.product)
        if freedom < _FREEDOM or not self.matrix.any() or np.linalg.cond(self.matrix) > _CONDITION:
            return None
        covariance = np.asarray(np.linalg.inv(self.matrix), dtype=np.float64)
        estimates = covariance @ self.product
        residual = max(self.square - float(self.product @ estimates), 0.0) / freedom
        return estimates, covariance * max(1.0, residual)


# Projections beyond the number of members before their residuals say anything; and how nearly alike groups may be.
_FREEDOM, _CONDITION = 4, 1e6


@dataclass(frozen=True)
class Audit:
    """What the rounds of an audit say of each member.

    Parameters
    ----------
    members : all that were in a group
    clip : of one entity's gradient
    now, first : along either direction
    rounds : audited so far
    """

    members: tuple[str, ...]
    clip: float
    now: Regression
    first: Regression
    rounds: int = 0

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
        ways = [_expected(direction, [it for it in groups if it is not group]) for group in groups]
        # One for all groups: one of its own would be larger for a group the less its members bring, and blame them.
        expected = math.fsum(far for _, far in ways) / max(len(ways), 1)
        length = float(np.linalg.norm(direction.first))
        for group, (along, _) in zip(groups, ways, strict=True):
            row = self._row(group)
            if expected > 0:
                sd = math.hypot(group.noise, MISFIT * expected * float(row.sum()), _TINY)
                now = now.plus(expected * row, float(group.total @ along), sd)
            if length > 0:
                sd = math.hypot(group.noise, MISFIT * PULL_UNIT * self.clip * float(row.sum()), _TINY)
                first = first.plus(row, float(group.total @ direction.first) / length, sd)
        return replace(self, now=now, first=first, rounds=self.rounds + 1)

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
        return {"version": 1, "members": list(self.members), "clip": self.clip, "rounds": self.rounds, **sums}

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
        return cls(tuple(state["members"]), state["clip"], now, first, state["rounds"])


_TINY = 1e-300
# Misfit along the first direction, as a share of the clip: members' pulls end up that far apart without any poison.
PULL_UNIT = 0.05


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
    now, first = _Contrasts.of(audit.now), _Contrasts.of(audit.first)
    if now is None and first is None:
        return ()
    return tuple(
        MemberEvidence(
            member=name,
            along=0.0 if now is None else float(now.own[place]),
            others=0.0 if now is None else float(now.others[place]),
            contrast=0.0 if now is None else float(-now.z[place]),
            pull=0.0 if first is None else float(first.own[place] - first.others[place]) / audit.clip,
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


@dataclass(frozen=True)
class _Contrasts:
    """Of every member: its estimate, the mean of the others', the standard errors between them; each f64[m]."""

    own: Array
    errors: Array
    others: Array
    others_errors: Array
    z: Array
    covariance: Array

    @classmethod
    def of(cls, regression: Regression) -> _Contrasts | None:
        solved = regression.solved()
        if solved is None:
            return None
        own, covariance = solved
        count = len(own)
        away = np.full((count, count), -1.0 / (count - 1))
        np.fill_diagonal(away, 1.0)
        mean = np.full((count, count), 1.0 / (count - 1))
        np.fill_diagonal(mean, 0.0)
        return cls(
            own=own,
            errors=_deviations(np.eye(count), covariance),
            others=mean @ own,
            others_errors=_deviations(mean, covariance),
            z=(away @ own) / _deviations(away, covariance),
            covariance=covariance,
        )

    def gap(self, one: int, other: int) -> float:
        """Standard errors between two members."""
        pair = np.zeros(len(self.own))
        pair[one], pair[other] = 1.0, -1.0
        return float(pair @ self.own) / float(_deviations(pair[None], self.covariance)[0])


def _regression(matrix: list[list[float]], product: list[float], square: float, rows: int) -> Regression:
    return Regression(np.array(matrix, dtype=np.float64), np.array(product, dtype=np.float64), square, rows)


def _deviations(rows: Array, covariance: Array) -> Array:
    found: Array = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", rows, covariance, rows), 1e-300))
    return found


def _reversed(audit: Audit, rule: AuditRule) -> str | None:
    """Who goes back along the direction now while all others go along."""
    found = _Contrasts.of(audit.now)
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
    found = _Contrasts.of(audit.first)
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
        and distance >= rule.pull * audit.clip
        and distance >= rule.spread * spread
        and distance >= rule.apart * abs(float(found.others[worst]))
        and abs(found.gap(worst, next_worst)) >= rule.gap
    )
    return audit.members[worst] if holds else None


def _expected(direction: Direction, others: Sequence[GroupSum]) -> tuple[Array, float]:
    """The direction now with what the round's other groups say, f64[d] of length 1, and how far one record goes."""
    size = math.fsum(size for it in others for size in it.sizes)
    mean, variance = direction.now, direction.variance
    if size > 0:
        seen = np.sum([it.total for it in others], axis=0) / size
        noise = math.sqrt(math.fsum(it.noise**2 for it in others)) / size
        gain = _gain(seen - mean, noise) if direction.rounds else 1.0
        mean = mean + gain * (seen - mean)
        variance = (1.0 - gain) ** 2 * variance + (gain * noise) ** 2
    length = float(np.linalg.norm(mean))
    if length == 0:
        return mean, 0.0
    return mean / length, max(length**2 - variance * mean.size, 0.0) / length


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
