"""Answers that are given again while the store has not changed: many look at the same few figures at once.

Only of paths that are made of the store, for the same token, and never older than the newest commit of whatever
process: before each, SQLite is asked whether another connection wrote since (`PRAGMA data_version`). A store that
cannot say is read anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hansa.contract.bounded import BoundedDict
from hansa.server.store import Store

# What is read of the store and of nothing else.
_PATHS = re.compile(r"/v1/(jobs(/.*)?|members|budgets(/.*)?|events|scaling(/.*)?|charter)")
MOST_ANSWERS, _LARGEST = 256, 256 * 1024


class _Asked(NamedTuple):
    path: str
    query: bytes
    authorization: bytes


@dataclass(frozen=True)
class _Kept:
    version: int
    start: Message
    body: Message


class KeptAnswers:
    """Gives a GET's answer of before where the store is as it was."""

    def __init__(self, app: ASGIApp, store: Store) -> None:
        self._app = app
        self._store = store
        self._kept: BoundedDict[_Asked, _Kept] = BoundedDict(MOST_ANSWERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "GET" or not _PATHS.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = [value for name, value in scope["headers"] if name == b"authorization"]
        # Before the answer is made: what is written meanwhile makes it old at once.
        version = self._store.version()
        if version is None or len(headers) != 1:
            await self._app(scope, receive, send)
            return
        asked = _Asked(scope["path"], scope["query_string"], headers[0])
        kept = self._kept.get(asked)
        if kept is not None and kept.version == version:
            await send(kept.start)
            await send(kept.body)
            return
        parts: list[Message] = []

        async def noted(message: Message) -> None:
            if len(parts) < 3:
                parts.append(message)
            await send(message)

        await self._app(scope, receive, noted)
        if len(parts) == 2 and _whole(parts):
            self._kept[asked] = _Kept(version, parts[0], parts[1])


def _whole(parts: list[Message]) -> bool:
    start, body = parts
    return (
        start.get("status") == 200
        and body["type"] == "http.response.body"
        and not body.get("more_body", False)
        and len(body.get("body", b"")) <= _LARGEST
    )
