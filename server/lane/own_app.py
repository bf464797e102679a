"""Runs are Hansa's own: a bundle that brings code, or names another ServerApp, is not started.

Open-source Flower starts whatever is submitted by whoever reaches Control, in a process that can read
what a ServerApp reads. The executors run one application, the installed one; a bundle needs to hold
nothing but its pyproject.toml.
"""

from __future__ import annotations

import io
import tomllib
import zipfile
import zlib

from flwr.proto.control_pb2 import StartRunRequest
from google.protobuf.message import DecodeError
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hansa.contract.errors import InputError

SERVER_APP = "hansa.server.app:app"
_START_RUN = "/v1/control/start-run"
_LARGEST = 1 << 20


class OwnAppOnly:
    """ASGI application: `app`, with start-run answered 403 for a bundle that is not Hansa's own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A path that is spelt otherwise is no route of Flower's: it answers 404 by itself.
        if scope["type"] != "http" or scope["path"].rstrip("/") != _START_RUN:
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        try:
            check_bundle(body)
        except InputError as error:
            await JSONResponse({"detail": str(error)}, status_code=403)(scope, receive, send)
            return
        delivered = False

        async def again() -> Message:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)


def check_bundle(body: bytes) -> None:
    """Whether a start-run request's bundle is Hansa's own; garbage is left to Flower to refuse.

    Raises
    ------
    InputError : the bundle brings code or names another ServerApp
    """
    if len(body) > _LARGEST:
        raise InputError(
            f"a bundle of {len(body)} bytes is not Hansa's: its own holds a pyproject.toml and no code"
        )
    try:
        content = StartRunRequest.FromString(body).fab.content
    except DecodeError:
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as bundle:
            code = [name for name in bundle.namelist() if name.endswith((".py", ".pyc", ".so", ".pth"))]
            if bundle.getinfo("pyproject.toml").file_size > _LARGEST:
                raise InputError("the bundle's pyproject.toml is too large")
            pyproject = tomllib.loads(bundle.read("pyproject.toml").decode())
        server_app = pyproject["tool"]["flwr"]["app"]["components"]["serverapp"]
    except (zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError, NotImplementedError):
        raise InputError(
            "the bundle is not Hansa's: it has no pyproject.toml that names a ServerApp"
        ) from None
    if code:
        raise InputError(
            f"the bundle brings code ({code[0]}); this server runs the installed application only"
        )
    if server_app != SERVER_APP:
        raise InputError(f"the bundle names ServerApp '{server_app}'; this server runs {SERVER_APP} only")


async def _read(receive: Receive) -> bytes:
    parts = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return b""
        part = event.get("body", b"")
        size += len(part)
        if size <= 2 * _LARGEST:
            parts.append(part)
        if not event.get("more_body", False):
            return b"".join(parts)
