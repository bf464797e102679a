"""A ledger for a regulator: who granted what on which ground, every charge and what it means, and how to check it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hansa.cli.budgets_ledger import open_ledger
from hansa.cli.instance import MemberFolder
from hansa.contract.signatures import read_charter
from hansa.privacy.accounts import GrantAccount
from hansa.privacy.book import Book
from hansa.privacy.currency import Currency
from hansa.privacy.events import Event, PoissonGaussian
from hansa.privacy.records import ApprovalRow, ChargeRow, GrantRow, Row
from hansa.privacy.verify import independent_epsilon, verify

FORMAT = "hansa/ledger-export/1"
HOW_TO_CHECK = (
    "Each entry of 'rows' is one row of the ledger, in order, beside its 'hash'. Take 'hash' out and write the rest "
    "as JSON with sorted keys, no spaces, characters as UTF-8 and numbers in their shortest form that reads back "
    "alike; put the 15 bytes 'hansa/ledger/1' and a zero byte before it: the SHA-256 of that is 'hash'.",
    "'previous' of the first row is 64 zeros, of every other row the hash of the row before. A changed, added or "
    "removed row breaks every hash after it. 'sequence' rises by one; after a recovery it goes on behind the "
    "number that was lost, and the recovery's row holds the signed receipt that shows it.",
    "The newest row's number and hash leave the organisation with every upload, signed; the other members and the "
    "server keep the highest they saw. So a ledger that lacks its newest rows does not pass either.",
    "A charge's 'amount' follows from its 'events' alone. Currency gdp: the sum of count / noise_multiplier squared. "
    "Currency rdp: the Renyi divergence at the data set's one order, order * count / (2 * noise_multiplier squared) "
    "for a Gaussian, and that of a Poisson-sampled Gaussian (Mironov, Talwar and Zhang 2019) where there is a rate.",
    "Amounts of a part (training or holdout; no person is in both) add up. The larger sum must not exceed the "
    "grant's amount, and the grants of a data set not its cap.",
    "Epsilon at delta of a gdp amount is that of a Gaussian mechanism with mu the square root of the amount (Balle "
    "and Wang 2018); of an rdp amount the conversion of Canonne, Kamath and Steinke 2020, proposition 12. Google's "
    "dp_accounting computes both; 'hansa budgets verify' does so for every row.",
    "'people' in a data set's row are keyed hashes of whom the records are about, under a key that never leaves the "
    "organisation; they show that a renamed file holds the same people, and nothing else.",
)


def export_document(member: MemberFolder, now: datetime) -> dict[str, Any]:
    """The whole ledger with its meaning, as JSON can hold it.

    Raises
    ------
    LedgerError : the ledger is damaged; a proof of it cannot be written
    """
    source = open_ledger(member)
    rows = list(source.rows())
    verified = verify(rows)
    book = Book(rows)
    charter, digest = read_charter(member.folder / member.config.charter)
    return {
        "format": FORMAT,
        "exported": now.isoformat(),
        "organisation": member.config.name,
        "charter": {
            "name": charter.name,
            "version": charter.version,
            "hash": digest,
            "noise": charter.privacy.noise,
            "largest_delta": charter.privacy.delta,
        },
        "data_sets": [_data_set(book, name) for name in book.data_sets],
        "grants": [_grant(book, it, rows) for it in book.grants.values()],
        "jobs": [_job(book, job, rows) for job in book.jobs],
        "charges": [_charge(book, row, row.body) for row in rows if isinstance(row.body, ChargeRow)],
        "rows": [{**row.model_dump(mode="json"), "hash": row.hash} for row in rows],
        "head": verified.head.model_dump(mode="json"),
        "how_to_check": list(HOW_TO_CHECK),
    }


def meaning(row: ChargeRow) -> str:
    """What a charge did, in one sentence."""
    what = {
        "check": "statistics of the columns, to check the declared ranges",
        "train": "the sum of what the records say about how to change the model",
        "evaluate": "figures of the model's quality",
    }[row.purpose]
    releases = " and ".join(_releases(event) for event in row.events)
    if row.recovered:
        return f"entered again after rows were lost, as one sum, from a signed receipt: {releases}"
    return f"released {what}, over the records kept for {_PARTS[row.part]}: {releases}"


_PARTS = {"training": "training", "holdout": "measuring"}


def _releases(event: Event) -> str:
    times = "once" if event.count == 1 else f"{event.count} times"
    noise = (
        f"each time with Gaussian noise whose standard deviation is {event.noise_multiplier:.6g} times "
        "the most that one person can change it by"
    )
    if isinstance(event, PoissonGaussian):
        drawn = f"over a random sample to which a person belongs with probability {event.sampling_rate:g}"
        return f"{times}, {noise}, {drawn}"
    return f"{times}, {noise}"


def _data_set(book: Book, name: str) -> dict[str, Any]:
    row = book.data_sets[name].row
    return {
        "data_set": name,
        "lifetime_cap": {"epsilon": row.epsilon, "delta": row.delta, "amount": row.cap},
        "currency": row.currency.name,
        "order": row.currency.order,
        # By what people were put on the side of training or of measuring; with two ways both sums are added up.
        "sides": [
            it.model_dump(mode="json", exclude={"row", "data_set"}) for it in book.data_sets[name].sides
        ],
        "training_and_holdout_added_up": book.data_sets[name].together,
    }


def _grant(book: Book, account: GrantAccount, rows: Sequence[Row]) -> dict[str, Any]:
    row = account.row
    at = next((it.at for it in rows if isinstance(it.body, GrantRow) and it.body.grant == row.grant), None)
    currency = _currency(book, account)
    return {
        **row.model_dump(mode="json", exclude={"row"}),
        # None: known from a receipt alone.
        "granted_at": None if at is None else at.isoformat(),
        "frozen": account.frozen,
        "spent": {
            "training": float(account.sums.training),
            "holdout": float(account.sums.holdout),
            "epsilon": independent_epsilon(currency, account.spent, row.delta),
            "percent_left": account.percent_left,
        },
    }


def _job(book: Book, job: str, rows: Sequence[Row]) -> dict[str, Any]:
    account = book.jobs[job]
    approvals = [
        {
            "at": it.at.isoformat(),
            "by": it.body.by,
            "grant": it.body.grant,
            "share": it.body.share,
            "at_most": it.body.most,
        }
        for it in rows
        if isinstance(it.body, ApprovalRow) and it.body.job == job
    ]
    return {
        "job": job,
        "approvals": approvals,
        "spent": {"training": float(account.sums.training), "holdout": float(account.sums.holdout)},
        "charges": account.charges,
        "finished_attempts": len(account.finished),
    }


def _charge(book: Book, row: Row, body: ChargeRow) -> dict[str, Any]:
    currency = _currency(book, book.grants[body.grant])
    return {
        "row": row.sequence,
        "at": row.at.isoformat(),
        **body.model_dump(mode="json", exclude={"row"}),
        "currency": currency.name,
        "order": currency.order,
        "meaning": meaning(body),
    }


def _currency(book: Book, account: GrantAccount) -> Currency:
    return book.data_sets[account.row.data_set].row.currency
