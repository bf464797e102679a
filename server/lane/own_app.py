"""Runs are Hansa's own: a request that brings code, or names another ServerApp, starts no run.

Open-source Flower starts whatever is submitted by whoever reaches Control, in a process that can read
what a ServerApp reads. The executors run one application, the installed one; a bundle needs to hold
nothing but its pyproject.toml. What reaches Flower is a request made anew from what was checked: an
application that it would download by name, or keep in store, has no way into that.
"""

from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile
import zlib

from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab
from google.protobuf.message import DecodeError
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hansa.contract.errors import InputError
from hansa.server.runs import CLIENT_APP, SERVER_APP

_START_RUN = "/v1/control/start-run"
# Runs that Flower starts by itself later, past every check.
_START_AUTOMATION = "/v1/control/start-automation"
_LARGEST = 1 << 20
_COMPONENTS = {"serverapp": SERVER_APP, "clientapp": CLIENT_APP}


class OwnAppOnly:
    """ASGI application: `app`, where only Hansa's own ServerApp is started; anything else is answered 403."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A path that is spelt otherwise is no route of Flower's: it answers 404 by itself.
        path = scope["path"].rstrip("/") if scope["type"] == "http" else ""
        if path not in (_START_RUN, _START_AUTOMATION):
            await self._app(scope, receive, send)
            return
        try:
            if path == _START_AUTOMATION:
                raise InputError("this server starts no runs by the clock; jobs are submitted to control")
            body = checked_request(await _read(receive))
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

        headers = [it for it in scope["headers"] if it[0] not in (b"content-length", b"transfer-encoding")]
        headers.append((b"content-length", str(len(body)).encode()))
        await self._app({**scope, "headers": headers}, again, send)


def checked_request(body: bytes) -> bytes:
    """A start-run request made anew: its bundle, which is Hansa's own, its overrides and its federation.

    Raises
    ------
    InputError : it is no such request, brings code, or names another application
    """
    if len(body) > _LARGEST:
        raise InputError(
            f"a bundle of {len(body)} bytes is not Hansa's: its own holds a pyproject.toml and no code"
        )
    try:
        asked = StartRunRequest.FromString(body)
    except DecodeError:
        raise InputError("not a request to start a run") from None
    if asked.app_spec:
        raise InputError(
            f"the request names app '{asked.app_spec}'; this server fetches none and runs {SERVER_APP} only"
        )
    check_bundle(asked.fab.content)
    fab = Fab(hash_str=hashlib.sha256(asked.fab.content).hexdigest(), content=asked.fab.content)
    request = StartRunRequest(fab=fab, override_config=asked.override_config, federation=asked.federation)
    return bytes(request.SerializeToString())


def check_bundle(content: bytes) -> None:
    """Whether a bundle is Hansa's own.

    Raises
    ------
    InputError : the bundle brings code or names another application
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as bundle:
            code = [name for name in bundle.namelist() if name.endswith((".py", ".pyc", ".so", ".pth"))]
            if bundle.getinfo("pyproject.toml").file_size > _LARGEST:
                raise InputError("the bundle's pyproject.toml is too large")
            pyproject = tomllib.loads(bundle.read("pyproject.toml").decode())
        components = dict(pyproject["tool"]["flwr"]["app"]["components"])
        server_app = components["serverapp"]
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
    for name, value in components.items():
        if _COMPONENTS.get(name) != value:
            raise InputError(f"the bundle names {name} '{value}', which is not Hansa's")


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
