"""Who pulls against the others: sums of random groups beside each other. Pure, numpy alone.

In an audit the cohort is split anew each round (`strategies.groups`) and each group's noised sum is known. What groups
of one round differ by tells over the rounds who differs from the others (`audit_contrasts`). Two kinds of poison differ
in two ways:

    now    along the direction in which the round's mean update points. A member that sends its sum with the other sign
           goes back along it.
    pull   by about the same in each round, along where the job's first rounds led, or, where it is plain, anywhere. A
           member with other labels pulls for good, while the others' pulls end once the model fits them.

A member is named where what it does is beyond noise, where the others differ less among each other, and where nobody
else explains the sums nearly as well. In mode `he` the server sees no sums, and there is no audit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hansa.strategies.audit_contrasts import Alone, Contrasts
from hansa.strategies.audit_direction import MOST_COORDINATES, Direction, GroupSum, folded
from hansa.strategies.audit_likelihood import KINDS, Likelihoods, Sums

__all__ = [
    "AUDIT_SENTENCE",
    "FEWEST_ROUNDS",
    "MOST_COORDINATES",
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

# Fewest members of a cohort of which one is quarantined without a person; below that it is only suggested.
QUARANTINED_FROM = 8
# Rounds of an audit before anybody is named, and at most.
FEWEST_ROUNDS, MOST_ROUNDS = 8, 25


@dataclass(frozen=True)
class AuditRule:
    """When a member is named; one set of numbers for all audits.

    Parameters
    ----------
    sign : standard errors of a reversed sign's own way
    own : standard errors of where it goes below zero, and `reversed` the least size of that, as a share of the others'
    sign_spread : least distance in standard deviations of what the others differ by beyond noise
    first : standard errors of a pull along the first direction
    pull : normal score of what a pull in any direction explains
    length : least length of either, as a share of the clip
    pull_spread : as `sign_spread`
    gap : how much better it explains the sums than the next member, root of twice the log-likelihood's ratio
    likely : logarithm of how much likelier the sums are where it is poisoned than where nobody is, at an audit's end
    likelier : of how much likelier than where any other is, or than where two are
    """

    sign: float = 4.5
    own: float = 2.0
    reversed: float = 0.5
    sign_spread: float = 3.0
    first: float = 4.5
    pull: float = 6.0
    length: float = 0.08
    pull_spread: float = 4.0
    gap: float = 3.0
    likely: float = 6.0
    likelier: float = 3.0


RULE = AuditRule()


@dataclass(frozen=True)
class Audit:
    """What the rounds of an audit say of each member.

    Parameters
    ----------
    members : all that were in a group
    clip : of one entity's gradient
    now : along the direction of each round, in units of how far a record goes along it
    first : along where the job's first rounds led
    pull : in all coordinates, or in `MOST_COORDINATES`
    sums : of all rounds, audited or not
    fold : how many times longer a pull is than it looks in those coordinates
    curvature : as `Direction` has it
    rounds : audited so far
    """

    members: tuple[str, ...]
    clip: float
    now: Contrasts
    first: Contrasts
    pull: Contrasts
    sums: Sums
    fold: float = 1.0
    curvature: float = 0.0
    rounds: int = 0

    @classmethod
    def start(cls, members: Sequence[str], clip: float, coordinates: int) -> Audit:
        """Before the first audited round.

        Parameters
        ----------
        coordinates : of a sum
        """
        count = len(members)
        kept = min(coordinates, MOST_COORDINATES)
        line = Contrasts.empty(count, 1)
        return cls(
            tuple(members),
            clip,
            line,
            line,
            Contrasts.empty(count, kept),
            Sums.empty(count, kept),
            math.sqrt(coordinates / kept),
        )

    def plus(self, groups: Sequence[GroupSum], direction: Direction) -> Audit:
        """With one more round.

        Parameters
        ----------
        groups : at least two, of this round
        direction : from earlier rounds alone, at this round's model (`Direction.at`)
        """
        rows, noise = np.array([self._row(it) for it in groups]), np.array([it.noise for it in groups])
        sums = np.array([it.total for it in groups])
        size = float(rows.sum())
        seen = direction.after(sums.sum(axis=0) / size, float(np.linalg.norm(noise)) / size)
        way, far = seen.expected()
        now = self.now.plus(far * rows, (sums @ way)[:, None], noise) if far > 0 else self.now
        length = float(np.linalg.norm(seen.first))
        first = self.first
        if length > 0:
            first = first.plus(rows, (sums @ (seen.first / length))[:, None], noise)
        pull = self.pull.plus(rows, folded(sums), noise)
        before = self.sums if self.rounds else _before(self.sums, rows.sum(axis=0), direction)
        return replace(
            self,
            now=now,
            first=first,
            pull=pull,
            sums=before.plus(rows, folded(sums), direction.way, noise),
            curvature=direction.curvature,
            rounds=self.rounds + 1,
        )

    def _row(self, group: GroupSum) -> Array:
        row = np.zeros(len(self.members))
        for name, size in zip(group.members, group.sizes, strict=True):
            row[self.members.index(name)] = size
        return row

    def as_json(self) -> dict[str, Any]:
        """As JSON has it; some numbers a pair of members, and as many as coordinates a member."""
        sums = {
            name: [it.matrix.tolist(), it.product.tolist(), it.square, it.rows]
            for name, it in (("now", self.now), ("first", self.first), ("pull", self.pull))
        }
        likelihood = [getattr(self.sums, it.name).tolist() for it in fields(Sums)]
        return {
            "version": 3,
            "members": list(self.members),
            "clip": self.clip,
            "fold": self.fold,
            "curvature": self.curvature,
            "rounds": self.rounds,
            "sums": likelihood,
            **sums,
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Audit:
        """What `as_json` wrote.

        Raises
        ------
        ValueError : the state is of another version
        """
        if state.get("version") != 3:
            raise ValueError(
                f"the audit's state is of version {state.get('version')}, not 3: begin a new audit"
            )
        now, first, pull = (_contrasts(*state[name]) for name in ("now", "first", "pull"))
        rows, totals, ways, noise, numbers = (np.array(it, dtype=np.float64) for it in state["sums"])
        count, kept = pull.product.shape
        sums = Sums(rows.reshape(-1, count), totals.reshape(-1, kept), ways.reshape(-1, kept), noise, numbers)
        counted = (state[name] for name in ("fold", "curvature", "rounds"))
        return cls(tuple(state["members"]), state["clip"], now, first, pull, sums, *counted)


@dataclass(frozen=True)
class MemberEvidence:
    """What is known of one member, as if it alone differed from the others.

    Parameters
    ----------
    along : how far it goes along the direction of the rounds, the others going `others`; 1 is as far as the mean goes
    contrast : standard errors between the two
    pull : how much its mean gradient differs for good, as a share of the clip, along the first direction or, where
        that is plainer, in any
    pull_errors : the normal score of that
    likelihood : logarithm of how much likelier all sums are where it is poisoned than where nobody is; of the member
        that is named by it, else 0
    """

    member: str
    along: float
    others: float
    contrast: float
    pull: float
    pull_errors: float
    likelihood: float = 0.0

    def as_numbers(self) -> dict[str, float]:
        """By name, for a record."""
        return {
            "along": self.along,
            "others": self.others,
            "contrast": self.contrast,
            "pull": self.pull,
            "pull_errors": self.pull_errors,
            "likelihood": self.likelihood,
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
    """What is known of every member, in the order of `audit.members`; empty before the first round."""
    if not audit.pull.rows:
        return ()
    now, first, pull = audit.now.alone(), audit.first.alone(), audit.pull.alone()
    found = []
    for place, name in enumerate(audit.members):
        along, others = _ways(now, place)
        contrast = -now.errors_of(place)
        score, way = max(
            (abs(first.errors_of(place)), first), (pull.score(place), pull), key=lambda it: it[0]
        )
        found.append(MemberEvidence(name, along, others, contrast, way.size(place) / audit.clip, score))
    return tuple(found)


def verdict(audit: Audit, rule: AuditRule = RULE, *, last: bool = False) -> Verdict | None:
    """The one member that pulls against all others beyond noise; None where there is none, or more than one.

    Parameters
    ----------
    last : whether no round of the audit follows: likelihoods are looked at once, as each look may name a wrong one
    """
    if audit.rounds < FEWEST_ROUNDS:
        return None
    likely = _likely(audit, rule) if last else None
    kinds: tuple[tuple[Kind, int | None], ...] = (
        (likely.kind, likely.place) if likely else ("sign", _reversed(audit, rule)),
        ("pull", _pulling(audit.first, audit.clip, rule)),
        ("pull", _pulling(audit.pull, audit.clip / audit.fold, rule)),
    )
    named = [(kind, place) for kind, place in kinds if place is not None]
    if len({place for _, place in named}) != 1:
        return None
    kind, place = named[0]
    found = evidence(audit)[place]
    if likely:
        found = replace(found, likelihood=likely.ratio)
    quarantine = len(audit.members) >= QUARANTINED_FROM
    by_likelihood = len(named) == 1 and likely is not None
    return Verdict(
        found.member, kind, quarantine, found, _sentence(found, kind, audit, quarantine, by_likelihood)
    )


class _Likely(NamedTuple):
    """Whom the sums name, how, and the logarithm of the likelihood's ratio."""

    kind: Kind
    place: int
    ratio: float


