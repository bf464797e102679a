"""HTTP over a Unix socket, one request a connection."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

# An answer that is larger is none of those that are asked for here.
MOST_BYTES = 8 * 1024 * 1024


class UnixConnection(http.client.HTTPConnection):
    """A connection to whoever listens on that socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Open it."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(
    path: Path, method: str, target: str, body: Any = None, *, timeout_s: float = 10.0
) -> tuple[int, Any]:
    """Status and JSON of the answer; None where it has no body.

    Raises
    ------
    OSError : nobody listens, or not in time
    ValueError : the answer is no JSON, or too large
    """
    content = None if body is None else json.dumps(body)
    connection = UnixConnection(path, timeout_s)
    try:
        connection.request(method, target, content, {"Content-Type": "application/json"} if content else {})
        response = connection.getresponse()
        answer = response.read(MOST_BYTES + 1)
    except http.client.HTTPException as error:
        raise ValueError(f"no HTTP: {type(error).__name__}") from None
    finally:
        connection.close()
    if len(answer) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} bytes")
    return response.status, json.loads(answer) if answer.strip() else None
