"""What a ledger's rows add up to: data sets, grants and jobs as they stand.

Sums are exact (fractions of doubles): they depend neither on the order of the charges nor on rounding.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction

from hansa.contract.errors import InputError
from hansa.contract.messages import GrantState, Seen
from hansa.privacy.records import (
    AnyBody,
    ApprovalRow,
    ChargeKey,
    ChargeRow,
    DataSetRow,
    FinishRow,
    ForgetRow,
    FreezeRow,
    GrantRow,
    Part,
    RecoveryRow,
    SidesRow,
    UnfreezeRow,
)

# Unfinished attempts that a job may have, and how many more for each finished one (PROTOCOL section 7).
FREE_UNFINISHED = 3
UNFINISHED_PER_FINISHED = Fraction(1, 5)
DAY = timedelta(days=1)


@dataclass
class Sums:
    """What was taken of records for training and of records held out; within one job no person is in both."""

    training: Fraction = Fraction(0)
    holdout: Fraction = Fraction(0)

    def add(self, part: Part, amount: float) -> None:
        """Take so much more of one part."""
        setattr(self, part, getattr(self, part) + Fraction(amount))

    def of(self, part: Part) -> Fraction:
        """The sum of one part."""
        return self.training if part == "training" else self.holdout

    @property
    def larger(self) -> Fraction:
        """No entity lost more than this, while nobody changes sides."""
        return max(self.training, self.holdout)

    @property
    def both(self) -> Fraction:
        """No entity lost more than this, whoever changed sides."""
        return self.training + self.holdout


@dataclass
class DataSetAccount:
    """A data set: its cap in its currency, the people of every version, and by what they were put on sides."""

    row: DataSetRow
    people: list[tuple[str, ...]]
    sides: list[SidesRow] = field(default_factory=list)
    # Somebody may have been in both parts: what they lost is added up.
    together: bool = False

    def take_sides(self, row: SidesRow) -> None:
        """From here on these decide; the first ones leave everybody where they are."""
        self.together = self.together or bool(self.sides)
        self.sides.append(row)

    def counted(self, sums: Sums) -> Fraction:
        """What no entity of this data set lost more than."""
        return sums.both if self.together else sums.larger

    def against(self, sums: Sums, part: Part) -> Fraction:
        """What a further charge of one part comes on top of."""
        return sums.both if self.together else sums.of(part)


@dataclass
class GrantAccount:
    """A grant: its amount in the data set's currency, and what was taken of it."""

    row: GrantRow
    data_set: DataSetAccount
    frozen: str = ""
    sums: Sums = field(default_factory=Sums)

    @property
    def amount(self) -> float:
        """What was granted, in the data set's currency."""
        return self.row.amount

    @property
    def counted(self) -> Fraction:
        """What no entity lost more than: the larger of the two sums, or both where somebody may have changed sides."""
        return self.data_set.counted(self.sums)

    @property
    def spent(self) -> float:
        """`counted` as a double."""
        return float(self.counted)

    @property
    def remaining(self) -> float:
        """What may still be taken of either part; rounded down to a double."""
        left = Fraction(self.amount) - self.counted
        return (
            max(0.0, float(left)) if Fraction(float(left)) <= left else max(0.0, float(left) * (1 - 2**-52))
        )

    @property
    def percent_left(self) -> float:
        """Of the grant's amount, in its currency."""
        return 100.0 * self.remaining / self.amount

    def expired(self, now: datetime) -> bool:
        """Whether nothing can be charged at `now` any more."""
        return now >= self.row.expires

    def counts(self, now: datetime) -> Fraction:
        """What of the data set's cap it takes: all of it, and when it has expired what was spent."""
        return self.counted if self.expired(now) else max(Fraction(self.amount), self.counted)


@dataclass
class JobAccount:
    """A job: its newest approval, what it took, and its attempts since that approval."""

    approval: ApprovalRow | None = None
    sums: Sums = field(default_factory=Sums)
    charges: int = 0
    charged: set[int] = field(default_factory=set)
    finished: set[int] = field(default_factory=set)
    # Attempts since the newest approval; the ones before it are forgiven.
    recent: set[int] = field(default_factory=set)

    def approve(self, approval: ApprovalRow) -> None:
        """A new word of the organisation: unfinished attempts are counted from here on."""
        self.approval = approval
        self.recent = set()

    def charge(self, row: ChargeRow) -> None:
        """One more charge."""
        self.sums.add(row.part, row.amount)
        self.charges += 1
        self.charged.add(row.attempt)
        if not row.recovered:
            self.recent.add(row.attempt)

    @property
    def unfinished(self) -> int:
        """Attempts since the approval that were charged and not seen to finish."""
        return len(self.recent - self.finished)

    @property
    def may_be_unfinished(self) -> int:
        """3 + 0.2 for each attempt that finished."""
        return int(FREE_UNFINISHED + UNFINISHED_PER_FINISHED * len(self.recent & self.finished))


def rounded_up(exact: Fraction) -> float:
    """The smallest double that is not below an exact sum, as receipts carry it."""
    nearest = float(exact)
    return nearest if Fraction(nearest) >= exact else math.nextafter(nearest, math.inf)


