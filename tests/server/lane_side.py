"""A SuperLink application in memory, and hand-made requests to it, for the tests of the lane."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import timedelta
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import StartRunRequest, StartRunResponse
from flwr.proto.runtime_pb2 import AcquireTaskRequest, AcquireTaskResponse
from flwr.supercore.auth import create_superexec_auth_metadata, derive_auth_secret
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    TASK_TOKEN_HEADER,
    TaskType,
)
from flwr.supercore.date import now
from flwr.supercore.fab import Fab
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata

from hansa.server.lane import Lane, NodeKey, register_nodes
from hansa.server.runs import build_fab
from hansa.server.superlink import Options, build_app

SECRET = b"0123456789abcdef0123456789abcdef"
PROTOBUF = "application/protobuf"
FAB = build_fab({}, server_app="hansa.server.app:app")


class Side:
    """One application, stock or behind the lane, with two registered nodes."""

    def __init__(self, tmp_path: Any, *, lane: bool, max_body: int = 1 << 20) -> None:
        secret = tmp_path / "secret"
        secret.write_bytes(SECRET)
        app, wrapped = build_app(_options(secret, lane=lane, max_body=max_body))
        self.app = app
        self.lane: Lane | None = wrapped
        self.outer: Any = wrapped or app
        self.state = app.state.linkstate_factory.state()
        self.keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
        names = ["alpha", "beta"]
        nodes = [NodeKey(it, ssh_public(key)) for it, key in zip(names, self.keys, strict=True)]
        ids = register_nodes(self.state, nodes)
        self.node_ids = [ids[it] for it in names]

    def client(self, app: Any = None) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=app or self.outer)
        return httpx.AsyncClient(transport=transport, base_url="http://superlink", timeout=30)

    async def post(
        self,
        path: str,
        body: Any,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        *,
        method: str = "POST",
    ) -> httpx.Response:
        content = body if isinstance(body, bytes) else body.SerializeToString()
        sent = list(headers.items() if isinstance(headers, dict) else headers or [])
        if not any(name == "content-type" for name, _ in sent):
            sent.append(("content-type", PROTOBUF))
        async with self.client() as client:
            return await client.request(method, path, content=content, headers=sent)

    async def start_run(self) -> int:
        """A run that waits for an executor."""
        fab = fab_to_proto(Fab(hashlib.sha256(FAB).hexdigest(), FAB, {}))
        answer = await self.post("/v1/control/start-run", StartRunRequest(fab=fab))
        return StartRunResponse.FromString(answer.content).run_id

    async def start_task(self) -> tuple[int, str]:
        """A run and its ServerApp's token."""
        run_id = await self.start_run()
        request = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
        answer = await self.post("/v1/runtime/acquire-task", request, superexec_headers(request))
        return run_id, AcquireTaskResponse.FromString(answer.content).token


def ssh_public(key: ec.EllipticCurvePrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode()
    )


def node_headers(
    key: ec.EllipticCurvePrivateKey,
    *,
    shown: ec.EllipticCurvePrivateKey | None = None,
    age_s: float = 0.0,
    timestamp: str | None = None,
) -> dict[str, str]:
    """What a node signs; `shown` puts another key than the signing one into the header."""
    stamp = timestamp or (now() - timedelta(seconds=age_s)).isoformat()
    public = public_key_to_bytes((shown or key).public_key())
    return {
        FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(public).decode(),
        TIMESTAMP_HEADER: stamp,
        FLEET_HTTP_SIGNATURE_HEADER: b64encode(sign_message(key, stamp.encode())).decode(),
    }


def task_headers(token: str) -> dict[str, str]:
    return {TASK_TOKEN_HEADER: token, **version_headers()}


def version_headers() -> dict[str, str]:
    return dict(RuntimeVersionMetadata.from_local_component("flwr-serverapp").as_metadata())


def superexec_headers(request: Any, secret: bytes = SECRET) -> dict[str, str]:
    signed = create_superexec_auth_metadata(
        auth_secret=derive_auth_secret(secret), method="/flwr.proto.Runtime/AcquireTask", request=request
    )
    return {**dict(signed), **version_headers()}


def _options(secret: Any, *, lane: bool, max_body: int) -> Options:
    return Options(
        inner=("127.0.0.1", 0),
        fleet=("127.0.0.1", 0),
        certificate=None,
        key=None,
        ca=None,
        insecure=True,
        inner_tls=False,
        node_auth=True,
        nodes=None,
        charter=None,
        signatures=None,
        superexec_secret=secret,
        database=None,
        lane=lane,
        any_app=True,
        max_message_bytes=max_body,
        ready_file=None,
        log_level="warning",
    )
