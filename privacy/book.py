"""A ledger's state as a pure function of its rows, and who may be charged what (DESIGN section 6).

Whoever owns the file asks for rows (`admit`, `entry`), writes them durably and only then applies them:

    rows = book.admit(charges, now=now, limits=charter.privacy)
    file.append(rows)  # fsync
    for row in rows:
        book.apply(row)

Asking changes nothing, so a crash before the write leaves no trace, and one after it is found by replay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from hansa.contract.errors import HansaError, InputError, RefusalError
from hansa.contract.messages import Head, Seen
from hansa.privacy.accounts import Accounts, DataSetAccount, GrantAccount, JobAccount
from hansa.privacy.laws import Limits, check, check_charge, check_limits, refuse
from hansa.privacy.records import (
    FIRST,
    AnyBody,
    Charge,
    ChargeKey,
    ChargeRow,
    ForgetRow,
    Part,
    Purpose,
    RecoveryRow,
    Row,
    following,
    link,
)


class LedgerError(HansaError):
    """A ledger that cannot be: the message names the first row that is wrong.

    Parameters
    ----------
    sequence : number of that row
    """

    def __init__(self, sequence: int, sentence: str) -> None:
        super().__init__(f"the ledger is damaged at row {sequence}: {sentence}")
        self.sequence = sequence
        self.sentence = sentence


class Book:
    """What an organisation's ledger adds up to.

    Parameters
    ----------
    rows : all rows from the first on

    Raises
    ------
    LedgerError : a row that does not follow from the ones before
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._head = Head(sequence=0, hash=FIRST)
        self._newest: datetime | None = None
        self._hashes: dict[int, str] = {}
        self._recovered = 0
        self._accounts = Accounts()
        for row in rows:
            self.apply(row)

    @property
    def head(self) -> Head:
        """The newest row: sequence number and hash; 0 and zeros of an empty ledger."""
        return self._head

    @property
    def newest(self) -> datetime | None:
        """When the newest row was written."""
        return self._newest

    @property
    def data_sets(self) -> Mapping[str, DataSetAccount]:
        """By name; to be read only."""
        return MappingProxyType(self._accounts.data_sets)

    @property
    def grants(self) -> Mapping[str, GrantAccount]:
        """By name; to be read only."""
        return MappingProxyType(self._accounts.grants)

    @property
    def jobs(self) -> Mapping[str, JobAccount]:
        """By id; to be read only."""
        return MappingProxyType(self._accounts.jobs)

    @property
    def charges(self) -> Mapping[ChargeKey, ChargeRow]:
        """All charges in their order; to be read only."""
        return MappingProxyType(self._accounts.charges)

    @property
    def forgotten(self) -> ForgetRow | None:
        """The newest row on entities that are computed on no more; None where there is none."""
        return self._accounts.forgotten

    @property
    def recovering(self) -> bool:
        """Whether the newest row is a recovery whose charges do not stand behind it yet."""
        return bool(self._accounts.owed)

    def knows(self, head: Head) -> bool:
        """Whether a row of that number and hash is here."""
        return self._hashes.get(head.sequence) == head.hash

    def charges_of(self, job: str, attempt: int) -> tuple[ChargeRow, ...]:
        """What an attempt was charged."""
        return tuple(
            row for row in self._accounts.charges.values() if (row.job, row.attempt) == (job, attempt)
        )

    def behind(self, seen: Seen) -> bool:
        """Whether a receipt of this organisation's own shows that rows of this ledger were lost.

        A later head than this one's does, and another hash for a number; not what a recovery made up for.
        """
        lost = seen.receipt.head
        if lost is None or self._hashes.get(lost.sequence) == lost.hash:
            return False
        return lost.sequence >= self._recovered or bool(self._accounts.missing(seen))

    def recover(self, seen: Seen, *, by: str, reason: str, now: datetime) -> tuple[Row, ...]:
        """The rows that make up for what a receipt shows was lost; to be written all or none.

        Parameters
        ----------
        seen : a receipt with this organisation's valid signature

        Raises
        ------
        InputError : nothing was lost by its word, or it cannot be made up for; the sentence says why
        """
        self._check_clock(now)
        if not self.behind(seen):
            raise InputError("the ledger has all that was shown to it; there is nothing to recover")
        body = RecoveryRow(lost=seen, by=by, reason=reason)
        check(self._accounts, body, now)
        rows = [link(self._head, now, body)]
        states = {state.grant: state for state in seen.receipt.grants}
        for (grant, part), amount in self._accounts.missing(seen).items():
            currency = self._accounts.data_sets[states[grant].data_set].row.currency
            lump = ChargeRow(
                grant=grant,
                job=seen.job,
                attempt=self._free_attempt(grant, seen, part),
                purpose="evaluate" if part == "holdout" else "train",
                part=part,
                events=(event := currency.at_least(amount),),
                amount=currency.cost(event),
                recovered=True,
            )
            rows.append(link(rows[-1].head, now, lump))
        return tuple(rows)

    def entry(self, body: AnyBody, now: datetime) -> Row:
        """The row that records a decision of the organisation, or a finished attempt.

        Raises
        ------
        InputError : a law forbids it; the sentence says which
        """
        self._check_clock(now)
        if isinstance(body, ChargeRow | RecoveryRow):
            raise ValueError("charges come from `admit`, or with what they make up for from `recover`")
        try:
            check(self._accounts, body, now)
        except RefusalError as error:
            raise InputError(error.sentence) from None
        return link(self._head, now, body)

    def admit(self, charges: Sequence[Charge], *, now: datetime, limits: Limits) -> tuple[Row, ...]:
        """The rows that pay for one attempt: for all of its charges or, by the exception, for none.

        Raises
        ------
        RefusalError : `not-approved`, `data-not-granted`, `grant-frozen`, `grant-expired`, `wrong-currency`,
            `budget-exhausted`, `attempt-limit`, `attempt-lost` (it was charged before), or `agent-unavailable`
            (this machine's clock went back)
        """
        if len({(charge.job, charge.attempt) for charge in charges}) != 1:
            raise ValueError("charges are admitted for one attempt at a time")
        try:
            self._check_clock(now)
        except InputError as error:
            raise RefusalError("agent-unavailable", str(error)) from None
        rows: list[ChargeRow] = []
        for charge in charges:
            row = self._price(charge)
            check_charge(self._accounts, row, now, rows)
            rows.append(row)
        check_limits(self._accounts, rows, now, limits)
        linked: list[Row] = []
        for row in rows:
            linked.append(link(linked[-1].head if linked else self._head, now, row))
        return tuple(linked)

    def apply(self, row: Row) -> None:
        """Take a row that was written.

        Raises
        ------
        LedgerError : it does not follow the newest row, or breaks a law; nothing is changed then
        """
        if row.sequence != (number := following(self._head, row.body)):
            raise LedgerError(number, f"row {row.sequence} stands in its place")
        if row.previous != self._head.hash:
            raise LedgerError(row.sequence, "it does not carry the hash of the row before")
        if self._newest is not None and row.at < self._newest:
            raise LedgerError(row.sequence, f"it is of {row.at}, before the row before it")
        try:
            check(self._accounts, row.body, row.at)
        except InputError as error:
            raise LedgerError(row.sequence, str(error)) from None
        except RefusalError as error:
            raise LedgerError(row.sequence, error.sentence) from None
        self._accounts.take(row.body, row.at, row.sequence)
        self._head, self._newest = row.head, row.at
        self._hashes[row.sequence] = self._head.hash
        if isinstance(row.body, RecoveryRow):
            self._recovered = row.sequence

    def _free_attempt(self, grant: str, seen: Seen, part: Part) -> int:
        """The receipt's attempt, or a later one where this ledger was charged for that one too."""
        purpose: Purpose = "evaluate" if part == "holdout" else "train"
        number = seen.attempt
        while (grant, seen.job, number, purpose, part) in self._accounts.charges:
            number += 1
        return number

    def _check_clock(self, now: datetime) -> None:
        if self._newest is not None and now < self._newest:
            raise InputError(
                f"this machine's clock says {now:%Y-%m-%d %H:%M:%S %Z}, and the ledger's newest row is of "
                f"{self._newest:%Y-%m-%d %H:%M:%S %Z}: the clock went back; set it right and try again"
            )

    def _price(self, charge: Charge) -> ChargeRow:
        account = self._accounts.jobs.get(charge.job)
        if account is None or account.approval is None:
            refuse("not-approved", "this organisation has not approved the job; 'hansa jobs approve' does")
        grant = self._accounts.grants[account.approval.grant]
        if grant.row.data_set != charge.data_set:
            refuse(
                "data-not-granted",
                f"grant '{grant.row.grant}' is for data set '{grant.row.data_set}', not for '{charge.data_set}'",
            )
        amount = self._accounts.data_sets[charge.data_set].row.currency.cost(*charge.events)
        return ChargeRow(
            grant=grant.row.grant,
            job=charge.job,
            attempt=charge.attempt,
            purpose=charge.purpose,
            part=charge.part,
            events=charge.events,
            amount=amount,
        )
