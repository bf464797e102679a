"""A Flower grid without a network: nodes are functions, a round runs in one process (`hansa simulate`)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from flwr.app import Error, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from hansa.contract.content import unwrap, wrap

NodeFunction = Callable[[bytes], bytes]

_WAIT_S = 0.5


class InMemoryGrid(Grid):
    """A grid over functions.

    Parameters
    ----------
    nodes : node id -> function from payload to payload; an exception becomes an error reply
    workers : how many functions run at once
    public_keys : node id -> PEM, where the caller wants `get_nodes` to show keys
    """

    # Pulls wait for a reply by themselves; whoever polls need not pause.
    held = True

    def __init__(
        self,
        nodes: Mapping[int, NodeFunction],
        *,
        workers: int = 4,
        public_keys: Mapping[int, bytes] | None = None,
    ) -> None:
        self._nodes = dict(nodes)
        self._public_keys = dict(public_keys or {})
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="node")
        self._replies: dict[str, Message] = {}
        self._arrived = threading.Condition()
        self._forgotten: set[str] = set()
        self._run = Run.create_empty(run_id=1)
        # `Message(...)` stamps the process's task on what it makes.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, SUPERLINK_NODE_ID, 1

    def set_run(self, run: Run) -> None:
        """Set the run, as Flower does."""
        self._run = run
        TaskIdentity.run_id = run.run_id

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message, as Flower makes it."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes; none is ever offline."""
        return list(self._nodes)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """All nodes, with their keys where known."""
        return [NodeInfo(node_id=it, public_key=self._public_keys.get(it, b"")) for it in self._nodes]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Start the nodes' functions; an empty id for a node that does not exist."""
        message_ids = []
        for message in messages:
            if message.metadata.dst_node_id not in self._nodes:
                message_ids.append("")
                continue
            message.metadata.__dict__["_message_id"] = message.object_id
            message_ids.append(message.metadata.message_id)
            self._pool.submit(self._serve, message)
        return message_ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Replies that are there; waits for the first, half a second at most."""
        wanted = set(message_ids)
        with self._arrived:
            self._arrived.wait_for(lambda: not wanted.isdisjoint(self._replies), _WAIT_S)
            return [self._replies.pop(it) for it in wanted if it in self._replies]

    def forget(self, message_ids: Iterable[str]) -> None:
        """Drop messages nobody waits for any more: not begun, or answered late."""
        with self._arrived:
            self._forgotten.update(message_ids)
            for message_id in self._forgotten & self._replies.keys():
                del self._replies[message_id]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push, then collect every reply; without a timeout, however long it takes."""
        open_ids = {it for it in self.push_messages(messages) if it}
        replies: list[Message] = []
        waits = None if timeout is None else int(timeout / _WAIT_S) + 1
        while open_ids and waits != 0:
            found = self.pull_messages(open_ids)
            open_ids -= {it.metadata.reply_to_message_id for it in found}
            replies += found
            waits = waits if waits is None or found else waits - 1
        return replies

    def close(self) -> None:
        """Wait for functions that run, start none of the others."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _serve(self, message: Message) -> None:
        if message.metadata.message_id in self._forgotten:
            return
        try:
            answer = self._nodes[message.metadata.dst_node_id](unwrap(message.content))
            reply = Message(wrap(answer), reply_to=message)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            failure = Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason)
            reply = Message(failure, reply_to=message)
        with self._arrived:
            if message.metadata.message_id not in self._forgotten:
                self._replies[message.metadata.message_id] = reply
                self._arrived.notify_all()
