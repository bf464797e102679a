"""The one place that talks to a Flower grid: payloads out, replies back as they arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from hansa.contract.content import unwrap, wrap
from hansa.contract.errors import HansaError, MessageError
from hansa.strategies.lane_grid import on_the_lane

# Any type a stock ClientApp has a handler for; what a payload asks is written inside it.
MESSAGE_TYPE = "train"
# A pull that was not held this long found a server that does not hold: pause between pulls there.
_HELD_S = 0.05
_PAUSE_S = (0.1, 0.5)
# Flower forgets a message at the end of its time to live, and a pull for a forgotten one is an error.
_MARGIN_S = 60.0


class ExchangeError(HansaError):
    """No payload came from a node: it failed, is gone, or its answer was no payload.

    `code` is Flower's error code, 0 when Flower had no part in it.
    """

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.code = code


@dataclass
class _Waiting:
    """What is still open: message ids by node, a node may have several after a re-ask."""

    sent: dict[str, int] = field(default_factory=dict)
    unanswered: set[int] = field(default_factory=set)


class Exchange:
    """Sends payloads to nodes over a grid and yields what comes back.

    Parameters
    ----------
    grid : Flower's, as a ServerApp gets it; the lane's faster calls are used where it has them
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = on_the_lane(grid)
        # On a stock server: messages nobody waits for any more and until when. Their late replies are
        # fetched and dropped, or the server would keep them until the run ends.
        self._overdue: dict[str, float] = {}

    def nodes(self) -> list[tuple[int, bytes | None]]:
        """Nodes online: Flower's node id, an address only, and the node's public key (PEM) if known."""
        return [(it.node_id, bytes(it.public_key) or None) for it in self._grid.get_nodes()]

    def ask(
        self,
        requests: Mapping[int, bytes],
        deadline_s: float,
        reask_after_s: float | None = None,
        enough: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[int, bytes | ExchangeError]]:
        """Send each node its payload; yield (node id, reply) in the order of arrival.

        A node appears at most once, and not at all when nothing came within `deadline_s`. After
        `reask_after_s` without a reply the same bytes are sent again in a new message, and again after
        twice as long each time, so that slow work is not buried in requests; whichever answer comes first
        counts. Asking ends early, between two pulls, when `enough` says so. A reply is kept by nobody but
        the caller.
        """
        deadline = time.monotonic() + deadline_s
        waiting = _Waiting(unanswered=set(requests))
        try:
            yield from self._send(requests, deadline, waiting)
            yield from self._collect(requests, deadline, reask_after_s, waiting, enough)
        finally:
            self._take_back(waiting, deadline)

    def _collect(
        self,
        requests: Mapping[int, bytes],
        deadline: float,
        reask_after_s: float | None,
        waiting: _Waiting,
        enough: Callable[[], bool],
    ) -> Iterator[tuple[int, bytes | ExchangeError]]:
        asked = time.monotonic()
        pause = _PAUSE_S[0]
        while waiting.unanswered and (now := time.monotonic()) < deadline and not enough():
            if reask_after_s is not None and now - asked >= reask_after_s:
                again = {node: requests[node] for node in sorted(waiting.unanswered)}
                yield from self._send(again, deadline, waiting)
                asked, reask_after_s = now, 2 * reask_after_s
            replies = self._pull(waiting, now)
            held = self._grid_holds() or time.monotonic() - now >= _HELD_S
            for reply in replies:
                node, answer = self._node_of(reply, waiting), _payload(reply)
                # The next one is made when this one is gone.
                del reply
                if node in waiting.unanswered:
                    waiting.unanswered.discard(node)
                    pause = _PAUSE_S[0]
                    yield node, answer
                del answer
            if waiting.unanswered and not held:
                time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
                pause = min(1.3 * pause, _PAUSE_S[1])

    def _pull(self, waiting: _Waiting, now: float) -> Iterator[Message]:
        """Ask for replies; they come one by one, and what was taken is not held here."""
        self._overdue = {message: until for message, until in self._overdue.items() if until > now}
        found = self._grid.pull_messages([*waiting.sent, *self._overdue])
        return _emptied(found) if isinstance(found, list) else iter(found)

    def _node_of(self, reply: Message, waiting: _Waiting) -> int | None:
        """Whose reply it is; None for one that nobody waits for."""
        message_id = reply.metadata.reply_to_message_id
        self._overdue.pop(message_id, None)
        return waiting.sent.pop(message_id, None)

    def _take_back(self, waiting: _Waiting, deadline: float) -> None:
        """No node should begin on, or pay for, what nobody waits for any more."""
        if waiting.sent and self._grid_holds() and hasattr(self._grid, "forget"):
            self._grid.forget(list(waiting.sent))
        else:
            self._overdue.update(dict.fromkeys(waiting.sent, deadline + _MARGIN_S / 2))

    def _grid_holds(self) -> bool:
        return bool(getattr(self._grid, "held", False))

    def _send(
        self, requests: Mapping[int, bytes], deadline: float, waiting: _Waiting
    ) -> Iterator[tuple[int, ExchangeError]]:
        ttl = max(1.0, deadline - time.monotonic()) + _MARGIN_S
        nodes = list(requests)
        # Equal payloads become one object, which Flower stores and we send once.
        contents: dict[bytes, Any] = {}
        messages = [
            Message(contents.setdefault(payload, wrap(payload)), node, MESSAGE_TYPE, ttl=ttl)
            for node, payload in requests.items()
        ]
        message_ids = list(self._grid.push_messages(messages))
        message_ids += [""] * (len(nodes) - len(message_ids))
        for node, message_id in zip(nodes, message_ids, strict=True):
            if message_id:
                waiting.sent[message_id] = node
            elif node not in waiting.sent.values():
                waiting.unanswered.discard(node)
                yield node, ExchangeError("the server knows no such node any more")


def _emptied(replies: list[Message]) -> Iterator[Message]:
    while replies:
        yield replies.pop(0)


def _payload(reply: Message) -> bytes | ExchangeError:
    if reply.has_error():
        return ExchangeError(reply.error.reason or "failed without a reason", reply.error.code)
    try:
        return unwrap(reply.content)
    except MessageError as error:
        return ExchangeError(f"malformed: {error}")
