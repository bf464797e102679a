"""No body above a bound is read, whoever sends it: bodies are read before tokens are looked at."""

from __future__ import annotations

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Room for the largest header that may be signed, in base64, for a few at once.
LIMIT_BYTES = 32 * 2**20


class BodyLimit:
    """Answers 413 to a body that says it is too large, and stops reading one that turns out to be."""

    def __init__(self, app: ASGIApp, limit: int = LIMIT_BYTES) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if stated.isdigit() and int(stated) > self._limit:
            answer = JSONResponse({"detail": f"the body is above the limit of {self._limit} bytes"}, 413)
            await answer(scope, receive, send)
            return
        seen = 0

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            return message if seen <= self._limit else {"type": "http.disconnect"}

        await self._app(scope, bounded, send)
