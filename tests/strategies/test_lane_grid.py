"""What one pull brings: bounded, made reply by reply, and dropped as it is taken."""

from __future__ import annotations

import time
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Message
from flwr.app.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)

from hansa.contract.content import unwrap, wrap
from hansa.contract.inlined import add_inlined, read_inlined
from hansa.strategies.lane_grid import PULL_BYTES, LaneGrid

MIB = 1 << 20


class Server:
    """A lane with replies that are all there: inlined as `server.lane.messages` does it, else given one by one."""

    def __init__(self, payloads: list[bytes]) -> None:
        self.replies = [_reply(number, payload) for number, payload in enumerate(payloads)]
        self.pulled: list[str] = []
        self.confirmed: list[str] = []

    def PullMessages(self, request: Any) -> PullAppMessagesResponse:
        room, answer = read_inlined(request).limit, PullAppMessagesResponse()
        for header, tree, contents in self.replies:
            answer.messages_list.append(header)
            answer.message_object_trees.append(tree)
            if sum(map(len, contents.values())) <= room:
                room -= sum(map(len, contents.values()))
                add_inlined(answer, contents.values())
        return PullAppMessagesResponse.FromString(answer.SerializeToString())

    def PullObject(self, request: Any) -> PullObjectResponse:
        self.pulled.append(request.object_id)
        content = next(it[request.object_id] for *_, it in self.replies if request.object_id in it)
        return PullObjectResponse(object_found=True, object_available=True, object_content=content)

    def ConfirmMessageReceived(self, request: Any) -> None:
        self.confirmed.append(request.message_object_id)

    def grid(self) -> LaneGrid:
        run = SimpleNamespace(run_id=1)
        return LaneGrid(SimpleNamespace(_runtime_client=self, run=run, node=None))  # type: ignore[arg-type]


def _reply(number: int, payload: bytes) -> tuple[Any, Any, dict[str, bytes]]:
    metadata = Metadata(1, "", number, 0, f"request {number}", "g", time.time(), 100.0, "train")
    message = make_message(metadata, wrap(payload))
    with no_object_id_recompute():
        message.metadata.__dict__["_message_id"] = message.object_id
        contents = {key: it.deflate() for key, it in get_all_nested_objects(message).items()}
        return message_to_proto(remove_content_from_message(message)), get_object_tree(message), contents


def payloads_of(replies: Any) -> list[bytes]:
    return [unwrap(reply.content) for reply in replies]


def test_one_pull_brings_many_small_replies_and_few_large_ones() -> None:
    small = Server([bytes([number]) * 1000 for number in range(250)])
    assert payloads_of(small.grid().pull_messages([])) == [bytes([it]) * 1000 for it in range(250)]
    assert small.pulled == []
    large = Server([bytes([number]) * (4 * MIB - 10_000) for number in range(4)])
    grid = large.grid()
    assert [it[0] for it in payloads_of(grid.pull_messages([]))] == [0, 1, 2, 3]
    assert grid.held
    # Two fit; of each other one message, content and record come by themselves.
    assert PULL_BYTES == 8 * MIB
    assert len(large.pulled) == 2 * 3
    assert large.confirmed == [it.metadata.message_id for it, *_ in large.replies[2:]]


def test_what_was_taken_is_held_no_longer_and_the_rest_is_not_made_yet() -> None:
    server = Server([bytes([number]) * MIB for number in range(7)])
    grid = server.grid()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        replies = grid.pull_messages([])
        for left in range(6, -1, -1):
            assert unwrap(next(replies).content)[0] == 6 - left
            assert tracemalloc.get_traced_memory()[0] - before < (left + 0.5) * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("payload", [b"the same", b"x" * (5 * MIB)])
def test_replies_that_share_their_content_are_all_made(payload: bytes) -> None:
    server = Server([payload] * 3)
    assert payloads_of(server.grid().pull_messages([])) == [payload] * 3


def test_a_reply_whose_objects_are_gone_is_an_error_and_the_others_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hansa.strategies.lane_grid._PATIENCE_S", 0.2)
    server = Server([b"x" * (9 * MIB), b"y"])
    server.PullObject = lambda request: PullObjectResponse(object_found=True)  # type: ignore[method-assign]
    lost, there = list[Message](server.grid().pull_messages([]))
    assert "never arrived whole" in lost.error.reason
    assert lost.metadata.reply_to_message_id == "request 0"
    assert unwrap(there.content) == b"y"
