"""What a ledger says was decided about one job and charged for it, as it stands in an archive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hansa.cli.budgets_shown import describe
from hansa.privacy.records import ApprovalRow, ChargeRow, GrantRow, Row


def decisions_of(rows: Sequence[Row], job: str) -> dict[str, list[dict[str, Any]]]:
    """Approvals of the job, the grants that they name, and its charges: each row with a sentence for people."""
    yes = [it for it in rows if isinstance(it.body, ApprovalRow) and it.body.job == job]
    grants = {it.body.grant for it in yes if isinstance(it.body, ApprovalRow)}
    given = [it for it in rows if isinstance(it.body, GrantRow) and it.body.grant in grants]
    charges = [it for it in rows if isinstance(it.body, ChargeRow) and it.body.job == job]
    return {
        "approvals": [_shown(it) for it in yes],
        "grants": [_shown(it) for it in given],
        "charges": [_shown(it) for it in charges],
    }


def _shown(row: Row) -> dict[str, Any]:
    return {
        "row": row.sequence,
        "at": row.at.isoformat(),
        "says": describe(row.body),
        "body": row.body.model_dump(mode="json"),
    }
