"""The lane refuses what Flower refuses: the same requests through both, the same status from both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PullObjectRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    GetNodesRequest,
    PullAppMessagesRequest,
    PushAppMessagesRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from lane_side import Side, node_headers, superexec_headers, task_headers, version_headers

from hansa.server.lane import reasons_to_step_aside

STRANGER = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(autouse=True)
def _no_holding(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NODE_HOLD_S", "GRID_HOLD_S", "TASK_HOLD_S"):
        monkeypatch.setattr(f"hansa.server.lane.app.{name}", 0.0)


@pytest.fixture
def sides(tmp_path: Any) -> tuple[Side, Side]:
    return Side(tmp_path, lane=False), Side(tmp_path, lane=True)


def _fleet_bodies(side: Side, node_id: int | None = None) -> dict[str, Any]:
    node = Node(node_id=node_id or side.node_ids[0])
    return {
        "send-node-heartbeat": SendNodeHeartbeatRequest(node=node, heartbeat_interval=30),
        "pull-messages": PullMessagesRequest(node=node),
        "push-messages": PushMessagesRequest(node=node),
        "push-object": PushObjectRequest(node=node, run_id=1, object_id="0" * 64, session_id="none"),
        "pull-object": PullObjectRequest(node=node, run_id=1, object_id="0" * 64),
        "confirm-message-received": ConfirmMessageReceivedRequest(node=node, run_id=1, message_object_id="0"),
    }


RUNTIME: dict[str, Any] = {
    "get-nodes": GetNodesRequest(),
    "send-task-heartbeat": SendTaskHeartbeatRequest(),
    "push-messages": PushAppMessagesRequest(),
    "pull-messages": PullAppMessagesRequest(),
    "push-object": PushObjectRequest(node=Node(node_id=1), object_id="0" * 64, session_id="none"),
    "pull-object": PullObjectRequest(node=Node(node_id=1), object_id="0" * 64),
    "confirm-message-received": ConfirmMessageReceivedRequest(node=Node(node_id=1), message_object_id="0"),
}


@dataclass(frozen=True)
class Trick:
    """A way to ask: headers, and what is done to body and request."""

    headers: Callable[[Side], Any]
    body: Callable[[bytes], bytes] = lambda body: body
    node: int = 0
    method: str = "POST"


FLEET_TRICKS: dict[str, Trick] = {
    "as it should be": Trick(lambda s: node_headers(s.keys[0])),
    "unsigned": Trick(lambda s: {}),
    "signed by a stranger": Trick(lambda s: node_headers(STRANGER)),
    "a member's key, a stranger's signature": Trick(lambda s: node_headers(STRANGER, shown=s.keys[0])),
    "another member's node": Trick(lambda s: node_headers(s.keys[1])),
    "a stale timestamp": Trick(lambda s: node_headers(s.keys[0], age_s=3600)),
    "a timestamp of tomorrow": Trick(lambda s: node_headers(s.keys[0], age_s=-86400)),
    "a timestamp without zone": Trick(lambda s: node_headers(s.keys[0], timestamp="2026-01-01T00:00:00")),
    "no timestamp at all": Trick(lambda s: node_headers(s.keys[0], timestamp="soon")),
    "a key that is none": Trick(lambda s: {**node_headers(s.keys[0]), "flwr-public-key": "!!"}),
    "garbage for protobuf": Trick(lambda s: node_headers(s.keys[0]), body=lambda _: b"\xff\xff\xff"),
    "an empty body": Trick(lambda s: node_headers(s.keys[0]), body=lambda _: b""),
    "json": Trick(lambda s: {**node_headers(s.keys[0]), "content-type": "application/json"}),
    "a media type with parameters": Trick(
        lambda s: {**node_headers(s.keys[0]), "content-type": "Application/Protobuf; v=1"}
    ),
    "GET": Trick(lambda s: node_headers(s.keys[0]), method="GET"),
    "PUT": Trick(lambda s: node_headers(s.keys[0]), method="PUT"),
    "a trailing slash": Trick(lambda s: node_headers(s.keys[0])),
}


@pytest.mark.parametrize("trick", FLEET_TRICKS)
def test_fleet_requests_are_answered_with_flowers_own_status(sides: tuple[Side, Side], trick: str) -> None:
    how = FLEET_TRICKS[trick]
    seen: dict[str, list[int]] = {}
    for side in sides:
        for path, message in _fleet_bodies(side).items():
            url = f"/v1/fleet/{path}" + ("/" if trick == "a trailing slash" else "")
            body = how.body(message.SerializeToString())
            answer = asyncio.run(side.post(url, body, how.headers(side), method=how.method))
            seen.setdefault(path, []).append(answer.status_code)
    assert {path: codes[0] for path, codes in seen.items()} == {
        path: codes[1] for path, codes in seen.items()
    }
    if trick not in ("as it should be", "a media type with parameters"):
        assert all(codes[1] >= 300 for codes in seen.values()) or trick == "an empty body"


@pytest.mark.parametrize("key", ["own", "stranger", "another's"])
def test_activation_is_refused_as_by_flower(sides: tuple[Side, Side], key: str) -> None:
    codes = []
    for side in sides:
        signing = {"own": side.keys[0], "stranger": STRANGER, "another's": side.keys[1]}[key]
        shown = STRANGER if key == "stranger" else side.keys[0]
        request = ActivateNodeRequest(
            public_key=public_key_to_bytes(shown.public_key()), heartbeat_interval=30
        )
        answer = asyncio.run(side.post("/v1/fleet/activate-node", request, node_headers(signing)))
        codes.append(answer.status_code)
    assert codes[0] == codes[1]
    assert codes[1] == {"own": 200, "stranger": 412, "another's": 401}[key]


def test_a_node_that_crashed_may_come_back_at_once(sides: tuple[Side, Side]) -> None:
    lane = sides[1]
    request = ActivateNodeRequest(
        public_key=public_key_to_bytes(lane.keys[0].public_key()), heartbeat_interval=30
    )
    for _ in range(2):
        answer = asyncio.run(lane.post("/v1/fleet/activate-node", request, node_headers(lane.keys[0])))
        assert answer.status_code == 200


RUNTIME_TRICKS: dict[str, Callable[[str], Any]] = {
    "as it should be": task_headers,
    "without a token": lambda _: version_headers(),
    "with an empty token": lambda _: task_headers(""),
    "with a token that is none": lambda _: task_headers("f" * 256),
    "with two tokens": lambda token: [*task_headers(token).items(), ("flwr-task-token", token)],
    "without a version": lambda token: {"flwr-task-token": token},
    "with an old version": lambda token: {**task_headers(token), "flwr-package-version": "1.0.0"},
    "with json": lambda token: {**task_headers(token), "content-type": "application/json"},
}


@pytest.mark.parametrize("trick", RUNTIME_TRICKS)
def test_runtime_requests_are_answered_with_flowers_own_status(sides: tuple[Side, Side], trick: str) -> None:
    async def codes(side: Side) -> dict[str, int]:
        _, token = await side.start_task()
        found = {}
        for path, message in RUNTIME.items():
            answer = await side.post(f"/v1/runtime/{path}", message, RUNTIME_TRICKS[trick](token))
            found[path] = answer.status_code
            answer = await side.post(f"/v1/runtime/{path}", b"\xff\xff", RUNTIME_TRICKS[trick](token))
            found[f"{path}, garbage"] = answer.status_code
        return found

    stock, lane = (asyncio.run(codes(side)) for side in sides)
    assert stock == lane


def test_a_token_opens_nothing_once_its_run_has_ended(sides: tuple[Side, Side]) -> None:
    async def code(side: Side) -> int:
        run_id, token = await side.start_task()
        side.state.stop_run(run_id)
        answer = await side.post("/v1/runtime/get-nodes", GetNodesRequest(), task_headers(token))
        return answer.status_code

    assert [asyncio.run(code(side)) for side in sides] == [401, 401]


@pytest.mark.parametrize("trick", ["own secret", "wrong secret", "no secret", "replayed"])
def test_tasks_are_given_to_executors_as_by_flower(sides: tuple[Side, Side], trick: str) -> None:
    request = AcquireTaskRequest(supported_task_types=["flwr-serverapp"])

    async def code(side: Side) -> int:
        headers = {
            "own secret": superexec_headers(request),
            "wrong secret": superexec_headers(request, b"x" * 32),
            "no secret": version_headers(),
            "replayed": superexec_headers(request),
        }[trick]
        for _ in range(2 if trick == "replayed" else 1):
            answer = await side.post("/v1/runtime/acquire-task", request, headers)
        return answer.status_code

    stock, lane = (asyncio.run(code(side)) for side in sides)
    assert stock == lane == (200 if trick == "own secret" else 401)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["push-object", "pull-object"])
def test_a_body_above_the_limit_is_refused(sides: tuple[Side, Side], path: str, chunked: bool) -> None:
    """Flower has no limit; here the lane is stricter."""
    lane = sides[1]

    async def parts() -> Any:
        for _ in range(40):
            yield b"\x00" * (64 << 10)

    async def code() -> int:
        async with lane.client() as client:
            content: Any = parts() if chunked else b"\x00" * (40 * 64 << 10)
            headers = {"content-type": "application/protobuf", **node_headers(lane.keys[0])}
            answer = await client.post(f"/v1/fleet/{path}", content=content, headers=headers)
            return answer.status_code

    assert asyncio.run(code()) == 413


def test_a_stranger_gets_no_large_body_read(sides: tuple[Side, Side]) -> None:
    lane = sides[1]
    for headers in ({}, node_headers(STRANGER), node_headers(STRANGER, shown=lane.keys[0])):
        answer = asyncio.run(lane.post("/v1/fleet/push-object", b"\x00" * (512 << 10), headers))
        assert answer.status_code == 401


def test_a_node_cannot_reply_in_anothers_name(sides: tuple[Side, Side]) -> None:
    """Flower lets it; here the lane is stricter."""
    lane = sides[1]
    request = PushMessagesRequest(node=Node(node_id=lane.node_ids[0]))
    request.messages_list.add().metadata.src_node_id = lane.node_ids[1]
    answer = asyncio.run(lane.post("/v1/fleet/push-messages", request, node_headers(lane.keys[0])))
    assert answer.status_code == 401


def test_the_lane_knows_this_flower() -> None:
    assert reasons_to_step_aside() == []


def test_the_lane_steps_aside_when_flower_changed(monkeypatch: pytest.MonkeyPatch, sides: Any) -> None:
    monkeypatch.setattr("flwr.supercore.version.package_version", "1.42.0")
    monkeypatch.delattr("flwr.superlink.servicer.fleet.fleet_handlers.push_object")
    monkeypatch.setattr("flwr.supercore.dependencies.task.authenticate_task", lambda request: None)
    sides[0].app.state.fleet_event_log_plugin = object()
    text = " | ".join(reasons_to_step_aside(sides[0].app))
    for word in ("1.42.0", "push_object is gone", "authenticate_task takes", "event logging"):
        assert word in text
