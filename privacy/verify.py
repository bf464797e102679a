"""Recompute a ledger: its chain, every amount and every epsilon, the latter two by another implementation.

This is the one module that imports `dp_accounting` (1.5 s, and scipy with it): only `hansa budgets verify`
and the tests load it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dp_accounting import dp_event
from dp_accounting.gaussian_mechanism import get_epsilon_gaussian
from dp_accounting.rdp import RdpAccountant

from hansa.contract.messages import Head
from hansa.privacy.accounts import DataSetAccount, GrantAccount
from hansa.privacy.book import Book, LedgerError
from hansa.privacy.currency import Currency
from hansa.privacy.events import Event, PoissonGaussian
from hansa.privacy.records import ChargeRow, DataSetRow, GrantRow, Row

# What two implementations may differ by.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Verified:
    """A ledger whose every row was recomputed: its head, and what each grant's charges mean as epsilon."""

    head: Head
    rows: int
    epsilon: dict[str, float]


def verify(rows: Iterable[Row]) -> Verified:
    """Recompute all rows from the first on.

    Raises
    ------
    LedgerError : names the first bad row and what is wrong with it
    """
    book = Book()
    count = 0
    for row in rows:
        book.apply(row)
        count += 1
        problem = _problem(book, row)
        if problem:
            raise LedgerError(row.sequence, problem)
    if book.recovering:
        raise LedgerError(book.head.sequence, "the ledger ends within a recovery, before its charges")
    epsilon = {name: _epsilon_of(grant, book) for name, grant in book.grants.items()}
    return Verified(head=book.head, rows=count, epsilon=epsilon)


def independent_cost(currency: Currency, events: Iterable[Event]) -> float:
    """What events take, by dp_accounting where it knows the currency: it has no sum of mu²."""
    if currency.order is None:
        return math.fsum(event.count / event.noise_multiplier**2 for event in events)
    accountant = RdpAccountant(orders=[currency.order])
    for event in events:
        accountant.compose(to_dp_event(event))
    # The divergence itself: an epsilon is cut off at 0.
    return float(accountant._rdp[0])


def independent_epsilon(currency: Currency, amount: float, delta: float) -> float:
    """What an amount means as epsilon, by dp_accounting."""
    if amount <= 0:
        return 0.0
    if currency.order is None:
        return float(get_epsilon_gaussian(1.0 / math.sqrt(amount), delta))
    accountant = RdpAccountant(orders=[currency.order])
    accountant._rdp += amount
    return float(accountant.get_epsilon(delta))


def to_dp_event(event: Event) -> dp_event.DpEvent:
    """The same event as dp_accounting writes it."""
    once: dp_event.DpEvent = dp_event.GaussianDpEvent(event.noise_multiplier)
    if isinstance(event, PoissonGaussian):
        once = dp_event.PoissonSampledDpEvent(event.sampling_rate, once)
    return dp_event.SelfComposedDpEvent(once, event.count)


def _problem(book: Book, row: Row) -> str:
    body = row.body
    if isinstance(body, ChargeRow):
        grant = book.grants[body.grant]
        data_set = book.data_sets[grant.row.data_set]
        currency = data_set.row.currency
        cost = independent_cost(currency, body.events)
        if not math.isclose(cost, body.amount, rel_tol=TOLERANCE):
            return f"its amount is {body.amount!r}, and dp_accounting makes it {cost!r}"
        return _epsilon_problem(currency, grant.spent, grant.row.delta)
    if isinstance(body, GrantRow):
        return _budget_problem(book.data_sets[body.data_set], body.amount, body.epsilon, body.delta)
    if isinstance(body, DataSetRow):
        return _budget_problem(book.data_sets[body.name], body.cap, body.epsilon, body.delta)
    return ""


def _budget_problem(data_set: DataSetAccount, amount: float, epsilon: float, delta: float) -> str:
    """A budget may mean less than its epsilon, never more; in gdp it means that epsilon exactly."""
    currency = data_set.row.currency
    meant = independent_epsilon(currency, amount, delta)
    exact = currency.order is None and not math.isclose(meant, epsilon, rel_tol=TOLERANCE)
    if meant > epsilon * (1 + TOLERANCE) or exact:
        return f"its amount {amount!r} is epsilon {meant:.6g} at delta {delta:g}, and it states {epsilon:g}"
    return _epsilon_problem(currency, amount, delta)


def _epsilon_problem(currency: Currency, amount: float, delta: float) -> str:
    ours, theirs = currency.epsilon(amount, delta), independent_epsilon(currency, amount, delta)
    if not math.isclose(ours, theirs, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        return f"an amount of {amount!r} is epsilon {ours!r} here and {theirs!r} by dp_accounting"
    return ""


def _epsilon_of(grant: GrantAccount, book: Book) -> float:
    currency = book.data_sets[grant.row.data_set].row.currency
    return independent_epsilon(currency, grant.spent, grant.row.delta)
