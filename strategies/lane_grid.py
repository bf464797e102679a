"""Flower's HTTP grid with the objects of messages inside push and pull; see `hansa.contract.inlined`.

Against a stock SuperLink it behaves as `HttpGrid` does. It leans on four private names of `HttpGrid`;
where one is missing the grid is used as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, cast

from flwr.app import Message
from flwr.app.error import Error
from flwr.app.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PullObjectRequest, PushObjectRequest
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PushAppMessagesRequest
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_id,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
    pull_objects,
)
from flwr.superlink.grid.http_grid import HttpGrid

from hansa.contract.inlined import add_inlined, read_inlined

# What one push brings: requests, of which equal ones are sent once.
INLINE_BYTES = 128 << 20
# What one pull brings: two replies at a million parameters, and thousands of small ones.
PULL_BYTES = 8 << 20
# How long an object of a reply that is there is waited for.
_PATIENCE_S = 60.0
_PRIVATE = ("_runtime_client", "_run", "node")


def on_the_lane(grid: Grid) -> Any:
    """The grid itself, or a faster one over the same connection."""
    if type(grid) is HttpGrid and all(hasattr(grid, name) for name in _PRIVATE):
        return LaneGrid(grid)
    return grid


class LaneGrid:
    """`push_messages`, `pull_messages` and `get_nodes` of an `HttpGrid`, in one request each.

    `held` turns true when the server answered a pull with objects inside: it is a lane, and holds pulls.
    """

    def __init__(self, grid: HttpGrid) -> None:
        self._grid = grid
        self.held = False

    def get_nodes(self) -> Iterable[Any]:
        """Nodes online."""
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages; their ids, empty for one that the server did not take."""
        headers, trees = [], []
        objects: dict[str, Any] = {}
        with no_object_id_recompute():
            for message in messages:
                message.metadata.__dict__["_message_id"] = message.object_id
                headers.append(message_to_proto(remove_content_from_message(message)))
                trees.append(get_object_tree(message))
                objects.update(get_all_nested_objects(message))
            contents = {key: it.deflate() for key, it in objects.items()}
        del objects
        request = PushAppMessagesRequest(messages_list=headers, message_object_trees=trees)
        if sum(map(len, contents.values())) <= INLINE_BYTES:
            add_inlined(request, contents.values())
        client = self._grid._runtime_client
        answer = client.PushMessages(request)
        for object_id in answer.objects_to_push:
            client.PushObject(
                PushObjectRequest(
                    node=self._grid.node,
                    run_id=self._grid.run.run_id,
                    session_id=answer.session_id,
                    object_id=object_id,
                    object_content=contents[object_id],
                )
            )
        return list(answer.message_ids)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Replies that are there, each made when it is taken; a lane waits for the first, 2 s at most.

        One answer brings many small replies and few large ones whole; objects of the others are pulled one by one.
        """
        request = PullAppMessagesRequest(message_ids=list(message_ids))
        add_inlined(request, limit=PULL_BYTES)
        answer = self._grid._runtime_client.PullMessages(request)
        inlined = {get_object_id(it): it for it in read_inlined(answer).objects}
        self.held = self.held or bool(inlined)
        # Nothing here refers to the answer, which is as large as what it brought.
        headers = [message_from_proto(it).metadata for it in answer.messages_list]
        trees = [
            list(dict.fromkeys(it.object_id for it in iterate_object_tree(tree)))
            for tree in answer.message_object_trees
        ]
        return self._one_by_one(list(zip(headers, trees, strict=True)), inlined)

    def _one_by_one(
        self, replies: list[tuple[Metadata, list[str]]], inlined: dict[str, bytes]
    ) -> Iterator[Message]:
        """Make each reply of its objects, which are held no longer than the last reply that has them is made."""
        needed = Counter(it for _, wanted in replies for it in wanted)
        for metadata, wanted in replies:
            needed.subtract(wanted)
            contents = None
            if all(it in inlined for it in wanted):
                contents = {it: inlined[it] if needed[it] else inlined.pop(it) for it in wanted}
            yield self._made(metadata, wanted, contents)

    def _made(self, metadata: Metadata, wanted: list[str], contents: dict[str, bytes] | None) -> Message:
        if contents is None:
            try:
                contents = self._pull_objects(metadata.message_id, wanted)
            except ObjectPullError as failure:
                lost = Error(ErrorCode.MESSAGE_UNAVAILABLE, f"a reply never arrived whole: {failure}")
                return make_message(metadata, error=lost)
        with no_object_id_recompute():
            reply = cast(Message, inflate_object_from_contents(metadata.message_id, contents))
        reply.metadata.__dict__["_message_id"] = metadata.message_id
        return reply

    def forget(self, message_ids: Iterable[str]) -> None:
        """Take back what nobody waits for any more; a stock server overlooks this."""
        request = PullAppMessagesRequest()
        add_inlined(request, forget=message_ids)
        self._grid._runtime_client.PullMessages(request)

    def _pull_objects(self, message_id: str, wanted: list[str]) -> dict[str, bytes]:
        client, node, run_id = self._grid._runtime_client, self._grid.node, self._grid.run.run_id

        def pull(object_id: str) -> bytes:
            answer = client.PullObject(PullObjectRequest(node=node, run_id=run_id, object_id=object_id))
            if not answer.object_available:
                raise ObjectUnavailableError(object_id)
            return bytes(answer.object_content)

        contents = pull_objects(wanted, pull, initial_backoff=0.05, max_time=_PATIENCE_S)
        client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=node, run_id=run_id, message_object_id=message_id)
        )
        return contents
