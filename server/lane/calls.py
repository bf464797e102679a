"""The hot paths: which request each takes, how large it may be, and which of Flower's handlers answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from flwr.common.constant import SUPERLINK_NODE_ID
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
from flwr.supercore.servicer.runtime import runtime_handlers as core_runtime_handlers
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers
from starlette.requests import Request

SMALL = 64 << 10


@dataclass(frozen=True)
class Call:
    """One authenticated request: who asks what of which state. `task` is None for the Fleet API."""

    request: Request
    message: Any
    state: Any
    task: Any = None

    @property
    def node(self) -> Any:
        """The node that asks: the member's own, or the SuperLink's for a ServerApp."""
        return self.message.node if self.task is None else Node(node_id=SUPERLINK_NODE_ID)


Handler = Callable[[Call], Any]


@dataclass(frozen=True)
class Path:
    """A hot path. `large` bodies may carry objects; others are small by nature."""

    api: Literal["fleet", "runtime", "superexec"]
    request_type: type[Any]
    handler: Handler
    large: bool = False


def _activate(call: Call) -> Any:
    """Flower refuses a node that is online, so one that crashed stays out until its heartbeat expires.

    The request carries the node's own signature, so its restart is believed at once.
    """
    node_id = call.state.get_node_id_by_public_key(call.message.public_key)
    if node_id is not None:
        call.state.deactivate_node(node_id)
    return fleet_handlers.activate_node(request=call.message, state=call.state)


PATHS: dict[str, Path] = {
    "/v1/fleet/activate-node": Path("fleet", ActivateNodeRequest, _activate),
    "/v1/fleet/send-node-heartbeat": Path(
        "fleet",
        SendNodeHeartbeatRequest,
        lambda c: fleet_handlers.send_node_heartbeat(request=c.message, state=c.state),
    ),
    "/v1/fleet/pull-messages": Path(
        "fleet",
        PullMessagesRequest,
        lambda c: fleet_handlers.pull_messages(request=c.message, state=c.state, store=c.state.object_store),
    ),
    "/v1/fleet/push-messages": Path(
        "fleet",
        PushMessagesRequest,
        lambda c: fleet_handlers.push_messages(request=c.message, state=c.state),
        large=True,
    ),
    "/v1/fleet/push-object": Path(
        "fleet",
        PushObjectRequest,
        lambda c: fleet_handlers.push_object(request=c.message, state=c.state),
        large=True,
    ),
    "/v1/fleet/pull-object": Path(
        "fleet",
        PullObjectRequest,
        lambda c: fleet_handlers.pull_object(request=c.message, state=c.state),
    ),
    "/v1/fleet/confirm-message-received": Path(
        "fleet",
        ConfirmMessageReceivedRequest,
        lambda c: fleet_handlers.confirm_message_received(
            request=c.message, state=c.state, store=c.state.object_store
        ),
    ),
    "/v1/runtime/acquire-task": Path(
        "superexec",
        AcquireTaskRequest,
        lambda c: runtime_handlers.acquire_task(c.message, c.state),
    ),
    "/v1/runtime/send-task-heartbeat": Path(
        "runtime",
        SendTaskHeartbeatRequest,
        lambda c: core_runtime_handlers.send_task_heartbeat(c.message, c.state, c.task),
    ),
    "/v1/runtime/get-nodes": Path(
        "runtime",
        GetNodesRequest,
        lambda c: runtime_handlers.get_nodes(c.message, c.state, c.task),
    ),
    "/v1/runtime/push-messages": Path(
        "runtime",
        PushAppMessagesRequest,
        lambda c: runtime_handlers.push_messages(c.message, c.state, c.task),
        large=True,
    ),
    "/v1/runtime/pull-messages": Path(
        "runtime",
        PullAppMessagesRequest,
        lambda c: runtime_handlers.pull_messages(c.message, c.state, c.task),
        large=True,
    ),
    "/v1/runtime/push-object": Path(
        "runtime",
        PushObjectRequest,
        lambda c: runtime_handlers.push_object(c.message, c.state, c.task),
        large=True,
    ),
    "/v1/runtime/pull-object": Path(
        "runtime",
        PullObjectRequest,
        lambda c: runtime_handlers.pull_object(c.message, c.state, c.task),
    ),
    "/v1/runtime/confirm-message-received": Path(
        "runtime",
        ConfirmMessageReceivedRequest,
        lambda c: runtime_handlers.confirm_message_received(c.message, c.state, c.task),
    ),
}


def push_object(call: Call, run_id: int, session_id: str, object_id: str, content: bytes) -> bool:
    """Store one object of a push through the handler that its own request would have reached."""
    request = PushObjectRequest(
        node=call.node, run_id=run_id, session_id=session_id, object_id=object_id, object_content=content
    )
    if call.task is None:
        return bool(fleet_handlers.push_object(request=request, state=call.state).stored)
    return bool(runtime_handlers.push_object(request, call.state, call.task).stored)


def pull_object(call: Call, run_id: int, object_id: str) -> bytes | None:
    """An object's content through the handler of its own request; None when it is not there."""
    request = PullObjectRequest(node=call.node, run_id=run_id, object_id=object_id)
    if call.task is None:
        answer = fleet_handlers.pull_object(request=request, state=call.state)
    else:
        answer = runtime_handlers.pull_object(request, call.state, call.task)
    return bytes(answer.object_content) if answer.object_available else None


def confirm(call: Call, run_id: int, message_id: str) -> None:
    """Let Flower forget a message that left with all its objects."""
    request = ConfirmMessageReceivedRequest(node=call.node, run_id=run_id, message_object_id=message_id)
    if call.task is None:
        fleet_handlers.confirm_message_received(
            request=request, state=call.state, store=call.state.object_store
        )
    else:
        runtime_handlers.confirm_message_received(request, call.state, call.task)
