"""Held pulls, complete messages only, and objects that ride inside push and pull."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from flwr.app import Message
from flwr.app.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    AcquireTaskResponse,
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    PushAppMessagesRequest,
    PushAppMessagesResponse,
)
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from lane_side import Side, node_headers, superexec_headers, task_headers

from hansa.contract.content import wrap
from hansa.contract.inlined import add_inlined, read_inlined
from hansa.server.lane.arrivals import Arrivals
from hansa.server.lane.bells import Bells


class Federation:
    """A lane with one active node and one running task."""

    def __init__(self, tmp_path: Any) -> None:
        self.side = Side(tmp_path, lane=True)
        self.node = Node(node_id=self.side.node_ids[0])

    async def begin(self) -> Federation:
        key = self.side.keys[0]
        request = ActivateNodeRequest(public_key=public_key_to_bytes(key.public_key()), heartbeat_interval=30)
        assert (await self.fleet("activate-node", request)).status_code == 200
        self.run_id, self.token = await self.side.start_task()
        self.side.state.activate_task(self.side.state.get_task_by_token(self.token).task_id)
        return self

    async def fleet(self, path: str, request: Any) -> Any:
        return await self.side.post(f"/v1/fleet/{path}", request, node_headers(self.side.keys[0]))

    async def runtime(self, path: str, request: Any) -> Any:
        return await self.side.post(f"/v1/runtime/{path}", request, task_headers(self.token))

    async def pull(self, limit: int = 0) -> PullMessagesResponse:
        request = PullMessagesRequest(node=self.node)
        add_inlined(request, limit=limit)
        return PullMessagesResponse.FromString((await self.fleet("pull-messages", request)).content)

    def message(self, payload: bytes, reply_to: str = "") -> tuple[Message, dict[str, bytes]]:
        ends = (SUPERLINK_NODE_ID, self.side.node_ids[0])
        source, destination = reversed(ends) if reply_to else ends
        metadata = Metadata(
            run_id=self.run_id,
            message_id="",
            src_node_id=source,
            dst_node_id=destination,
            reply_to_message_id=reply_to,
            group_id="",
            created_at=time.time(),
            ttl=60.0,
            message_type="train",
        )
        message = make_message(metadata, content=wrap(payload))
        message.metadata.__dict__["_message_id"] = message.object_id
        return message, {key: it.deflate() for key, it in get_all_nested_objects(message).items()}

    async def push(self, payload: bytes, *, inline: bool) -> tuple[PushAppMessagesResponse, dict[str, bytes]]:
        message, objects = self.message(payload)
        request = PushAppMessagesRequest(
            messages_list=[message_to_proto(remove_content_from_message(message))],
            message_object_trees=[get_object_tree(message)],
        )
        if inline:
            add_inlined(request, objects.values())
        answer = await self.runtime("push-messages", request)
        return PushAppMessagesResponse.FromString(answer.content), objects

    async def push_object(self, session: str, object_id: str, content: bytes) -> Any:
        request = PushObjectRequest(
            node=Node(node_id=SUPERLINK_NODE_ID),
            run_id=self.run_id,
            session_id=session,
            object_id=object_id,
            object_content=content,
        )
        return await self.runtime("push-object", request)


def test_a_pull_waits_for_a_message_and_gets_it_whole(tmp_path: Any) -> None:
    async def scenario() -> None:
        it = await Federation(tmp_path).begin()
        pull = asyncio.create_task(it.pull(limit=1 << 20))
        await asyncio.sleep(0.05)
        assert not pull.done()
        pushed, objects = await it.push(b"hello", inline=True)
        assert list(pushed.objects_to_push) == []
        answer = await asyncio.wait_for(pull, 1.0)
        assert len(answer.messages_list) == 1
        assert set(read_inlined(answer).objects) == set(objects.values())
        # What left whole is confirmed: Flower keeps no object of it.
        assert len(it.side.state.object_store) == 0

    asyncio.run(scenario())


def test_a_message_is_shown_only_with_its_last_object(tmp_path: Any) -> None:
    async def scenario() -> None:
        it = await Federation(tmp_path).begin()
        pushed, objects = await it.push(b"hello", inline=False)
        assert set(pushed.objects_to_push) == set(objects)
        pull = asyncio.create_task(it.pull())
        for object_id in pushed.objects_to_push:
            await asyncio.sleep(0.02)
            assert not pull.done()
            await it.push_object(pushed.session_id, object_id, objects[object_id])
        answer = await asyncio.wait_for(pull, 1.0)
        # This puller did not ask for contents: it is a stock one, and gets none.
        assert len(answer.messages_list) == 1
        assert read_inlined(answer).objects == ()

    asyncio.run(scenario())


def test_contents_that_do_not_fit_are_left_to_be_pulled(tmp_path: Any) -> None:
    async def scenario() -> None:
        it = await Federation(tmp_path).begin()
        await it.push(b"x" * 1000, inline=True)
        answer = await it.pull(limit=500)
        assert len(answer.messages_list) == 1
        assert read_inlined(answer).objects == ()
        assert len(it.side.state.object_store) == 3

    asyncio.run(scenario())


def test_a_message_taken_back_reaches_nobody(tmp_path: Any) -> None:
    async def scenario() -> None:
        it = await Federation(tmp_path).begin()
        pushed, _ = await it.push(b"hello", inline=True)
        forget = PullAppMessagesRequest()
        add_inlined(forget, forget=[*pushed.message_ids, "another's", ""])
        assert (await it.runtime("pull-messages", forget)).status_code == 200
        assert it.side.state.num_message_ins() == 0
        assert len(it.side.state.object_store) == 0

    asyncio.run(scenario())


def test_a_run_takes_back_only_its_own(tmp_path: Any) -> None:
    async def scenario() -> None:
        it = await Federation(tmp_path).begin()
        pushed, _ = await it.push(b"hello", inline=True)
        _, it.token = await it.side.start_task()
        forget = PullAppMessagesRequest()
        add_inlined(forget, forget=pushed.message_ids)
        await it.runtime("pull-messages", forget)
        assert it.side.state.num_message_ins() == 1

    asyncio.run(scenario())


def test_a_message_of_a_run_that_ended_is_no_failed_pull(tmp_path: Any) -> None:
    async def scenario() -> None:
        it = await Federation(tmp_path).begin()
        await it.push(b"hello", inline=True)
        it.side.state.finish_task(it.side.state.get_task_by_token(it.token).task_id, "stopped", "")
        answer = await it.fleet("pull-messages", PullMessagesRequest(node=it.node))
        assert answer.status_code == 200

    asyncio.run(scenario())


def test_an_object_whose_hash_is_not_asked_for_is_not_stored(tmp_path: Any) -> None:
    async def scenario() -> None:
        it = await Federation(tmp_path).begin()
        message, objects = it.message(b"hello")
        request = PushAppMessagesRequest(
            messages_list=[message_to_proto(remove_content_from_message(message))],
            message_object_trees=[get_object_tree(message)],
        )
        add_inlined(request, [b"something else", *list(objects.values())[1:]])
        answer = PushAppMessagesResponse.FromString((await it.runtime("push-messages", request)).content)
        assert list(answer.objects_to_push) == list(objects)[:1]

    asyncio.run(scenario())


def test_a_run_gets_a_reply_as_soon_as_it_is_whole(tmp_path: Any) -> None:
    async def scenario() -> None:
        it = await Federation(tmp_path).begin()
        pushed, _ = await it.push(b"hello", inline=True)
        await it.pull(limit=1 << 20)
        wanted = PullAppMessagesRequest(message_ids=pushed.message_ids)
        add_inlined(wanted, limit=1 << 20)
        grid = asyncio.create_task(it.runtime("pull-messages", wanted))
        await asyncio.sleep(0.02)
        reply, objects = it.message(b"answer", reply_to=pushed.message_ids[0])
        request = PushMessagesRequest(
            node=it.node,
            messages_list=[message_to_proto(remove_content_from_message(reply))],
            message_object_trees=[get_object_tree(reply)],
        )
        last, *others = objects
        add_inlined(request, [objects[key] for key in others])
        answer = PushMessagesResponse.FromString((await it.fleet("push-messages", request)).content)
        assert list(answer.objects_to_push) == [last]
        await asyncio.sleep(0.02)
        assert not grid.done()
        final = PushObjectRequest(
            node=it.node,
            run_id=it.run_id,
            session_id=answer.session_id,
            object_id=last,
            object_content=objects[last],
        )
        await it.fleet("push-object", final)
        replies = PullAppMessagesResponse.FromString((await asyncio.wait_for(grid, 1.0)).content)
        assert [m.metadata.reply_to_message_id for m in replies.messages_list] == list(pushed.message_ids)
        assert set(read_inlined(replies).objects) == set(objects.values())

    asyncio.run(scenario())


def test_a_puller_that_hung_up_is_given_nothing(tmp_path: Any) -> None:
    """Flower delivers a message once; given to a closed connection it would be lost."""

    async def scenario() -> None:
        it = await Federation(tmp_path).begin()
        body = PullMessagesRequest(node=it.node).SerializeToString()
        hang_up = asyncio.Event()
        events = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if events:
                return events.pop()
            await hang_up.wait()
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            return None

        headers = {"content-type": "application/protobuf", **node_headers(it.side.keys[0])}
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/fleet/pull-messages",
            "raw_path": b"/v1/fleet/pull-messages",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        gone = asyncio.create_task(it.side.outer(scope, receive, send))
        await asyncio.sleep(0.02)
        hang_up.set()
        await asyncio.wait_for(gone, 1.0)
        await it.push(b"hello", inline=True)
        assert len((await it.pull(limit=1 << 20)).messages_list) == 1

    asyncio.run(scenario())


def test_an_executor_waits_for_a_run(tmp_path: Any) -> None:
    async def scenario() -> None:
        it = await Federation(tmp_path).begin()
        request = AcquireTaskRequest(supported_task_types=["flwr-serverapp"])
        asked = asyncio.create_task(
            it.side.post("/v1/runtime/acquire-task", request, superexec_headers(request))
        )
        await asyncio.sleep(0.02)
        assert not asked.done()
        began = time.monotonic()
        await it.side.start_run()
        answer = await asyncio.wait_for(asked, 1.0)
        assert time.monotonic() - began < 1.0
        assert AcquireTaskResponse.FromString(answer.content).token

    asyncio.run(scenario())


def test_a_shutdown_waits_for_no_held_pull(tmp_path: Any) -> None:
    async def scenario() -> None:
        it = await Federation(tmp_path).begin()
        pull = asyncio.create_task(it.pull())
        await asyncio.sleep(0.02)
        assert it.side.lane is not None
        it.side.lane.bells.close()
        assert list((await asyncio.wait_for(pull, 1.0)).messages_list) == []

    asyncio.run(scenario())


def test_a_sender_that_fell_silent_hides_its_message_no_longer() -> None:
    clock = [0.0]
    arrivals = Arrivals(Bells(), clock=lambda: clock[0])
    arrivals.expect("s", ["o"], [(("node", 1), "m")])
    assert arrivals.on_their_way(("node", 1)) == {"m"}
    assert arrivals.on_their_way(("node", 2)) == set()
    clock[0] = 60.0
    assert arrivals.on_their_way(("node", 1)) == set()
    arrivals.stored("s", "o")


def test_an_object_without_a_session_counts_for_the_session_that_misses_it() -> None:
    arrivals = Arrivals(Bells())
    arrivals.expect("s", ["o", "p"], [(("node", 1), "m")])
    arrivals.stored("", "o")
    arrivals.stored("unknown", "p")
    assert arrivals.on_their_way(("node", 1)) == {"m"}
    arrivals.stored("s", "p")
    assert arrivals.on_their_way(("node", 1)) == set()


@pytest.mark.parametrize("objects", [[], [b""], [b"a", b"b" * 300], [b"x" * 20_000]])
def test_inlined_contents_survive_the_wire(objects: list[bytes]) -> None:
    request = PullMessagesRequest(node=Node(node_id=7))
    add_inlined(request, objects, limit=1 << 40)
    parsed = PullMessagesRequest.FromString(request.SerializeToString(deterministic=True))
    assert parsed.node.node_id == 7
    assert read_inlined(parsed).objects == tuple(objects)
    assert read_inlined(parsed).limit == 1 << 40
