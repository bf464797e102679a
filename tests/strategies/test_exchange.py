"""Payloads out, replies back as they arrive; also when nodes fail, hang, or answer twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from hansa.contract.content import unwrap, wrap
from hansa.contract.errors import MessageError
from hansa.strategies.exchange import Exchange, ExchangeError
from hansa.strategies.memory_grid import InMemoryGrid


@pytest.fixture
def grids() -> Iterator[Callable[..., InMemoryGrid]]:
    made: list[InMemoryGrid] = []

    def make(nodes: Any, **options: Any) -> InMemoryGrid:
        made.append(InMemoryGrid(nodes, **options))
        return made[-1]

    yield make
    for grid in made:
        grid.close()


def test_a_hundred_nodes_answer(grids: Any) -> None:
    exchange = Exchange(grids({node: lambda payload: payload[::-1] for node in range(1, 101)}))
    assert dict(exchange.ask(dict.fromkeys(range(1, 101), b"ab"), 30.0)) == dict.fromkeys(
        range(1, 101), b"ba"
    )


def test_replies_come_in_the_order_of_arrival(grids: Any) -> None:
    gate = threading.Event()

    def slow(payload: bytes) -> bytes:
        gate.wait(10)
        return payload

    replies = Exchange(grids({1: slow, 2: lambda payload: payload})).ask({1: b"x", 2: b"y"}, 10.0)
    assert next(replies) == (2, b"y")
    gate.set()
    assert next(replies) == (1, b"x")
    assert list(replies) == []


def test_a_node_that_raises_is_an_error_among_replies(grids: Any) -> None:
    def fail(_: bytes) -> bytes:
        raise ValueError("no such luck")

    replies = dict(Exchange(grids({1: fail, 2: lambda payload: payload})).ask({1: b"", 2: b""}, 10.0))
    assert replies[2] == b""
    assert isinstance(replies[1], ExchangeError)
    assert "no such luck" in str(replies[1])


def test_a_node_that_does_not_exist_is_said_at_once(grids: Any) -> None:
    began = time.monotonic()
    replies = dict(Exchange(grids({1: lambda payload: payload})).ask({1: b"a", 7: b"a"}, 10.0))
    assert replies[1] == b"a"
    assert isinstance(replies[7], ExchangeError)
    assert time.monotonic() - began < 5.0


def test_a_silent_node_is_left_out_at_the_deadline(grids: Any) -> None:
    stop = threading.Event()
    exchange = Exchange(grids({1: lambda _: b"x" * stop.wait(5), 2: lambda payload: payload}))
    began = time.monotonic()
    assert [node for node, _ in exchange.ask({1: b"", 2: b""}, 0.3)] == [2]
    assert time.monotonic() - began < 2.0
    stop.set()


def test_the_same_bytes_are_sent_again_to_who_is_silent(grids: Any) -> None:
    seen: list[bytes] = []
    stop = threading.Event()

    def deaf_at_first(payload: bytes) -> bytes:
        seen.append(payload)
        if len(seen) == 1:
            stop.wait(5)
        return b"done"

    exchange = Exchange(grids({1: deaf_at_first}))
    assert list(exchange.ask({1: b"order"}, 10.0, reask_after_s=0.1)) == [(1, b"done")]
    assert seen == [b"order", b"order"]
    stop.set()


def test_what_nobody_waits_for_is_taken_back(grids: Any) -> None:
    begun: list[int] = []
    stop = threading.Event()

    def work(node: int) -> Callable[[bytes], bytes]:
        def answer(_: bytes) -> bytes:
            begun.append(node)
            stop.wait(5)
            return b""

        return answer

    grid = grids({node: work(node) for node in (1, 2, 3)}, workers=1)
    assert list(Exchange(grid).ask(dict.fromkeys((1, 2, 3), b""), 0.2)) == []
    stop.set()
    grid.close()
    assert len(begun) == 1


def test_a_caller_may_stop_listening(grids: Any) -> None:
    exchange = Exchange(grids({1: lambda payload: payload, 2: lambda payload: payload}))
    replies = exchange.ask({1: b"a", 2: b"b"}, 10.0)
    next(replies)
    replies.close()
    assert dict(exchange.ask({1: b"c", 2: b"d"}, 10.0)) == {1: b"c", 2: b"d"}


def test_nodes_are_listed_with_their_keys(grids: Any) -> None:
    grid = grids({1: lambda p: p, 2: lambda p: p}, public_keys={2: b"pem"})
    assert Exchange(grid).nodes() == [(1, None), (2, b"pem")]


class _OddGrid(InMemoryGrid):
    """A server that does not hold pulls, and nodes whose replies have another shape."""

    held = False

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        replies = super().pull_messages(message_ids)
        for reply in replies:
            if reply.has_content():
                reply.content = RecordDict({"other": ConfigRecord({"payload": b""})})
        return replies


def test_a_reply_of_another_shape_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hansa.strategies.memory_grid._WAIT_S", 0.0)
    grid = _OddGrid({1: lambda payload: payload})
    ((node, reply),) = Exchange(grid).ask({1: b""}, 10.0)
    assert node == 1
    assert "malformed" in str(reply)
    grid.close()


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"hansa": ConfigRecord()}),
        RecordDict({"hansa": ConfigRecord({"payload": "text"})}),
        RecordDict({"hansa": ConfigRecord({"payload": b"", "more": b""})}),
        RecordDict({"hansa": ConfigRecord({"payload": b""}), "more": ConfigRecord()}),
        RecordDict({"other": ConfigRecord({"payload": b""})}),
    ],
)
def test_content_of_any_other_shape_is_refused(content: RecordDict) -> None:
    with pytest.raises(MessageError):
        unwrap(content)


def test_a_payload_survives_its_wrapping() -> None:
    assert unwrap(wrap(b"\x00\xff")) == b"\x00\xff"


def test_flowers_own_send_and_receive_works_in_memory(grids: Any) -> None:
    grid = grids({1: lambda payload: payload + b"!"})
    (reply,) = grid.send_and_receive([Message(wrap(b"a"), 1, "train")], timeout=5)
    assert unwrap(reply.content) == b"a!"
