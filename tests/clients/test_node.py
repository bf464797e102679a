"""The resident node against a server that vanishes, forgets, refuses, and talks nonsense."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from hansa.clients import node as node_module
from hansa.clients.fleet import (
    FleetConnection,
    KeyNotRegisteredError,
    NodeForgottenError,
    Pulled,
    RunOverError,
    UntrustedServerError,
    load_private_key,
)
from hansa.clients.node import Node, main
from hansa.contract.content import unwrap, wrap
from hansa.contract.errors import ConnectionFailed, InputError


class FakeServer:
    """A connection whose calls do what the test says, one after another, then find nothing."""

    server = "fake:1"

    def __init__(self, *pulls: Any, activations: list[Any] | None = None) -> None:
        self.activations = activations or []
        self.activated = 0
        self.beats = 0
        self.replies: list[Message] = []
        self.push_failures: list[Exception] = []
        self._pulls = list(pulls)

    def activate(self) -> int:
        self.activated += 1
        if self.activations:
            _act(self.activations.pop(0))
        return 7

    def deactivate(self) -> None:
        return None

    def heartbeat(self) -> None:
        self.beats += 1

    def pull(self) -> Pulled | None:
        if self._pulls:
            found = self._pulls.pop(0)
            _act(found)
            return found  # type: ignore[no-any-return]
        time.sleep(0.02)
        return None

    def push(self, reply: Message, _seconds: float) -> None:
        if self.push_failures:
            raise self.push_failures.pop(0)
        self.replies.append(reply)


def _act(found: Any) -> None:
    if isinstance(found, Exception):
        raise found


def _pulled(content: RecordDict, *, age_s: float = 0.0, objects: dict[str, bytes] | None = None) -> Pulled:
    metadata = Metadata(
        run_id=1,
        message_id="",
        src_node_id=1,
        dst_node_id=7,
        reply_to_message_id="",
        group_id="",
        created_at=time.time() - age_s,
        ttl=60.0,
        message_type="train",
    )
    message = make_message(metadata, content=content)
    message.metadata.__dict__["_message_id"] = message.object_id
    contents = {key: it.deflate() for key, it in get_all_nested_objects(message).items()}
    return Pulled(remove_content_from_message(message), contents if objects is None else objects)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    monkeypatch.setattr(node_module, "_BACK_OFF_S", (0.01, 0.05))
    monkeypatch.setattr(node_module, "_IDLE_S", (0.01, 0.02))
    nodes: list[tuple[Node, threading.Thread]] = []

    def start(server: FakeServer, answer: Any = lambda payload, _seconds: payload[::-1]) -> list[Exception]:
        node = Node(server, answer)  # type: ignore[arg-type]
        failures: list[Exception] = []

        def run() -> None:
            try:
                node.run()
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        nodes.append((node, thread))
        return failures

    yield start
    for node, thread in nodes:
        node.stop()
        thread.join(5)
        assert not thread.is_alive()


def _until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_the_agents_answer_goes_back(serve: Any) -> None:
    server = FakeServer(_pulled(wrap(b"ab")))
    serve(server)
    _until(lambda: bool(server.replies))
    assert unwrap(server.replies[0].content) == b"ba"


@pytest.mark.parametrize(
    ("content", "objects"),
    [
        (RecordDict(), None),
        (RecordDict({"hansa": ConfigRecord({"payload": 1})}), None),
        (wrap(b""), {}),
        (wrap(b""), {"0" * 64: b"garbage"}),
    ],
)
def test_another_shape_is_answered_with_an_error(
    serve: Any, content: RecordDict, objects: dict[str, bytes] | None
) -> None:
    server = FakeServer(_pulled(content, objects=objects), _pulled(wrap(b"ab")))
    serve(server)
    _until(lambda: len(server.replies) == 2)
    error, good = sorted(server.replies, key=lambda it: it.has_content())
    assert error.error.reason.startswith("malformed")
    assert unwrap(good.content) == b"ba"


def test_an_agent_that_is_down_is_said_quickly(serve: Any) -> None:
    def down(payload: bytes, _seconds: float) -> bytes:
        raise ConnectionFailed("work.sock: nobody there")

    server = FakeServer(_pulled(wrap(b"ab")))
    serve(server, down)
    _until(lambda: bool(server.replies))
    assert server.replies[0].error.reason.startswith("agent-unavailable: work.sock")


def test_what_an_exception_says_stays_at_the_member(serve: Any) -> None:
    def broken(payload: bytes, _seconds: float) -> bytes:
        raise KeyError("patient 4711")

    server = FakeServer(_pulled(wrap(b"ab")))
    serve(server, broken)
    _until(lambda: bool(server.replies))
    assert server.replies[0].error.reason == "node-failed: KeyError"


def test_an_expired_message_is_not_shown_to_the_agent(serve: Any) -> None:
    asked: list[bytes] = []

    def answer(payload: bytes, seconds: float) -> bytes:
        asked.append(payload)
        assert seconds <= 60.0
        return payload

    server = FakeServer(_pulled(wrap(b"old"), age_s=61.0), _pulled(wrap(b"new")))
    serve(server, answer)
    _until(lambda: bool(server.replies))
    assert asked == [b"new"]


def test_messages_are_attended_to_side_by_side(serve: Any) -> None:
    training = threading.Event()

    def answer(payload: bytes, _seconds: float) -> bytes:
        if payload == b"train":
            training.wait(10)
        return payload

    server = FakeServer(_pulled(wrap(b"train")), _pulled(wrap(b"unmask")))
    serve(server, answer)
    _until(lambda: bool(server.replies))
    assert unwrap(server.replies[0].content) == b"unmask"
    training.set()
    _until(lambda: len(server.replies) == 2)


def test_a_server_that_forgot_the_node_is_told_again(serve: Any) -> None:
    server = FakeServer(NodeForgottenError("401"), _pulled(wrap(b"ab")))
    serve(server)
    _until(lambda: bool(server.replies))
    assert server.activated == 2


def test_a_lost_connection_is_waited_out(serve: Any) -> None:
    gone = [ConnectionFailed("refused")] * 5
    server = FakeServer(*gone, UntrustedServerError("changed"), _pulled(wrap(b"ab")))
    serve(server)
    _until(lambda: bool(server.replies))
    assert server.activated == 1


def test_a_message_of_a_run_that_ended_is_dropped(serve: Any) -> None:
    server = FakeServer(RunOverError("403"), _pulled(wrap(b"ab")))
    serve(server)
    _until(lambda: bool(server.replies))


def test_a_reply_is_sent_again_until_it_arrives(serve: Any) -> None:
    server = FakeServer(_pulled(wrap(b"ab")))
    server.push_failures = [ConnectionFailed("reset")] * 2
    serve(server)
    _until(lambda: bool(server.replies))


def test_a_server_that_is_not_up_yet_is_waited_for(serve: Any) -> None:
    server = FakeServer(_pulled(wrap(b"ab")), activations=[ConnectionFailed("refused")] * 3)
    serve(server)
    _until(lambda: bool(server.replies))


@pytest.mark.parametrize("wrong", [KeyNotRegisteredError("key"), UntrustedServerError("certificate")])
def test_a_wrong_key_or_certificate_ends_the_first_start(serve: Any, wrong: InputError) -> None:
    failures = serve(FakeServer(activations=[wrong]))
    _until(lambda: failures == [wrong])


@pytest.mark.parametrize("wrong", [KeyNotRegisteredError("key"), UntrustedServerError("certificate")])
def test_later_they_are_waited_out(serve: Any, wrong: InputError) -> None:
    server = FakeServer(NodeForgottenError("401"), _pulled(wrap(b"ab")), activations=[0, wrong])
    failures = serve(server)
    _until(lambda: bool(server.replies))
    assert failures == []


def _connection(handler: Callable[[httpx.Request], httpx.Response]) -> FleetConnection:
    connection = FleetConnection("server:1", ec.generate_private_key(ec.SECP256R1()), insecure=True)
    connection._client._client = httpx.Client(transport=httpx.MockTransport(handler))
    return connection


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, NodeForgottenError),
        (403, RunOverError),
        (412, KeyNotRegisteredError),
        (404, ConnectionFailed),
        (500, ConnectionFailed),
        (503, ConnectionFailed),
    ],
)
def test_each_status_has_its_meaning(status: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        _connection(lambda _: httpx.Response(status, json={})).activate()


def test_a_server_that_speaks_something_else_is_a_failed_connection() -> None:
    with pytest.raises(ConnectionFailed):
        _connection(lambda _: httpx.Response(200, content=b"<html>")).activate()


def _write_key(path: Any, key: Any, mode: int = 0o600) -> None:
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    path.chmod(mode)


def test_a_key_that_others_can_read_is_refused(tmp_path: Any) -> None:
    _write_key(tmp_path / "node.key", ec.generate_private_key(ec.SECP256R1()), 0o644)
    with pytest.raises(InputError, match="chmod 600"):
        load_private_key(tmp_path / "node.key")


def test_only_elliptic_curve_keys_are_taken(tmp_path: Any) -> None:
    _write_key(tmp_path / "node.key", ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(InputError, match="EC private key"):
        load_private_key(tmp_path / "node.key")


def test_a_missing_key_is_one_line_and_code_2(tmp_path: Any, capsys: Any) -> None:
    code = main(["--server", "x:1", "--key", str(tmp_path / "no"), "--work-socket", str(tmp_path / "w")])
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_ca_that_is_no_certificate_is_refused(tmp_path: Any, capsys: Any) -> None:
    _write_key(tmp_path / "node.key", ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "ca.crt").write_text("nonsense")
    options = ["--server", "x:1", "--key", str(tmp_path / "node.key"), "--work-socket", "w"]
    assert main([*options, "--ca", str(tmp_path / "ca.crt")]) == 2
    assert "CA file" in capsys.readouterr().err


def test_the_node_imports_no_model_and_no_data() -> None:
    code = (
        "import sys, hansa.clients.node;"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('torch', 'polars', 'opacus')"
        " or m.startswith(('hansa.models', 'hansa.clients.data', 'hansa.privacy'))];"
        "sys.exit(str(bad) if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
