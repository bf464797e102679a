"""The record of uploads and the newest receipt, read beside a running agent or without one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from hansa.clients.attempt_log import Upload
from hansa.clients.durable import BROKEN, DurableFile, agent_records, kept_receipts
from hansa.contract.messages import Seen
from hansa.contract.typed import explain

# The agent's own records, in its folder.
AGENT_RECORDS = "agent.sqlite"
_UPLOADS: TypeAdapter[list[Upload]] = TypeAdapter(list[Upload])


def read_uploads(path: Path) -> list[Upload]:
    """All uploads on record, in their order; none where the agent never ran.

    Raises
    ------
    HansaError : the file cannot be read, or holds what is no such thing
    """
    rows = _read(agent_records(path), "uploads", "SELECT * FROM uploads ORDER BY id")
    try:
        return _UPLOADS.validate_python([dict(row) for row in rows])
    except ValidationError as error:
        agent_records(path).damaged(f"uploads: {explain(error)}")


def read_newest_receipt(path: Path) -> Seen | None:
    """The agent's own receipt with the highest head; None where there is none.

    Raises
    ------
    HansaError : the file cannot be read, or holds what is no such thing
    """
    file = agent_records(path)
    rows = _read(file, "receipts", "SELECT seen FROM receipts ORDER BY head DESC LIMIT 1")
    return file.read(Seen, rows[0][0]) if rows else None


def read_shown_receipts(path: Path) -> list[Seen]:
    """Receipts of this member's own, which others showed to its agent and its ledger did not have.

    Raises
    ------
    HansaError : the file cannot be read, or holds what is no such thing
    """
    file = kept_receipts(path)
    rows = _read(file, "own", "SELECT content FROM own ORDER BY sequence DESC")
    return [file.read(Seen, content) for (content,) in rows]


def _read(file: DurableFile, table: str, query: str) -> list[sqlite3.Row]:
    if not Path(file.path).exists():
        return []
    address = f"file:{quote(str(file.path))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            known = db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            return [] if known is None else db.execute(query).fetchall()
    except BROKEN as error:
        file.damaged(str(error))
