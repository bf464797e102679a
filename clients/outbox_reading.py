"""The record of all that left, read beside a running agent or without one."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated

from pydantic import Field

from hansa.clients.leaving import Leaving
from hansa.clients.outbox import outbox_file
from hansa.contract.order import Count
from hansa.contract.typed import Frozen, Slug

# Entries of one page.
MOST_ENTRIES = 500


class Query(Frozen):
    """Which entries: so many behind a number, in their order.

    Parameters
    ----------
    job : its id or its beginning
    since : seconds since 1970
    kind : of the message, or of a part in it
    """

    after: Count = 0
    most: Annotated[int, Field(ge=1, le=MOST_ENTRIES)] = MOST_ENTRIES
    job: Annotated[str, Field(pattern=r"^[0-9a-f]{0,32}$")] = ""
    since: Annotated[float, Field(ge=0, le=2**40)] = 0.0
    kind: Slug | None = None


class Entry(Frozen):
    """One message or file.

    Parameters
    ----------
    at : when it was about to leave, in seconds since 1970
    left : when it had left; None: it may have left
    again, again_bytes, last : how often the same was said again meanwhile, and when last
    """

    id: int
    at: float
    left: float | None = None
    again: int = 0
    again_bytes: int = 0
    last: float | None = None
    leaving: Leaving


class Older(Frozen):
    """What is no longer kept one by one: of one job and kind."""

    job: str
    kind: str
    messages: int
    bytes: int
    first: float
    last: float


_PAGE = """
SELECT e.id AS id, e.at AS at, g.at AS gone, e.content AS content, coalesce(sum(a.messages), 0) AS again,
    coalesce(sum(a.bytes), 0) AS again_bytes, max(a.last) AS last
FROM entries e LEFT JOIN gone g ON g.entry = e.id LEFT JOIN again a ON a.entry = e.id
WHERE e.id > :after AND e.job >= :job AND e.job < :job || 'g' AND max(e.at, coalesce(
    (SELECT max(last) FROM again WHERE entry = e.id), e.at)) >= :since AND e.kinds LIKE :kind
GROUP BY e.id ORDER BY e.id LIMIT :most
"""


def read_entries(path: Path, query: Query) -> list[Entry]:
    """One page; none where the agent never ran.

    Raises
    ------
    HansaError : the file cannot be read, or holds what is no such thing
    """
    values = query.model_dump() | {"kind": f"% {query.kind} %" if query.kind else "%"}
    file = outbox_file(path)
    return [
        Entry(
            id=row["id"],
            at=row["at"],
            left=row["gone"],
            again=row["again"],
            again_bytes=row["again_bytes"],
            last=row["last"],
            leaving=file.read(Leaving, row["content"]),
        )
        for row in _read(path, _PAGE, values)
    ]


def read_older(path: Path) -> list[Older]:
    """Sums of what is no longer kept one by one.

    Raises
    ------
    HansaError : the file cannot be read
    """
    return [Older(**dict(row)) for row in _read(path, "SELECT * FROM older ORDER BY job, kind", {})]


def _read(path: Path, query: str, values: dict[str, object]) -> list[sqlite3.Row]:
    return outbox_file(path).query(query, values) if path.exists() else []