def _likely(audit: Audit, rule: AuditRule) -> _Likely | None:
    """With whom the sums are far likelier than with nobody, with anybody else, or with anybody else as well."""
    count = len(audit.members)
    likelihoods = Likelihoods(
        audit.sums, (audit.clip / audit.fold) ** 2 / audit.pull.product.shape[1], audit.curvature
    )
    ratios = likelihoods.ratios([(kind, (place,)) for kind in KINDS for place in range(count)]).reshape(
        -1, count
    )
    best = ratios.max(axis=0)
    place = int(best.argmax())
    others = [it for it in range(count) if it != place]
    if best[place] < rule.likely or not others or best[place] - best[others].max() < rule.likelier:
        return None
    # A gradient that stays as it was looks alike with its sign turned and with other labels.
    kind = next(
        (it for it in KINDS if ratios[KINDS.index(it), place] >= best[place] - rule.likelier), KINDS[0]
    )
    if likelihoods.ratios([(kind, (place, it)) for it in others]).max() - best[place] >= rule.likelier:
        return None
    own, among = _ways(audit.now.alone(), place)
    if kind == "sign" and own > -rule.reversed * among:
        return None
    return _Likely("sign" if kind == "sign" else "pull", place, float(best[place]))


def _before(sums: Sums, sizes: Array, direction: Direction) -> Sums:
    """The cohort's sums of the rounds before an audit, taken for those of the members that it is about."""
    trail, size = direction.trail, float(sizes.sum())
    for mean, noise, way in zip(trail.means, trail.noise, trail.ways, strict=True):
        sums = sums.plus(sizes[None], size * mean[None], way, np.array([size * noise]))
    return sums


