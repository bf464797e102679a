"""What an agent's own files say about one job, read beside a running agent or without one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hansa.clients.durable import BROKEN, DurableFile, agent_records, kept_receipts
from hansa.clients.heads import HEADS
from hansa.clients.uploads import AGENT_RECORDS
from hansa.contract.errors import REFUSAL_CODES


@dataclass(frozen=True)
class JobRecords:
    """Of one job: the plan as it was shown, its state, attempts, uploads, others' receipts; events, refusals."""

    job: str
    state: str
    reason: str
    # Hash of the charter it was proposed under; empty in files from before that was kept.
    charter: str
    plan: dict[str, Any]
    attempts: list[dict[str, Any]]
    uploads: list[dict[str, Any]]
    # Of other members: identity key, and the receipt with what its signature covers.
    seen: list[dict[str, Any]]
    events: list[dict[str, Any]]
    refusals: list[dict[str, Any]]


def read_jobs(folder: Path) -> list[str]:
    """All jobs that were ever proposed, the newest last."""
    file = agent_records(folder / AGENT_RECORDS)
    return [str(it["job"]) for it in _read(file, "SELECT job FROM jobs ORDER BY rowid", ())]


def read_job(folder: Path, job: str) -> JobRecords:
    """What is on record about a job; its events, and those of the agent that are about no one job.

    Raises
    ------
    HansaError : a file cannot be read
    """
    own, heads = agent_records(folder / AGENT_RECORDS), kept_receipts(folder / HEADS)
    (said,) = _read(own, "SELECT * FROM jobs WHERE job = ?", (job,))
    attempts = _read(
        own,
        "SELECT attempt, accepted, order_digest, cohort, active, reply IS NOT NULL AS reply_kept FROM attempts "
        "WHERE job = ? ORDER BY attempt",
        (job,),
    )
    events = _read(own, "SELECT at, job, kind, sentence FROM events WHERE job IN ('', ?) ORDER BY id", (job,))
    seen = _read(heads, "SELECT key, content FROM seen WHERE job = ? ORDER BY key, sequence", (job,))
    return JobRecords(
        job=job,
        state=str(said["state"]),
        reason=str(said["reason"]),
        # Read beside an agent that may be older than this: then there is no such column.
        charter=str(said.get("charter", "")),
        plan=json.loads(str(said["plan"])),
        attempts=attempts,
        uploads=_read(own, "SELECT * FROM uploads WHERE job = ? ORDER BY id", (job,)),
        seen=[{"key": it["key"], "seen": json.loads(str(it["content"]))} for it in seen],
        events=[it for it in events if it["kind"] not in REFUSAL_CODES],
        refusals=[it for it in events if it["kind"] in REFUSAL_CODES],
    )


def _read(file: DurableFile, query: str, values: tuple[str, ...]) -> list[dict[str, Any]]:
    if not Path(file.path).exists():
        return []
    try:
        address = f"file:{quote(str(file.path))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            return [dict(it) for it in db.execute(query, values)]
    except BROKEN as error:
        file.damaged(str(error))
