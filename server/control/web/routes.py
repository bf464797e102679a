"""The page's own routes: its files, which need no token and hold no data, and the stream, which takes one."""

from __future__ import annotations

import asyncio
from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.types import Receive, Scope, Send

from hansa.server.control.access import may_read, scope_of
from hansa.server.control.desk import Desk
from hansa.server.control.problems import RESPONSES, NotThere
from hansa.server.control.web.hub import Hub, Listener
from hansa.server.control.web.reading import Cursor
from hansa.server.tokens import Scope as TokenScope

# A page that takes nothing for so long is gone.
STALLED_S = 30.0
_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
HEADERS = {
    # Nothing from elsewhere, nothing inline, and no text is ever made into markup.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

files = APIRouter(include_in_schema=False)
stream = APIRouter(prefix="/v1", tags=["page"], dependencies=[Depends(may_read)], responses=RESPONSES)


def read_assets() -> dict[str, bytes]:
    """The page's files by name."""
    folder = resources.files("hansa.server.control.web") / "assets"
    return {it.name: it.read_bytes() for it in folder.iterdir() if it.name.rpartition(".")[2] in _KINDS}


_ASSETS = read_assets()


@files.get("/")
def index() -> Response:
    """The page."""
    return asset("index.html")


@files.get("/page/{name}")
def asset(name: str) -> Response:
    """One of its files."""
    content = _ASSETS.get(name)
    if content is None:
        raise NotThere(f"the page has no file '{name}'")
    return Response(content, media_type=_KINDS[name.rpartition(".")[2]], headers=HEADERS)


class EventStream(Response):
    """A stream of server-sent events that ends when the page is gone, stalls, or control ends."""

    media_type = "text/event-stream"

    def __init__(self, listener: Listener, stalled_s: float = STALLED_S) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._listener = listener
        self._stalled_s = stalled_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it."""
        tasks = {asyncio.create_task(_gone(receive)), asyncio.create_task(self._send(send))}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (TimeoutError, OSError):
            pass
        finally:
            self._listener.leave()
            for task in tasks:
                task.cancel()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        async for piece in self._listener.pieces():
            message = {"type": "http.response.body", "body": piece, "more_body": True}
            await asyncio.wait_for(send(message), self._stalled_s)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _shown(desk: Desk, job: str | None = None) -> str | None:
    return None if job is None else desk.job(job).job


@stream.get(
    "/stream",
    summary="What changes, as server-sent events",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Messages of what changed"},
        503: {"description": "As many pages listen as may"},
    },
)
async def listen(
    request: Request,
    job: Annotated[str | None, Depends(_shown)],
    scope: Annotated[TokenScope, Depends(scope_of)],
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Of one job, or of whichever runs. With `Last-Event-ID` it goes on after that message."""
    hub: Hub = request.app.state.hub
    return EventStream(hub.join(job, scope, Cursor.parse(last_event_id)))
