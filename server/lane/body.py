"""Request bodies, bounded before they are read. Flower itself reads whatever is sent."""

from __future__ import annotations

from fastapi import HTTPException, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TOO_LARGE = "Request body too large"


class BodyTooLargeError(HTTPException):
    """More bytes than the path admits."""

    def __init__(self) -> None:
        super().__init__(status_code=413, detail=_TOO_LARGE)


class ClientGoneError(Exception):
    """The client hung up before its request was complete."""


def stated_length(scope: Scope) -> int | None:
    """The Content-Length, or None when the request has none (chunked) or an unreadable one."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes; refused by its stated length before any of it is read."""
    if (stated_length(request.scope) or 0) > limit:
        raise BodyTooLargeError
    parts: list[bytes] = []
    size = 0
    while True:
        event = await request.receive()
        if event["type"] == "http.disconnect":
            raise ClientGoneError
        part = event.get("body", b"")
        size += len(part)
        if size > limit:
            raise BodyTooLargeError
        parts.append(part)
        if not event.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def limited(app: ASGIApp, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
    """Call `app` with a body of at most `limit` bytes; answer 413 to more, whatever `app` makes of the cut."""
    refusal = JSONResponse({"detail": _TOO_LARGE}, status_code=413)
    if (stated_length(scope) or 0) > limit:
        await refusal(scope, receive, send)
        return
    size = 0
    answered = False

    async def counted() -> Message:
        nonlocal size
        event = await receive()
        size += len(event.get("body", b""))
        if size > limit:
            raise BodyTooLargeError
        return event

    async def answer(event: Message) -> None:
        nonlocal answered
        # Flower makes a 500 of what its middlewares do not expect.
        if size > limit and not answered:
            return
        answered = True
        await send(event)

    try:
        await app(scope, counted, answer)
    except Exception:
        if size <= limit:
            raise
    if size > limit and not answered:
        await refusal(scope, receive, send)
