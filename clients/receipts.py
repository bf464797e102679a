"""What a receipt says: the charges of an attempt, and every grant as it stood after them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hansa.contract.messages import Charged, GrantState, Receipt
from hansa.privacy.accounts import GrantAccount, rounded_up
from hansa.privacy.book import Book
from hansa.privacy.events import PoissonGaussian
from hansa.privacy.records import ChargeRow

# A receipt has room for so many grants.
MOST_GRANTS = 16


def receipt_of(book: Book, paid: Sequence[ChargeRow]) -> Receipt:
    """The receipt of charges that are the book's newest rows, still to be signed.

    It tells of all grants that have not expired, also of those that are spent or frozen, and of the newest
    others as far as there is room: an older copy of the ledger may not know what was taken of them.
    """
    told = sorted(book.grants.values(), key=lambda it: it.row.expires, reverse=True)[:MOST_GRANTS]
    return Receipt(
        charges=tuple(_charged(row) for row in paid),
        grants=tuple(_state(book, it) for it in told),
        head=book.head,
    )


def _state(book: Book, account: GrantAccount) -> GrantState:
    """A grant, its sums rounded up: whoever goes by them never spends twice."""
    row, currency = account.row, book.data_sets[account.row.data_set].row.currency
    return GrantState(
        grant=row.grant,
        data_set=row.data_set,
        currency=currency.name,
        order=currency.order,
        epsilon=row.epsilon,
        delta=row.delta,
        amount=row.amount,
        training=rounded_up(account.sums.training),
        holdout=rounded_up(account.sums.holdout),
        together=account.data_set.together,
    )


def _charged(row: ChargeRow) -> Charged:
    (event,) = row.events
    return Charged(
        grant=row.grant,
        purpose=row.purpose,
        noise_multiplier=event.noise_multiplier,
        count=event.count,
        sampling_rate=event.sampling_rate if isinstance(event, PoissonGaussian) else 1.0,
        amount=row.amount,
    )
