"""The lane itself: one ASGI application around Flower's.

A hot request goes: method and media type, body (bounded), protobuf, authentication, version, handler;
each step is Flower's own function, in Flower's order, so what stock refuses is refused here with the
same status. Flower's semantics stay Flower's; the lane only decides when a pull is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastapi import HTTPException, Request, Response
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.server.superlink.linkstate import InMemoryLinkState
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, TASK_TOKEN_HEADER
from flwr.supercore.dependencies.superexec import authenticate_superexec_request
from flwr.supercore.dependencies.task import authenticate_task
from flwr.supercore.dependencies.version import VersionDependency
from flwr.supercore.error import http_error_translator
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
from flwr.superlink.routers.fleet.node_auth import authenticate_node
from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Receive, Scope, Send

from hansa.server.lane.arrivals import Arrivals
from hansa.server.lane.bells import Bells, Key
from hansa.server.lane.body import ClientGoneError, limited, read_body, stated_length
from hansa.server.lane.calls import PATHS, SMALL, Call, Path
from hansa.server.lane.messages import forget_messages, inline_objects, store_inlined

NODE_HOLD_S = 15.0
GRID_HOLD_S = 2.0
TASK_HOLD_S = 2.0
MAX_BODY_BYTES = 256 << 20
# Requests that the lane passes on: Flower reads them whole, and its largest is a FAB of 10 MiB.
_PASSED_ON_BYTES = 16 << 20
_START_RUN = "/v1/control/start-run"
_GONE = 499


class Lane:
    """Flower's SuperLink application with a direct lane.

    Parameters
    ----------
    app : what `create_app` returned
    max_body : bytes of a request that carries objects; others get 64 KiB
    """

    def __init__(self, app: Any, *, max_body: int = MAX_BODY_BYTES) -> None:
        self.app = app
        self.bells = Bells()
        self._arrivals = Arrivals(self.bells)
        self._max_body = max_body
        self._in_memory = isinstance(app.state.linkstate_factory.state(), InMemoryLinkState)
        self._fleet_version = VersionDependency(
            component_name="SuperLink",
            connection_name="SuperNode <-> SuperLink Fleet API",
            reject_incompatible=False,
        )
        self._runtime_version = VersionDependency(
            component_name="SuperLink", connection_name="Caller <-> SuperLink Runtime API"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
        elif (path := PATHS.get(scope["path"])) is not None:
            await self._serve(path, scope, receive, send)
        else:
            await limited(self.app, scope, receive, send, _PASSED_ON_BYTES)
            if scope["path"] == _START_RUN:
                self.bells.ring(("tasks",))

    async def _serve(self, path: Path, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request({**scope, "app": self.app, "state": dict(scope.get("state") or {})}, receive)

        async def answer(request: Request) -> Response:
            try:
                call = await self._authenticated(path, request)
                message = await self._answer(path, call)
            except ClientGoneError:
                return Response(status_code=_GONE)
            return Response(message.SerializeToString(), media_type=PROTOBUF_MEDIA_TYPE)

        response = await http_error_translator(request, answer)
        await response(scope, receive, send)

    async def _authenticated(self, path: Path, request: Request) -> Call:
        ProtobufTranslationMiddleware._check_request_media_type(request)
        state = self.app.state.linkstate_factory.state()
        size = stated_length(request.scope)
        if path.large and (size is None or size > SMALL):
            # Strangers get no large body read: who sends is checked on the headers alone first.
            self._check_sender(path, request, state)
        body = await read_body(request, self._max_body if path.large else SMALL)
        message = ProtobufTranslationMiddleware._parse_request(body, path.request_type)
        request.state.protobuf_request = message
        if path.api == "fleet":
            await self._run(authenticate_node, request)
            self._fleet_version(request)
            _check_reply_is_own(message)
            return Call(request, message, state)
        self._runtime_version(request)
        if path.api == "superexec":
            authenticate_superexec_request(request, state, "/flwr.proto.Runtime/AcquireTask")
            return Call(request, message, state)
        task = authenticate_task(request, request.headers.get(TASK_TOKEN_HEADER), state)
        return Call(request, message, state, task)

    def _check_sender(self, path: Path, request: Request, state: Any) -> None:
        if path.api == "runtime":
            authenticate_task(request, request.headers.get(TASK_TOKEN_HEADER), state)
            return
        node_id = None
        with contextlib.suppress(ValueError):
            key = b64decode(request.headers.get(FLEET_HTTP_PUBLIC_KEY_HEADER, ""), validate=True)
            node_id = state.get_node_id_by_public_key(key)
        if node_id is None:
            raise HTTPException(status_code=401, detail="Invalid SuperNode authentication")
        request.state.protobuf_request = PullMessagesRequest(node=Node(node_id=node_id))
        authenticate_node(request)

    async def _answer(self, path: Path, call: Call) -> Any:
        match call.request.scope["path"]:
            case "/v1/fleet/pull-messages":
                return await self._pull_for_node(path, call)
            case "/v1/runtime/pull-messages":
                return await self._pull_for_run(path, call)
            case "/v1/fleet/push-messages" | "/v1/runtime/push-messages":
                return await self._push(path, call)
            case "/v1/fleet/push-object" | "/v1/runtime/push-object":
                response = await self._run(path.handler, call)
                if response.stored:
                    self._arrivals.stored(call.message.session_id, call.message.object_id)
                return response
            case "/v1/runtime/acquire-task":

                async def acquire() -> Any:
                    response = await self._run(path.handler, call)
                    return response, bool(response.token)

                return await self._held(call, ("tasks",), TASK_HOLD_S, acquire)
            case _:
                return await self._run(path.handler, call)

    async def _pull_for_node(self, path: Path, call: Call) -> Any:
        key: Key = ("node", call.message.node.node_id)

        async def pull() -> Any:
            # Flower hands out a node's oldest message, complete or not: wait until all of them are.
            if self._arrivals.on_their_way(key):
                return None, False
            response = await self._run(path.handler, call)
            return response, bool(response.messages_list)

        response = await self._held(call, key, NODE_HOLD_S, pull)
        if response is None:
            response = await self._run(path.handler, call)
        return await self._run(inline_objects, call, response)

    async def _pull_for_run(self, path: Path, call: Call) -> Any:
        key: Key = ("run", call.task.run_id)
        wanted = list(call.message.message_ids)
        await self._run(forget_messages, call)

        async def pull() -> Any:
            early = self._arrivals.on_their_way(key)
            ready = type(call.message)(message_ids=[it for it in wanted if it not in early])
            response = await self._run(path.handler, replace(call, message=ready))
            return response, bool(response.messages_list) or not wanted

        response = await self._held(call, key, GRID_HOLD_S, pull)
        return await self._run(inline_objects, call, response)

    async def _push(self, path: Path, call: Call) -> Any:
        response = await self._run(path.handler, call)
        await self._run(store_inlined, call, response)
        sent = [it.metadata for it in call.message.messages_list]
        messages: list[tuple[Key, str]]
        if call.task is None:
            messages = [(("run", it.run_id), it.reply_to_message_id) for it in sent]
        else:
            messages = [(("node", it.dst_node_id), it.message_id) for it in sent]
        self._arrivals.expect(response.session_id, response.objects_to_push, messages)
        return response

    async def _held(self, call: Call, key: Key, hold_s: float, look: Callable[[], Any]) -> Any:
        """Look until something is found, for at most `hold_s`; look again whenever the bell rings.

        A client that hangs up is given nothing: Flower delivers once, and it would be lost.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + hold_s
        gone: asyncio.Task[Message] | None = None
        with self.bells.listen(key) as bell:
            try:
                while True:
                    response, found = await look()
                    left = deadline - loop.time()
                    if found or left <= 0 or self.bells.closing:
                        return response
                    if gone is None:
                        gone = asyncio.ensure_future(call.request.receive())
                    rung = asyncio.ensure_future(bell.wait())
                    await asyncio.wait({rung, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                    rung.cancel()
                    if gone.done():
                        raise ClientGoneError
                    bell.clear()
            finally:
                if gone is not None:
                    gone.cancel()

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """In place when the state is memory (microseconds); else, or for much data, in a thread."""
        size = stated_length(arguments[0].request.scope) if isinstance(arguments[0], Call) else 0
        if self._in_memory and (size or 0) <= (1 << 20):
            return function(*arguments)
        return await run_in_threadpool(function, *arguments)


def _check_reply_is_own(message: Any) -> None:
    """A node answers for itself only. Flower leaves this to message ids being hard to guess."""
    for it in getattr(message, "messages_list", ()):
        if it.metadata.src_node_id != message.node.node_id:
            raise HTTPException(status_code=401, detail="Invalid SuperNode authentication")
