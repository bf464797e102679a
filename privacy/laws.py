"""The laws of a ledger: what may be recorded, given what stands in it already.

`InputError` names what an organisation wanted and may not have, `RefusalError` what an attempt may not be paid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from typing import NoReturn, Protocol

from hansa.contract.errors import InputError, RefusalCode, RefusalError
from hansa.contract.messages import GrantState
from hansa.privacy.accounts import DAY, Accounts, JobAccount, closed_grant
from hansa.privacy.currency import Currency
from hansa.privacy.people import SAME, overlap
from hansa.privacy.records import (
    AnyBody,
    ApprovalRow,
    ChargeRow,
    DataSetRow,
    FinishRow,
    ForgetRow,
    FreezeRow,
    GrantRow,
    RecoveryRow,
    SidesRow,
    UnfreezeRow,
)

# Amounts are recomputed on other machines, whose exp and log may differ in the last digits.
TOLERANCE = 1e-9


class Limits(Protocol):
    """The charter's caps against draining (`PrivacyPlan`): charge rows within 24 hours, and of one job."""

    @property
    def charges_per_day(self) -> int: ...

    @property
    def charges_per_job(self) -> int: ...


def check(accounts: Accounts, body: AnyBody, at: datetime) -> None:
    """Whether a row may follow.

    Raises
    ------
    InputError, RefusalError : a law forbids it
    """
    match body:
        case DataSetRow():
            _check_data_set(accounts, body)
        case SidesRow():
            _check_sides(accounts, body)
        case GrantRow():
            _check_grant(accounts, body, at)
        case FreezeRow() | UnfreezeRow():
            freezes = isinstance(body, FreezeRow)
            if bool(accounts.grant(body.grant).frozen) == freezes:
                raise InputError(
                    f"grant '{body.grant}' is {'frozen already' if freezes else 'not frozen'}; nothing to do"
                )
        case ApprovalRow():
            _check_approval(accounts, body, at)
        case ChargeRow():
            check_charge(accounts, body, at, ())
        case FinishRow():
            job = accounts.jobs.get(body.job)
            if job is None or body.attempt not in job.charged or body.attempt in job.finished:
                raise InputError(f"attempt {body.attempt} of job {body.job} was not charged or has finished")
        case RecoveryRow():
            _check_recovery(accounts, body, at)
        case ForgetRow():
            before = 0 if accounts.forgotten is None else accounts.forgotten.total
            if body.total != before + body.entities:
                raise InputError(
                    f"{before} entities were forgotten before, so {body.total} cannot be all of them"
                )


def _check_data_set(accounts: Accounts, body: DataSetRow) -> None:
    known = accounts.data_sets.get(body.name)
    if known is not None and _cap(known.row) != _cap(body):
        raise InputError(
            f"data set '{body.name}' has a lifetime cap of epsilon {known.row.epsilon:g} at delta "
            f"{known.row.delta:g} in {known.row.currency.name}, which is fixed"
        )
    _check_amount(body.cap, body.currency.budget(body.epsilon, body.delta), "its cap")
    for name, other in accounts.data_sets.items():
        if name != body.name and any(overlap(body.people, people) >= SAME for people in other.people):
            raise InputError(
                f"data set '{body.name}' holds the same people as data set '{name}': "
                f"grant it from the cap of '{name}'"
            )


def _check_sides(accounts: Accounts, body: SidesRow) -> None:
    account = accounts.data_sets.get(body.data_set)
    if account is None:
        raise InputError(f"data set '{body.data_set}' is not known; give it its lifetime cap first")
    if any(known.fingerprint == body.fingerprint for known in account.sides):
        raise InputError(f"the people of data set '{body.data_set}' were put on these sides before")


def _check_grant(accounts: Accounts, body: GrantRow, at: datetime) -> None:
    account = accounts.data_sets.get(body.data_set)
    if account is None:
        raise InputError(f"data set '{body.data_set}' is not known; give it its lifetime cap first")
    if body.grant in accounts.grants:
        raise InputError(f"there is a grant '{body.grant}' already; choose another name")
    if body.expires <= at:
        raise InputError(f"grant '{body.grant}' would have expired on {body.expires:%Y-%m-%d} already")
    currency = account.row.currency
    _check_amount(body.amount, currency.budget(body.epsilon, body.delta), "its amount")
    left = Fraction(account.row.cap) - accounts.granted(body.data_set, at)
    if Fraction(body.amount) > left:
        rest = currency.epsilon(max(0.0, float(left)), body.delta)
        raise InputError(
            f"grant '{body.grant}' of epsilon {body.epsilon:g} at delta {body.delta:g} does not fit under the "
            f"lifetime cap of data set '{body.data_set}': epsilon {rest:.3g} at that delta is left of it"
        )


def _check_approval(accounts: Accounts, body: ApprovalRow, at: datetime) -> None:
    grant = accounts.grant(body.grant)
    if grant.expired(at):
        raise InputError(
            f"grant '{body.grant}' expired on {grant.row.expires:%Y-%m-%d}; approve with a live one"
        )
    before = accounts.jobs.get(body.job, JobAccount()).approval
    if before is not None and accounts.grants[before.grant].row.data_set != grant.row.data_set:
        raise InputError(f"job {body.job} draws on another data set than that of grant '{body.grant}'")


