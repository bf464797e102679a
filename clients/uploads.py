"""The record of uploads and the newest receipt, read beside a running agent or without one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hansa.clients.attempt_log import Upload
from hansa.contract.errors import HansaError
from hansa.contract.messages import Seen

# The agent's own records, in its folder.
AGENT_RECORDS = "agent.sqlite"


def read_uploads(path: Path) -> list[Upload]:
    """All uploads on record, in their order; none where the agent never ran.

    Raises
    ------
    HansaError : the file cannot be read
    """
    query = "SELECT id, at, job, attempt, segment, releases, noise FROM uploads ORDER BY id"
    return [Upload(*row) for row in _read(path, "uploads", query)]


def read_newest_receipt(path: Path) -> Seen | None:
    """The agent's own receipt with the highest head; None where there is none.

    Raises
    ------
    HansaError : the file cannot be read
    """
    rows = _read(path, "receipts", "SELECT seen FROM receipts ORDER BY head DESC LIMIT 1")
    return Seen.model_validate_json(str(rows[0][0])) if rows else None


def read_shown_receipts(path: Path) -> list[Seen]:
    """Receipts of this member's own, which others showed to its agent and its ledger did not have.

    Raises
    ------
    HansaError : the file cannot be read
    """
    rows = _read(path, "own", "SELECT content FROM own ORDER BY sequence DESC")
    return [Seen.model_validate_json(str(row[0])) for row in rows]


def _read(path: Path, table: str, query: str) -> list[tuple[Any, ...]]:
    if not path.exists():
        return []
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
        ) as db:
            known = db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            return [] if known is None else db.execute(query).fetchall()
    except sqlite3.Error as error:
        raise HansaError(f"{path}: the agent's records cannot be read ({error})") from None
