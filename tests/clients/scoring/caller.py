"""A caller that keeps connections open, asks without pause, and counts what becomes of every request."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_LENGTH = re.compile(rb"content-length: (\d+)")


@dataclass
class Caller:
    """Sends one request after another to whatever address `where` says when a connection is opened.

    A request counts as lost when it was sent and no whole answer came. One that could not be sent, because nothing
    accepted the connection, counts as unsent.
    """

    where: Callable[[], tuple[str, int]]
    request: bytes
    pause_s: float = 0.0
    codes: Counter[int] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    answers: set[tuple[str, str]] = field(default_factory=set)
    lost: int = 0
    unsent: int = 0
    by_port: Counter[int] = field(default_factory=Counter)
    stopped: bool = False

    async def run(self, connections: int) -> None:
        """Until `stopped`."""
        await asyncio.gather(*(self._one() for _ in range(connections)))

    async def _one(self) -> None:
        writer = None
        while not self.stopped:
            if writer is None:
                host, port = self.where()
                try:
                    reader, writer = await asyncio.open_connection(host, port)
                except OSError:
                    self.unsent += 1
                    await asyncio.sleep(0.01)
                    continue
            try:
                writer.write(self.request)
                head = await reader.readuntil(b"\r\n\r\n")
                found = _LENGTH.search(head)
                assert found
                body = await reader.readexactly(int(found[1]))
            except (OSError, asyncio.IncompleteReadError):
                self.lost += 1
                writer.close()
                writer = None
                continue
            self._count(int(head[9:12]), json.loads(body))
            self.by_port[port] += 1
            if b"connection: close" in head:
                writer.close()
                writer = None
            await asyncio.sleep(self.pause_s)
        if writer is not None:
            writer.close()

    def _count(self, code: int, body: dict[str, Any]) -> None:
        self.codes[code] += 1
        if code == 200:
            self.models[body["model"]] += 1
            self.answers.add((body["model"], repr(body.get("score", body.get("scores")))))


def post(path: str, body: bytes, *, token: bytes | None = None) -> bytes:
    """A request as bytes."""
    bearer = b"authorization: Bearer " + token + b"\r\n" if token else b""
    head = (
        b"POST %b HTTP/1.1\r\nhost: scoring\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
    )
    return head % (path.encode(), bearer, len(body)) + body