def _check_recovery(accounts: Accounts, body: RecoveryRow, at: datetime) -> None:
    if body.lost.receipt.head is None:
        raise InputError("a receipt without a head shows nothing that was lost")
    if accounts.owed:
        raise InputError("an earlier recovery is not complete; its charges come first")
    for state in body.lost.receipt.grants:
        account = accounts.data_sets.get(state.data_set)
        if account is None:
            raise InputError(
                f"the lost rows hold charges to data set '{state.data_set}', which this ledger does not know: "
                "restore a newer copy of it, or give that data set its lifetime cap again, then recover"
            )
        currency = account.row.currency
        if (currency.name, currency.order) != (state.currency, state.order):
            raise InputError(
                f"the lost rows count data set '{state.data_set}' in {_currency(state.currency, state.order)}, "
                f"this ledger in {_currency(currency.name, currency.order)}: restore a newer copy of it"
            )
        known = accounts.grants.get(state.grant)
        if known is not None and known.row.data_set != state.data_set:
            raise InputError(
                f"grant '{state.grant}' is for data set '{known.row.data_set}' here and was for "
                f"'{state.data_set}' in the lost rows: restore a newer copy of the ledger"
            )
        if known is None:
            _check_closed(state, at)


def _check_closed(state: GrantState, at: datetime) -> None:
    try:
        closed_grant(state, at)
    except ValueError:
        raise InputError(
            f"the lost rows have a grant '{state.grant}' of epsilon {state.epsilon:g} at delta "
            f"{state.delta:g}, which no ledger has"
        ) from None


def _currency(name: str, order: int | None) -> str:
    return name if order is None else f"{name} of order {order}"


def check_charge(accounts: Accounts, row: ChargeRow, at: datetime, pending: Sequence[ChargeRow]) -> None:
    """The filter; `pending` are charges of the same attempt that were admitted just before."""
    grant = accounts.grant(row.grant)
    cost = accounts.data_sets[grant.row.data_set].row.currency.cost(*row.events)
    _check_amount(row.amount, cost, "its amount")
    if (row.part == "holdout") != (row.purpose == "evaluate"):
        raise InputError(f"purpose '{row.purpose}' takes nothing of the part '{row.part}'")
    if row.key in accounts.charges or any(row.key == other.key for other in pending):
        refuse("attempt-lost", f"attempt {row.attempt} was charged for '{row.purpose}' before; begin another")
    owed = accounts.owed.get((row.grant, row.part))
    if row.recovered:
        if owed is None or Fraction(row.amount) < owed:
            raise InputError(
                f"a recovered charge of {row.amount!r} to grant '{row.grant}' makes up for nothing"
            )
        return
    if accounts.owed:
        refuse("ledger-behind-witness", "a recovery is not complete: its charges come first")
    job = accounts.jobs.get(row.job, JobAccount())
    if job.approval is None or job.approval.grant != row.grant:
        refuse("not-approved", f"the job is not approved to draw on grant '{row.grant}'")
    if grant.frozen:
        refuse("grant-frozen", f"grant '{row.grant}' is frozen: {grant.frozen}")
    if grant.expired(at):
        refuse("grant-expired", f"grant '{row.grant}' expired on {grant.row.expires:%Y-%m-%d %H:%M}")
    account = grant.data_set
    same = sum((Fraction(other.amount) for other in (*pending, row) if other.part == row.part), Fraction(0))
    more = sum((Fraction(it.amount) for it in (*pending, row)), Fraction(0)) if account.together else same
    taken = account.against(grant.sums, row.part)
    if taken + more > Fraction(grant.amount):
        left = 100 * (1 - taken / Fraction(grant.amount))
        refuse(
            "budget-exhausted",
            f"{max(0.0, float(left)):.1f} % of grant '{row.grant}' is left, too little",
        )
    spent = sum(
        (account.against(it.sums, row.part) for it in accounts.grants.values() if it.data_set is account),
        Fraction(0),
    )
    if spent + more > Fraction(account.row.cap):
        # Grants fit under it when they are made; what a recovery finds was spent can come after that.
        refuse(
            "budget-exhausted",
            f"what was ever spent of data set '{account.row.name}' leaves too little of its lifetime cap",
        )
    # Within one job nobody changes sides.
    if job.sums.of(row.part) + same > Fraction(job.approval.most):
        refuse("budget-exhausted", f"the job has used what it was approved for of grant '{row.grant}'")
    if row.attempt not in job.recent and job.unfinished + 1 > job.may_be_unfinished:
        refuse(
            "attempt-limit",
            f"{job.unfinished} attempts of this job were charged and did not finish, and no more than "
            f"{job.may_be_unfinished} may be; 'hansa jobs approve' lets it go on",
        )


def check_limits(accounts: Accounts, rows: Sequence[ChargeRow], now: datetime, limits: Limits) -> None:
    """The charter's caps: `attempt-limit` where the charges would be too many."""
    today = sum(at > now - DAY for at in accounts.day)
    if today + len(rows) > limits.charges_per_day:
        refuse("attempt-limit", f"{today} charges in 24 hours; the charter allows {limits.charges_per_day}")
    ever = accounts.jobs[rows[0].job].charges
    if ever + len(rows) > limits.charges_per_job:
        refuse("attempt-limit", f"{ever} charges of this job; the charter allows {limits.charges_per_job}")


def _cap(row: DataSetRow) -> tuple[Currency, float, float, float]:
    return (row.currency, row.epsilon, row.delta, row.cap)


def _check_amount(stated: float, computed: float, name: str) -> None:
    if not math.isclose(stated, computed, rel_tol=TOLERANCE):
        raise InputError(f"{name} is {stated!r}, and what it stands for comes to {computed!r}")


def refuse(code: RefusalCode, sentence: str) -> NoReturn:
    """Raise a typed refusal."""
    raise RefusalError(code, sentence)
