"""What members have spent, by the receipts that they signed: a mirror, never what decides."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from hansa.server.control.access import may_read
from hansa.server.control.desk import ControlDesk, Desk
from hansa.server.control.history_routes import After
from hansa.server.control.problems import RESPONSES
from hansa.server.records import BudgetRecord, ReceiptRecord, SpendingRecord

router = APIRouter(prefix="/v1", tags=["budgets"], dependencies=[Depends(may_read)], responses=RESPONSES)

Limit = Annotated[int, Query(ge=1, le=1000)]
Member = Annotated[str | None, Query(max_length=63, description="Only of this member")]


@router.get("/budgets", summary="Grants of the members as their newest receipts state them")
def list_budgets(
    desk: Desk, member: Member = None, after: After = 0, limit: Limit = 1000
) -> list[BudgetRecord]:
    """The mirror: each organisation's own ledger decides. Ask again with `after` set to the last id seen."""
    return desk.store.budgets.grants(member=member, after=after, limit=limit)


@router.get("/budgets/jobs", summary="What each job took of each grant")
def list_spendings(
    desk: Desk, member: Member = None, job: str | None = None, after: After = 0, limit: Limit = 1000
) -> list[SpendingRecord]:
    """By the receipts that arrived: at least so much."""
    return desk.store.budgets.spendings(member=member, job=_id(desk, job), after=after, limit=limit)


@router.get("/budgets/history", summary="The receipts themselves, the newest last")
def list_receipts(
    desk: Desk, member: Member = None, job: str | None = None, after: After = 0, limit: Limit = 1000
) -> list[ReceiptRecord]:
    """As they were signed, so that anybody with the charter's keys can check them."""
    return desk.store.budgets.receipts(member=member, job=_id(desk, job), after=after, limit=limit)


def _id(desk: ControlDesk, job: str | None) -> str | None:
    return None if job is None else desk.job(job).job
