"""The server's mirror of the members' ledgers, made of nothing but the receipts that they signed.

It says at least what was spent: a receipt that never arrived is missing until the member's next one, whose
running sums hold it. The organisation's own ledger decides; nothing here admits or refuses a charge.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, func, insert, select, update

from hansa.contract.messages import Charged, GrantState, Receipt
from hansa.contract.typed import canonical_json
from hansa.privacy.currency import Currency
from hansa.server.records import BudgetRecord, ReceiptRecord, SpendingRecord
from hansa.server.store.database import Database
from hansa.server.store.moments import moment
from hansa.server.store.tables import budgets, receipts, spendings
from hansa.strategies.journal_laws import fork_sentence

# Grants of one member that are remembered; of a stranger's numbers no more is kept than this.
MOST_GRANTS = 64
# Outside these bounds an epsilon says nothing, and its search would not end soon.
_MOST_AMOUNT, _LEAST_DELTA, _MOST_DELTA = 1e6, 1e-15, 0.1
_MOST_SUM = 1e300


class Budgets:
    """Reads of the mirror; whatever is listed comes in the order of its ids."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def grants(self, *, member: str | None = None, after: int = 0, limit: int = 1000) -> list[BudgetRecord]:
        """The newest state of every grant."""
        return [_budget(row) for row in self._rows(budgets, after, limit, member=member)]

    def spendings(
        self, *, member: str | None = None, job: str | None = None, after: int = 0, limit: int = 1000
    ) -> list[SpendingRecord]:
        """What each job took of each grant."""
        return [
            SpendingRecord(**row._mapping)
            for row in self._rows(spendings, after, limit, member=member, job=job)
        ]

    def receipts(
        self, *, member: str | None = None, job: str | None = None, after: int = 0, limit: int = 1000
    ) -> list[ReceiptRecord]:
        """The receipts themselves."""
        return [_receipt(row) for row in self._rows(receipts, after, limit, member=member, job=job)]

    def _rows(self, table: Table, after: int, limit: int, **equal: str | None) -> list[Row[Any]]:
        query = select(table).where(table.c.id > after)
        for name, value in equal.items():
            if value is not None:
                query = query.where(table.c[name] == value)
        with self._database.read() as connection:
            return list(connection.execute(query.order_by(table.c.id).limit(limit)))


def keep(
    connection: Connection, job: str, attempt: int, order: str, signed: Mapping[str, Receipt]
) -> dict[str, str]:
    """Write an attempt's receipts within the caller's transaction; a member's first one in an attempt stands.

    Returns
    -------
    Members whose receipts show two hashes for one row, each with a sentence.
    """
    forked = {}
    for member, receipt in signed.items():
        if receipt.head is None or _is_kept(connection, job, attempt, member):
            continue
        if _forks(connection, member, receipt):
            forked[member] = fork_sentence(member, receipt.head.sequence)
        row = {
            "member": member,
            "job": job,
            "attempt": attempt,
            "order_digest": order,
            "sequence": receipt.head.sequence,
            "hash": receipt.head.hash,
            "receipt": canonical_json(receipt).decode(),
            "at": time.time(),
        }
        connection.execute(insert(receipts), row)
        for state in receipt.grants:
            _keep_state(connection, row, state)
        for charge in receipt.charges:
            _keep_spending(connection, member, job, charge)
        _forget_oldest(connection, member)
    return forked


def _is_kept(connection: Connection, job: str, attempt: int, member: str) -> bool:
    own = (receipts.c.job == job) & (receipts.c.attempt == attempt) & (receipts.c.member == member)
    return connection.execute(select(receipts.c.id).where(own)).first() is not None


def _forks(connection: Connection, member: str, receipt: Receipt) -> bool:
    assert receipt.head is not None
    same_row = (receipts.c.member == member) & (receipts.c.sequence == receipt.head.sequence)
    other = select(receipts.c.id).where(same_row, receipts.c.hash != receipt.head.hash)
    return connection.execute(other.limit(1)).first() is not None


def _keep_state(connection: Connection, row: Mapping[str, Any], state: GrantState) -> None:
    # Of two jobs at once the later row of the ledger may arrive first: only a later one replaces it.
    own = (budgets.c.member == row["member"]) & (budgets.c.grant == state.grant)
    known = connection.execute(select(budgets.c.sequence).where(own)).scalar_one_or_none()
    values = {name: row[name] for name in ("job", "attempt", "sequence", "at")}
    values["state"] = canonical_json(state).decode()
    if known is None:
        connection.execute(insert(budgets), {"member": row["member"], "grant": state.grant, **values})
    elif row["sequence"] > known:
        connection.execute(update(budgets).where(own).values(values))


def _keep_spending(connection: Connection, member: str, job: str, charge: Charged) -> None:
    mine = (spendings.c.member == member) & (spendings.c.job == job) & (spendings.c.grant == charge.grant)
    row = connection.execute(select(spendings).where(mine)).first()
    sums = {"training": 0.0, "holdout": 0.0, "charges": 0, "round_cost": 0.0}
    if row is not None:
        sums = {name: row._mapping[name] for name in sums}
    part = "holdout" if charge.purpose == "evaluate" else "training"
    sums[part] = min(_MOST_SUM, sums[part] + charge.amount)
    sums["charges"] += 1
    if charge.purpose == "train":
        sums["round_cost"] = charge.amount
    if row is None:
        connection.execute(insert(spendings), {"member": member, "job": job, "grant": charge.grant, **sums})
    else:
        connection.execute(update(spendings).where(mine).values(sums))


def _forget_oldest(connection: Connection, member: str) -> None:
    own = budgets.c.member == member
    count = connection.execute(select(func.count()).select_from(budgets).where(own)).scalar_one()
    if count > MOST_GRANTS:
        oldest = select(budgets.c.id).where(own).order_by(budgets.c.sequence, budgets.c.id)
        gone = list(connection.execute(oldest.limit(count - MOST_GRANTS)).scalars())
        connection.execute(delete(budgets).where(budgets.c.id.in_(gone)))


def _budget(row: Row[Any]) -> BudgetRecord:
    state = GrantState.model_validate_json(row.state)
    spent = state.counted
    remaining = max(0.0, state.amount - spent)
    return BudgetRecord(
        id=row.id,
        member=row.member,
        grant=row.grant,
        data_set=state.data_set,
        currency=state.currency,
        order=state.order,
        epsilon=state.epsilon,
        delta=state.delta,
        amount=state.amount,
        training=state.training,
        holdout=state.holdout,
        remaining=remaining,
        percent_left=100.0 * remaining / state.amount,
        epsilon_spent=_epsilon(state, spent),
        job=row.job,
        attempt=row.attempt,
        sequence=row.sequence,
        at=moment(row.at),
    )


def _epsilon(state: GrantState, spent: float) -> float | None:
    """What is spent as epsilon; None where the member's numbers are not ones that a ledger has."""
    if spent > _MOST_AMOUNT or not _LEAST_DELTA <= state.delta <= _MOST_DELTA:
        return None
    if (state.currency == "rdp") != (state.order is not None):
        return None
    return Currency(name=state.currency, order=state.order).epsilon(spent, state.delta)


def _receipt(row: Row[Any]) -> ReceiptRecord:
    return ReceiptRecord(
        id=row.id,
        member=row.member,
        job=row.job,
        attempt=row.attempt,
        order=row.order_digest,
        at=moment(row.at),
        receipt=Receipt.model_validate_json(row.receipt),
    )
