"""What members reach: the Fleet API and nothing else.

Control has no authentication in open-source Flower: whoever reaches it submits runs and registers
nodes. The view therefore knows the Fleet paths by heart and answers 404 to every other spelling,
instead of trying to recognise what must be kept out. Flower reads a whole body before it asks who
sent it, so only the two paths that carry a model's numbers take large ones.
"""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hansa.server.lane.body import limited
from hansa.server.lane.calls import SMALL

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
        "send-node-heartbeat",
    )
)
# Nodes that make themselves known: Flower refuses both where nodes are authenticated.
SELF_REGISTRATION = frozenset({"/v1/fleet/register-node", "/v1/fleet/unregister-node"})
LARGE = frozenset({"/v1/fleet/push-messages", "/v1/fleet/push-object"})


class FleetOnly:
    """ASGI application: `app` restricted to the Fleet API.

    Parameters
    ----------
    max_body : bytes of a request that carries objects; every other gets 64 KiB
    node_auth : whether nodes are authenticated; without, they may register themselves
    """

    def __init__(self, app: ASGIApp, max_body: int, *, node_auth: bool = True) -> None:
        self._app = app
        self._max_body = max_body
        self._paths = FLEET_PATHS if node_auth else FLEET_PATHS | SELF_REGISTRATION

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            return
        path = scope["path"]
        # raw_path is what the client sent: an encoded or dotted spelling is not the path itself.
        raw = scope.get("raw_path", b"").partition(b"?")[0]
        if path not in self._paths or raw != path.encode() or scope.get("root_path"):
            await PlainTextResponse("Not Found", status_code=404)(scope, receive, send)
            return
        limit = self._max_body if path in LARGE else min(SMALL, self._max_body)
        await limited(self._app, scope, receive, send, limit)
