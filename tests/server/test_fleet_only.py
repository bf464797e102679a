"""Members reach the Fleet API, spelt as it is spelt, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

from hansa.server.lane.fleet_only import FLEET_PATHS, FleetOnly


class Reached(Exception):
    """The wrapped application was called."""


async def _app(scope: Any, receive: Any, send: Any) -> None:
    raise Reached


def _status(path: str, raw: bytes | None = None, **scope: Any) -> int | None:
    """The status of the answer, or None when the request went through."""
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
        asyncio.run(FleetOnly(_app, 1000)(request, receive, send))
    except Reached:
        return None
    return int(sent[0]["status"])


def test_every_fleet_path_of_flower_is_open() -> None:
    assert {path for _, path in PROTOBUF_REQUEST_TYPES if path.startswith("/v1/fleet/")} == FLEET_PATHS
    assert all(_status(path) is None for path in FLEET_PATHS)


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


def test_a_stated_body_above_the_limit_is_refused_unread() -> None:
    assert _status("/v1/fleet/get-fab", headers=[(b"content-length", b"1001")]) == 413


def test_nothing_but_http_is_served() -> None:
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    async def never() -> Any:
        raise AssertionError

    asyncio.run(FleetOnly(_app, 10)({"type": "websocket", "path": "/v1/fleet/get-fab"}, never, send))
    assert sent == [{"type": "websocket.close", "code": 1000}]
