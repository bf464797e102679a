"""Members reach the Fleet API, spelt as it is spelt, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from lane_side import Side

from hansa.server.lane.calls import SMALL
from hansa.server.lane.fleet_only import FLEET_PATHS, LARGE, SELF_REGISTRATION, FleetOnly


class Reached(Exception):
    """The wrapped application was called."""


async def _app(scope: Any, receive: Any, send: Any) -> None:
    raise Reached


def _status(path: str, raw: bytes | None = None, *, node_auth: bool = True, **scope: Any) -> int | None:
    """The status of the answer, or None when the request went through; the limit is twice `SMALL`."""
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    request = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode() if raw is None else raw,
        "headers": [],
        "root_path": "",
        **scope,
    }
    try:
        asyncio.run(FleetOnly(_app, 2 * SMALL, node_auth=node_auth)(request, receive, send))
    except Reached:
        return None
    return int(sent[0]["status"])


def test_every_fleet_path_of_flower_is_open() -> None:
    of_flower = {path for _, path in PROTOBUF_REQUEST_TYPES if path.startswith("/v1/fleet/")}
    assert of_flower == FLEET_PATHS | SELF_REGISTRATION
    assert all(_status(path) is None for path in FLEET_PATHS)


def test_nodes_register_themselves_only_where_they_are_not_authenticated() -> None:
    assert {_status(path) for path in SELF_REGISTRATION} == {404}
    assert {_status(path, node_auth=False) for path in SELF_REGISTRATION} == {None}


def test_every_other_path_of_flower_is_closed() -> None:
    others = {path for _, path in PROTOBUF_REQUEST_TYPES} - FLEET_PATHS
    assert {_status(path) for path in [*others, "/", "/health", "/docs", "/openapi.json"]} == {404}


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/v1/fleet/../control/start-run", None),
        ("/v1/control/start-run", b"/v1/fleet/..%2fcontrol/start-run"),
        ("/v1/control/start-run", b"/v1/%63ontrol/start-run"),
        ("/v1/fleet/pull-messages", b"/v1/fleet/pull%2Dmessages"),
        ("/v1/fleet/pull-messages", b"/v1/control/../fleet/pull-messages"),
        ("/v1/fleet//pull-messages", None),
        ("//v1/fleet/pull-messages", None),
        ("/v1/fleet/pull-messages/", None),
        ("/v1/fleet/pull-messages;x=1", None),
        ("/v1/fleet/pull-messages\x00", b"/v1/fleet/pull-messages%00"),
        ("/V1/FLEET/PULL-MESSAGES", None),
        ("/v1/fleet", None),
        ("", None),
        ("http://inner/v1/control/start-run", None),
    ],
)
def test_other_spellings_of_a_path_are_closed(path: str, raw: bytes | None) -> None:
    assert _status(path, raw) == 404


def test_a_prefix_set_by_a_proxy_is_not_believed() -> None:
    assert _status("/v1/fleet/pull-messages", root_path="/v1/control") == 404


def test_only_what_carries_objects_may_be_large() -> None:
    def stating(size: int) -> set[str]:
        headers = [(b"content-length", str(size).encode())]
        return {path for path in FLEET_PATHS if _status(path, headers=headers) is None}

    assert stating(SMALL) == FLEET_PATHS
    assert stating(SMALL + 1) == stating(2 * SMALL) == LARGE
    assert stating(2 * SMALL + 1) == set()


@pytest.mark.parametrize("lane", [True, False])
def test_a_stranger_cannot_make_the_server_keep_a_large_body(tmp_path: Path, lane: bool) -> None:
    """No length is stated: Flower would collect the parts, and ask who sent them at the end."""
    side = Side(tmp_path, lane=lane, max_body=64 << 20)
    app = FleetOnly(side.outer, 64 << 20)
    sent = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(512):
            sent += SMALL
            yield bytes(SMALL)

    async def post(path: str) -> int:
        async with side.client(app) as client:
            headers = {"content-type": "application/protobuf"}
            return (await client.post(path, content=parts(), headers=headers)).status_code

    for path in FLEET_PATHS - LARGE:
        sent = 0
        assert asyncio.run(post(path)) == 413, path
        assert sent <= 2 * SMALL, path


def test_the_inner_listener_passes_no_huge_body_on(tmp_path: Path) -> None:
    side = Side(tmp_path, lane=True)
    assert asyncio.run(side.post("/v1/control/list-runs", bytes(17 << 20))).status_code == 413


def test_nothing_but_http_is_served() -> None:
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    async def never() -> Any:
        raise AssertionError

    asyncio.run(FleetOnly(_app, 10)({"type": "websocket", "path": "/v1/fleet/get-fab"}, never, send))
    assert sent == [{"type": "websocket.close", "code": 1000}]
