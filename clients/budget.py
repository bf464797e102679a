"""A member's budget as attempts see it: a job's approval, its noise, charges before computing, receipts.

Everything is derived from the approval row alone: which grant, what each release takes, and so how much
noise it gets. The row is written once and stays; what the server says later changes none of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from hansa.clients.grants import Grants
from hansa.clients.receipts import receipt_of
from hansa.contract.bounded import BoundedDict
from hansa.contract.charter import Charter
from hansa.contract.errors import InputError, RefusalError
from hansa.contract.jobs import JobPlan
from hansa.contract.messages import Order, Receipt
from hansa.contract.segments import EVALUATION, STATISTICS, UPDATE
from hansa.privacy.accounts import GrantAccount, JobAccount, Sums, rounded_up
from hansa.privacy.book import Book
from hansa.privacy.currency import Currency, release
from hansa.privacy.laws import refuse
from hansa.privacy.planning import (
    JobBudget,
    NoisePlan,
    check_floor,
    evaluations,
    noise_floor,
    plan_noise,
    with_failures,
)
from hansa.privacy.records import ApprovalRow, Charge, ChargeRow, FinishRow, Part, Purpose

# Who approves where the charter has that done automatically.
AUTOMATIC = "the charter: approval = automatic"


@dataclass(frozen=True)
class Paid:
    """An attempt that was charged: the noise multiplier of each segment, and the receipt, still to be signed."""

    noise: Mapping[str, float]
    receipt: Receipt


# Noise that is planned from an approval, again where it was forgotten.
_MOST_PLANNED = 256


class Budget:
    """What a member's attempts are paid from; safe to call from several threads.

    Parameters
    ----------
    grants : the ledger, and what the organisation decides in it about the records that are computed on
    """

    def __init__(self, grants: Grants, charter: Charter) -> None:
        self.grants = grants
        self.ledger = grants.ledger
        self.data_set = grants.data_set
        self._charter = charter
        # Of Poisson samples it is searched for, some milliseconds long.
        self._noise: BoundedDict[ApprovalRow, dict[str, float]] = BoundedDict(_MOST_PLANNED)

    # --- a job ----------------------------------------------------------------------------------

    def propose(self, plan: JobPlan) -> None:
        """Approve a job where the charter has that done automatically, once: asking again lifts no limit.

        Raises
        ------
        RefusalError : no grant pays for it; or fewer rounds than the charter allows
        """
        with self.ledger.held() as book:
            if _approval(book, plan.job) is None:
                self.approve(plan, by=AUTOMATIC)

    def approve(
        self, plan: JobPlan, *, by: str, grant: str | None = None, max_epsilon: float | None = None
    ) -> ApprovalRow:
        """This organisation's yes: fixes the grant, the amounts of the releases, and the most the job may take.

        Parameters
        ----------
        grant : by default the one of before, else the one of which most is left
        max_epsilon : the job never takes more of either part than this means in the grant's currency

        Raises
        ------
        RefusalError : no grant, or not enough left; `noise-below-floor`; `wrong-currency`
        InputError : no such grant, or an epsilon that buys nothing
        """
        with self.ledger.held() as book:
            before = _approval(book, plan.job)
            account = self._grant(book, grant or (before.grant if before is not None else None))
            currency = _currency(book, account)
            most = account.amount if max_epsilon is None else _ceiling(currency, account, max_epsilon)
            # The job's own share; `plan_noise` spreads all of it.
            planned = min(plan.share * account.amount, most)
            budget = job_budget(self._charter, plan).model_copy(update={"share": 1.0})
            noise = plan_noise(currency, planned, budget)
            assert noise.train is not None
            fewest = self._charter.privacy.fewest_rounds
            check_floor(noise.train, noise_floor(currency, planned, budget, fewest), fewest)
            _check_left(book, account, plan.job, budget, noise)
            row = ApprovalRow(
                job=plan.job,
                grant=account.row.grant,
                share=plan.share,
                # What a recovery entered under this job is not what its releases took.
                most=min(with_failures(budget, noise) + _recovered(book, plan.job), most),
                amounts=noise.amounts,
                by=by,
            )
            self.ledger.record(row)
            return row

    def noise(self, job: str) -> dict[str, float]:
        """This member's noise multiplier of each segment; `not-approved` where there is no approval."""
        with self.ledger.held() as book:
            approval = _approval(book, job)
            if approval is None:
                refuse("not-approved", f"this member has not approved the job yet: hansa jobs approve {job}")
            return self.noise_of(book, approval)

    def noise_of(self, book: Book, approval: ApprovalRow) -> dict[str, float]:
        """The noise multipliers that an approval's amounts stand for, by segment."""
        if approval in self._noise:
            return self._noise[approval]
        currency, amounts = _currency(book, book.grants[approval.grant]), approval.amounts
        amount_of = {
            UPDATE: (amounts.training, sampling_rate(self._charter)),
            EVALUATION: (amounts.holdout, 1.0),
            STATISTICS: (amounts.check, 1.0),
        }
        self._noise[approval] = {
            name: currency.multiplier(amount, 1, rate)
            for name, (amount, rate) in amount_of.items()
            if amount > 0
        }
        return self._noise[approval]

    # --- an attempt -----------------------------------------------------------------------------

    def check(self, plan: JobPlan, order: Order) -> dict[str, float]:
        """Raise what `charge` would raise now, or return the noise by segment; nothing is written."""
        with self.ledger.held() as book:
            charges, noise = self._charges(book, plan, order)
            self.ledger.admissible(charges, self._charter.privacy)
            return noise

    def charge(self, plan: JobPlan, order: Order) -> Paid:
        """Pay for an attempt, durably; when this returns it may be computed, once.

        Raises
        ------
        RefusalError : as `Book.admit` says, or `noise-below-floor`: the order's noise is less than this member's own
        """
        with self.ledger.held() as book:
            charges, noise = self._charges(book, plan, order)
            rows = self.ledger.charge(charges, self._charter.privacy)
            paid = [row.body for row in rows if isinstance(row.body, ChargeRow)]
            return Paid(noise, receipt_of(book, paid))

    def finish(self, job: str, attempt: int) -> None:
        """Enter that an attempt was seen to finish; the proof was checked. Nothing to do where it was entered."""
        with self.ledger.held() as book:
            account = book.jobs.get(job)
            if account is not None and attempt in account.charged and attempt not in account.finished:
                self.ledger.record(FinishRow(job=job, attempt=attempt))

    def _charges(self, book: Book, plan: JobPlan, order: Order) -> tuple[list[Charge], dict[str, float]]:
        """What an order releases, and the noise of each segment of it."""
        approval = _approval(book, order.job)
        if approval is None:
            refuse("not-approved", "this organisation has not approved the job; 'hansa jobs approve' does")
        own = self.noise_of(book, approval)
        evaluates = order.evaluate or order.kind == "evaluate"
        releases: dict[str, tuple[Purpose, Part, int]] = {
            UPDATE: ("train", "training", plan.steps if order.kind == "train" else 0),
            EVALUATION: ("evaluate", "holdout", int(evaluates)),
            STATISTICS: ("check", "training", int(order.kind == "statistics")),
        }
        charges, noise = [], {}
        for name, (purpose, part, count) in releases.items():
            if count == 0:
                continue
            noise[name] = self._multiplier(name, order, own)
            rate = sampling_rate(self._charter) if name == UPDATE else 1.0
            charges.append(
                Charge(
                    job=order.job,
                    attempt=order.attempt,
                    purpose=purpose,
                    part=part,
                    data_set=self.data_set,
                    events=(release(noise[name], count, rate),),
                )
            )
        return charges, noise

    def _multiplier(self, name: str, order: Order, own: Mapping[str, float]) -> float:
        """What is added and charged for a segment: this member's own noise, or the order's where it is shared."""
        if name not in own:
            refuse("not-approved", f"the job was approved without a release of '{name}'")
        stated = order.noise.get(name, 0.0)
        if stated < own[name]:
            raise RefusalError(
                "noise-below-floor",
                f"the order has noise {stated:.4g} for '{name}', this member's grant asks for {own[name]:.4g}",
                {"segment": name},
            )
        return stated if self._charter.privacy.noise == "distributed" else own[name]

    # --- choosing a grant -----------------------------------------------------------------------

    def _grant(self, book: Book, name: str | None) -> GrantAccount:
        """The grant of that name, or the one of this data set of which most is left; live, in any case."""
        now = self.ledger.time()
        if name is not None:
            account = book.grants.get(name)
            if account is None:
                raise InputError(f"there is no grant '{name}'; 'hansa budgets show' lists them")
            candidates = [account]
        else:
            candidates = list(book.grants.values())
        own = [it for it in candidates if it.row.data_set == self.data_set]
        if not own:
            what = f"grant '{name}' is not for" if name else "there is no grant for"
            refuse("data-not-granted", f"{what} data set '{self.data_set}'; 'hansa budgets grant' makes one")
        live = [it for it in own if not it.expired(now)]
        if not live:
            refuse("grant-expired", f"every grant for data set '{self.data_set}' has expired; grant anew")
        open_ones = [it for it in live if not it.frozen]
        if not open_ones:
            refuse("grant-frozen", f"grant '{live[0].row.grant}' is frozen: {live[0].frozen}")
        return max(open_ones, key=lambda it: (it.remaining, it.row.grant))


