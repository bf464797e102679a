"""The event log: appended to, never changed (triggers of the first migration hold it to that)."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from sqlalchemy import Connection, insert, text

from hansa.server.store.database import Database
from hansa.server.store.tables import events

# Any fixed number. PostgreSQL gives out numbers before commit: without one writer at a time, a reader that
# asks for everything after its last number could miss a smaller one that commits later.
_ORDER_LOCK = 0x6576656E7473


def append(
    connection: Connection,
    kind: str,
    sentence: str,
    *,
    job: str | None = None,
    member: str = "",
    facts: Mapping[str, str | int | float] | None = None,
) -> None:
    """Append one line within the caller's transaction; its sentence names its member."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ORDER_LOCK})
    row = {
        "at": time.time(),
        "job": job,
        "kind": kind,
        "member": member,
        "sentence": _named(sentence, member),
        "facts": dict(facts or {}),
    }
    connection.execute(insert(events), row)


def _named(sentence: str, member: str) -> str:
    if not member or re.search(rf"(?<![\w-]){re.escape(member)}(?![\w-])", sentence):
        return sentence
    return f"{member}: {sentence}"


class EventLog:
    """Lines that belong to no other change of the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, kind: str, sentence: str, *, job: str | None = None, member: str = "") -> None:
        """Append one line in a transaction of its own."""
        with self._database.write() as connection:
            append(connection, kind, sentence, job=job, member=member)