def _contrasts(matrix: list[list[float]], product: list[list[float]], square: float, rows: int) -> Contrasts:
    return Contrasts(np.array(matrix, dtype=np.float64), np.array(product, dtype=np.float64), square, rows)


def _ways(now: Alone, place: int) -> tuple[float, float]:
    """How far a member goes along the direction, and the others do, 1 being the mean of all."""
    by = float(now.by[place, 0])
    others = 1.0 - by / len(now.by)
    return others + by, others


def _reversed(audit: Audit, rule: AuditRule) -> int | None:
    """Who goes back along the direction while all others go along."""
    found = audit.now.alone()
    explained = np.where(found.by[:, 0] < 0, found.explained, 0.0)
    worst, next_worst = (int(it) for it in np.argsort(-explained)[:2])
    apart = audit.now.apart(worst)
    if apart is None or explained[worst] == 0.0:
        return None
    distance, spread = apart
    own, others = _ways(found, worst)
    holds = (
        explained[worst] >= rule.sign**2
        and own <= -rule.reversed * others
        and own <= -rule.own * found.errors[worst]
        and distance > rule.sign_spread**2 * spread
        and explained[worst] - explained[next_worst] >= rule.gap**2
    )
    return worst if holds else None


def _pulling(contrasts: Contrasts, clip: float, rule: AuditRule) -> int | None:
    """Who pulls for good where all others nearly agree."""
    found = contrasts.alone()
    worst, next_worst = (int(it) for it in np.argsort(-found.explained)[:2])
    apart = contrasts.apart(worst)
    if apart is None:
        return None
    distance, spread = apart
    line = found.by.shape[1] == 1
    holds = (
        (abs(found.errors_of(worst)) >= rule.first if line else found.score(worst) >= rule.pull)
        and found.size(worst) >= rule.length * clip
        and distance > rule.pull_spread**2 * spread
        and found.explained[worst] - found.explained[next_worst] >= rule.gap**2
    )
    return worst if holds else None


def _sentence(found: MemberEvidence, kind: Kind, audit: Audit, quarantine: bool, by_likelihood: bool) -> str:
    if by_likelihood:
        how = "goes back against the others" if kind == "sign" else "has other labels than the others"
        what = f"{how}: so the groups' sums are e^{found.likelihood:.1f} times likelier than if nobody did"
    elif kind == "sign":
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
