"""The outbox for reading: from the running agent, else from the file in the organisation's folder; and files out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hansa.cli.agent_client import command_agent
from hansa.cli.instance import MemberFolder
from hansa.clients.leaving import FILE, Leaving
from hansa.clients.outbox import OUTBOX, Outbox
from hansa.clients.outbox_reading import MOST_ENTRIES, Entry, Older, Query, read_entries, read_older
from hansa.contract.errors import ConnectionFailed
from hansa.contract.typed import clipped, explain

_ENTRIES: TypeAdapter[list[Entry]] = TypeAdapter(list[Entry])
_OLDER: TypeAdapter[list[Older]] = TypeAdapter(list[Older])


def outbox_entries(member: MemberFolder, query: Query) -> Iterator[Entry]:
    """All entries that fit, in their order.

    Raises
    ------
    HansaError : the file is damaged, or the agent is of another version
    """
    while page := _page(member, query)[0]:
        yield from page
        if len(page) < MOST_ENTRIES:
            return
        query = query.model_copy(update={"after": page[-1].id})


def outbox_older(member: MemberFolder) -> list[Older]:
    """Sums of what is no longer kept one by one."""
    return _page(member, Query(most=1))[1]


def note_file(member: MemberFolder, kind: str, path: Path, content: bytes, *, job: str = "") -> None:
    """Write down that a person takes a file out, before it is written.

    Parameters
    ----------
    kind : one of `clients.outbox_words.FILES`

    Raises
    ------
    HansaError : it could not be written down; then the file must not be written
    """
    note_digest(member, kind, path, len(content), hashlib.sha256(content).hexdigest(), job=job)


def note_digest(
    member: MemberFolder, kind: str, path: Path, size: int, digest: str, *, job: str = ""
) -> None:
    """The same of a file too large for memory, by its bytes and its SHA-256.

    Parameters
    ----------
    kind : one of `clients.outbox_words.FILES`

    Raises
    ------
    HansaError : it could not be written down; then the file must not be written
    """
    leaving = Leaving(
        kind=FILE,
        detail=f"{kind} {clipped(str(path), 400)}",
        job=job,
        bytes=size,
        digest=digest,
    )
    try:
        command_agent(member, "status")
    except ConnectionFailed:
        outbox = Outbox(member.folder / OUTBOX)
        try:
            outbox.enter(leaving)
        finally:
            outbox.close()
        return
    command_agent(member, "file-out", **leaving.model_dump(mode="json", exclude_defaults=True))


def _page(member: MemberFolder, query: Query) -> tuple[list[Entry], list[Older]]:
    try:
        answer = command_agent(member, "outbox", **query.model_dump(mode="json"))
    except ConnectionFailed:
        path = member.folder / OUTBOX
        return read_entries(path, query), read_older(path)
    try:
        return (
            _ENTRIES.validate_json(json.dumps(answer.get("outbox"))),
            _OLDER.validate_json(json.dumps(answer.get("older"))),
        )
    except ValidationError as error:
        raise ConnectionFailed(
            f"{member.folder}: the agent is of another version: {explain(error)}"
        ) from None