def job_budget(charter: Charter, plan: JobPlan) -> JobBudget:
    """What a job asks of each member's grant."""
    return JobBudget(
        rounds=plan.rounds,
        steps=plan.steps,
        evaluations=evaluations(plan.rounds, plan.evaluate_every, plan.tuning),
        check=plan.check,
        share=plan.share,
        sampling_rate=sampling_rate(charter),
    )


def sampling_rate(charter: Charter) -> float:
    """The public rate at which each step draws entities; 1 for all of them."""
    return charter.training.sampling_rate if charter.training.mechanism == "poisson" else 1.0


def _approval(book: Book, job: str) -> ApprovalRow | None:
    return book.jobs.get(job, JobAccount()).approval


def _currency(book: Book, account: GrantAccount) -> Currency:
    return book.data_sets[account.row.data_set].row.currency


def _ceiling(currency: Currency, account: GrantAccount, max_epsilon: float) -> float:
    if not (max_epsilon > 0 and math.isfinite(max_epsilon)):
        raise InputError(f"an epsilon of {max_epsilon:g}: it must be positive and finite")
    return min(account.amount, currency.budget(max_epsilon, account.row.delta))


def _recovered(book: Book, job: str) -> float:
    """What was entered under a job to make up for lost rows, whichever job had taken it; the larger part."""
    sums = Sums()
    for row in book.charges.values():
        if row.recovered and row.job == job:
            sums.add(row.part, row.amount)
    return rounded_up(sums.larger)


def _check_left(book: Book, account: GrantAccount, job: str, budget: JobBudget, noise: NoisePlan) -> None:
    """Enough is left of the grant for what is planned and not yet paid; a job that cannot end is not begun."""
    amounts, used = noise.amounts, book.jobs.get(job, JobAccount()).sums
    planned: dict[Part, float] = {
        "training": amounts.check + budget.releases * amounts.training,
        "holdout": budget.evaluations * amounts.holdout,
    }
    missing = {part: max(Fraction(0), Fraction(it) - used.of(part)) for part, it in planned.items()}
    for part in planned:
        # Where both parts are added up, both must fit together.
        more = sum(missing.values()) if account.data_set.together else missing[part]
        left = Fraction(account.amount) - account.data_set.against(account.sums, part)
        if more > left:
            percent = 100 / account.amount
            refuse(
                "budget-exhausted",
                f"the job plans {float(more) * percent:.3g} % of grant '{account.row.grant}', and "
                f"{max(0.0, float(left)) * percent:.3g} % of it is left; plan a smaller share, or grant anew",
            )
