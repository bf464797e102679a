"""What members reach: the Fleet API and nothing else.

Control has no authentication in open-source Flower: whoever reaches it submits runs and registers
nodes. The view therefore knows the Fleet paths by heart and answers 404 to every other spelling,
instead of trying to recognise what must be kept out.
"""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hansa.server.lane.body import limited

FLEET_PATHS = frozenset(
    f"/v1/fleet/{name}"
    for name in (
        "activate-node",
        "confirm-message-received",
        "deactivate-node",
        "get-fab",
        "get-run",
        "pull-messages",
        "pull-object",
        "push-messages",
        "push-object",
        "register-node",
        "send-node-heartbeat",
        "unregister-node",
    )
)


class FleetOnly:
    """ASGI application: `app` restricted to `FLEET_PATHS`, bodies to `max_body` bytes."""

    def __init__(self, app: ASGIApp, max_body: int) -> None:
        self._app = app
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            return
        path = scope["path"]
        # raw_path is what the client sent: an encoded or dotted spelling is not the path itself.
        raw = scope.get("raw_path", b"").partition(b"?")[0]
        if path not in FLEET_PATHS or raw != path.encode() or scope.get("root_path"):
            await PlainTextResponse("Not Found", status_code=404)(scope, receive, send)
            return
        await limited(self._app, scope, receive, send, self._max_body)