def closed_grant(state: GrantState, at: datetime) -> GrantRow:
    """A grant that is known from a receipt alone: expired, so that only what was spent of it counts.

    Raises
    ------
    ValueError : its epsilon or delta are none that a grant can have
    """
    return GrantRow(
        grant=state.grant,
        data_set=state.data_set,
        epsilon=state.epsilon,
        delta=state.delta,
        amount=state.amount,
        expires=at,
        purpose="",
        legal_basis="",
        granted_by="not known any more",
        reason="known from a receipt alone: the row that made it was lost",
    )


def parts(state: GrantState) -> dict[Part, Fraction]:
    """What a receipt says was taken of a grant."""
    return {"training": Fraction(state.training), "holdout": Fraction(state.holdout)}


@dataclass
class Accounts:
    """All that a ledger's rows add up to."""

    data_sets: dict[str, DataSetAccount] = field(default_factory=dict)
    grants: dict[str, GrantAccount] = field(default_factory=dict)
    jobs: dict[str, JobAccount] = field(default_factory=dict)
    charges: dict[ChargeKey, ChargeRow] = field(default_factory=dict)
    # Times of the charges of the last day.
    day: deque[datetime] = field(default_factory=deque)
    # Numbers of the charges that were made here, not recovered.
    numbers: dict[ChargeKey, int] = field(default_factory=dict)
    # What a recovery is still to charge, by grant and part; empty but between its rows.
    owed: dict[tuple[str, Part], Fraction] = field(default_factory=dict)
    # The newest row on entities that are computed on no more.
    forgotten: ForgetRow | None = None

    def take(self, body: AnyBody, at: datetime, sequence: int) -> None:
        """Add what a row says; that it may say so was checked."""
        match body:
            case DataSetRow():
                known = self.data_sets.get(body.name)
                if known is None:
                    self.data_sets[body.name] = DataSetAccount(row=body, people=[body.people])
                else:
                    known.people.append(body.people)
            case SidesRow():
                self.data_sets[body.data_set].take_sides(body)
            case GrantRow():
                self.grants[body.grant] = GrantAccount(row=body, data_set=self.data_sets[body.data_set])
            case FreezeRow():
                self.grants[body.grant].frozen = body.reason or "no reason given"
            case UnfreezeRow():
                self.grants[body.grant].frozen = ""
            case ApprovalRow():
                self.jobs.setdefault(body.job, JobAccount()).approve(body)
            case ChargeRow():
                self.charges[body.key] = body
                self.grants[body.grant].sums.add(body.part, body.amount)
                self.jobs.setdefault(body.job, JobAccount()).charge(body)
                if body.recovered:
                    self.owed.pop((body.grant, body.part), None)
                else:
                    self.day.append(at)
                    self.numbers[body.key] = sequence
                while self.day and self.day[0] <= at - DAY:
                    self.day.popleft()
            case FinishRow():
                self.jobs[body.job].finished.add(body.attempt)
            case ForgetRow():
                self.forgotten = body
            case RecoveryRow():
                self.owed = self.missing(body.lost)
                for state in body.lost.receipt.grants:
                    data_set = self.data_sets[state.data_set]
                    # The rows that said so were lost.
                    data_set.together = data_set.together or state.together
                    if state.grant not in self.grants:
                        self.grants[state.grant] = GrantAccount(
                            row=closed_grant(state, at), data_set=data_set
                        )

    def missing(self, seen: Seen) -> dict[tuple[str, Part], Fraction]:
        """What a receipt says was taken and these accounts do not have, by grant and part.

        Charges in rows from the receipt's number on are none that it can hold. Those in earlier rows are
        taken to be the ones it holds: between a backup's last row and the first witnesses, who show the
        receipt, an agent charges nothing. What was recovered before counts as held.
        """
        if seen.receipt.head is None:
            return {}
        later: dict[tuple[str, Part], Fraction] = {}
        for key, number in self.numbers.items():
            if number >= seen.receipt.head.sequence:
                row = self.charges[key]
                of = (row.grant, row.part)
                later[of] = later.get(of, Fraction(0)) + Fraction(row.amount)
        found = {}
        for state in seen.receipt.grants:
            for part, spent in parts(state).items():
                known = self.grants[state.grant].sums.of(part) if state.grant in self.grants else Fraction(0)
                known -= later.get((state.grant, part), Fraction(0))
                # A receipt's sums are rounded up.
                if spent > Fraction(rounded_up(known)):
                    found[state.grant, part] = spent - known
        return found

    def granted(self, data_set: str, now: datetime) -> Fraction:
        """What of a data set's cap is taken by its grants: live ones whole, expired ones as far as they were spent."""
        grants = [grant for grant in self.grants.values() if grant.row.data_set == data_set]
        return sum((grant.counts(now) for grant in grants), Fraction(0))

    def grant(self, name: str) -> GrantAccount:
        """The grant of that name.

        Raises
        ------
        InputError : there is none
        """
        if name not in self.grants:
            raise InputError(f"there is no grant '{name}'")
        return self.grants[name]
