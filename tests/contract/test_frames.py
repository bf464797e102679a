"""Frames on a Unix socket: bounded, permitted by mode, and never a hang."""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hansa.contract.errors import ConnectionFailed, InputError, MessageError
from hansa.contract.frames import FrameServer, Peer, WorkSocket, serve_frames


def _handle(payload: bytes, peer: Peer) -> bytes:
    if payload == b"fail":
        raise ValueError("no")
    if payload == b"sleep":
        time.sleep(0.5)
    if payload == b"who":
        return f"{peer.pid} {peer.uid}".encode()
    return payload[::-1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "work.sock"


@pytest.fixture
def server(path: Path) -> Iterator[FrameServer]:
    with serve_frames(path, _handle, 0o600, limit=8 << 20, connections=4) as it:
        yield it


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=2000))
def test_an_answer_comes_back_for_any_bytes(server: FrameServer, payload: bytes) -> None:
    assert payload in (b"fail", b"sleep", b"who") or (
        WorkSocket(server.path).ask(payload, 5.0) == payload[::-1]
    )


def test_large_frames_arrive_whole(server: FrameServer) -> None:
    payload = os.urandom(5 << 20)
    assert WorkSocket(server.path).ask(payload, 10.0) == payload[::-1]


def test_the_handler_knows_who_asks(server: FrameServer) -> None:
    assert WorkSocket(server.path).ask(b"who", 5.0) == f"{os.getpid()} {os.getuid()}".encode()


def test_requests_are_served_side_by_side(server: FrameServer) -> None:
    began = time.monotonic()
    threads = [threading.Thread(target=WorkSocket(server.path).ask, args=(b"sleep", 5.0)) for _ in range(4)]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    assert time.monotonic() - began < 1.5


def test_a_handler_that_raises_hangs_nobody(server: FrameServer) -> None:
    with pytest.raises(ConnectionFailed, match="without an answer"):
        WorkSocket(server.path).ask(b"fail", 5.0)
    assert WorkSocket(server.path).ask(b"ab", 5.0) == b"ba"


def test_an_answer_that_takes_too_long_is_given_up(server: FrameServer) -> None:
    with pytest.raises(ConnectionFailed, match=r"within 0\.1 s"):
        WorkSocket(server.path).ask(b"sleep", 0.1)


def test_nobody_there_is_said_plainly(path: Path) -> None:
    with pytest.raises(ConnectionFailed, match="is the agent running"):
        WorkSocket(path).ask(b"x", 1.0)


def test_a_stated_size_above_the_limit_is_refused_unread(server: FrameServer) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(server.path))
        raw.sendall(struct.pack(">I", (8 << 20) + 1))
        raw.settimeout(5.0)
        assert raw.recv(1) == b""


def test_an_answer_above_the_limit_is_refused(server: FrameServer) -> None:
    with pytest.raises(MessageError, match="above the limit of 2"):
        WorkSocket(server.path, limit=2).ask(b"abc", 5.0)


def test_a_caller_that_sends_half_a_frame_holds_up_nobody(server: FrameServer) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(server.path))
        raw.sendall(struct.pack(">I", 100) + b"half")
        assert WorkSocket(server.path).ask(b"ab", 5.0) == b"ba"


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_socket_has_exactly_the_mode_asked_for(path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        with serve_frames(path, _handle, mode):
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with serve_frames(path, _handle, 0o600):
        assert WorkSocket(path).ask(b"ab", 5.0) == b"ba"
        with pytest.raises(InputError, match="another process serves here"):
            serve_frames(path, _handle, 0o600)
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(InputError, match="not a socket"):
        serve_frames(path, _handle, 0o600)
    assert path.read_text() == "precious"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        serve_frames(tmp_path / "no" / "work.sock", _handle, 0o600)


def test_a_path_too_long_for_the_kernel_works(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with serve_frames(folder / "work.sock", _handle, 0o600):
        assert WorkSocket(folder / "work.sock").ask(b"ab", 5.0) == b"ba"


def test_a_closed_server_leaves_its_successors_socket(path: Path) -> None:
    first = serve_frames(path, _handle, 0o600)
    os.unlink(path)
    with serve_frames(path, _handle, 0o600):
        first.close()
        assert WorkSocket(path).ask(b"ab", 5.0) == b"ba"
