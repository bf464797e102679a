"""Frames on a Unix socket: how node and agent, and operator and agent, exchange bytes.

One request per connection; a frame is a 4-byte big-endian length and that many bytes, both ways. A
length above the limit is refused before anything of it is read. Who may connect is decided by the
socket file's mode and owner; `Peer` tells the handler who did.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hansa.contract.errors import ConnectionFailed, InputError, MessageError
from hansa.contract.logs import places_of

MAX_FRAME_BYTES = 1 << 30
_CHUNK = 1 << 20
# sun_path holds 108 bytes on Linux; longer paths go through a descriptor of their folder.
_LONGEST_ADDRESS = 107

log = logging.getLogger("hansa.frames")


@dataclass(frozen=True)
class Peer:
    """The process at the other end, as the kernel names it (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


Handler = Callable[[bytes, Peer], bytes]


class WorkSocket:
    """Client side of a socket served by `serve_frames`.

    Parameters
    ----------
    path : the socket file
    limit : largest answer accepted, bytes
    """

    def __init__(self, path: Path | str, limit: int = MAX_FRAME_BYTES) -> None:
        self.path = Path(path)
        self.limit = limit

    def ask(self, payload: bytes, timeout: float) -> bytes:
        """Send one request, return its answer; at most `timeout` seconds for all of it.

        Raises `ConnectionFailed` when nobody listens, nobody answers in time, or the other side hangs
        up without an answer; `MessageError` when the answer is above `limit`.
        """
        deadline = time.monotonic() + timeout
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(timeout)
                with _address(self.path) as address:
                    connection.connect(address)
                _send(connection, payload, deadline)
                answer = _receive(connection, self.limit, deadline)
        except TimeoutError:
            raise ConnectionFailed(f"{self.path}: no answer within {timeout:g} s") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConnectionFailed(f"{self.path}: {reason}; is the agent running?") from error
        if answer is None:
            raise ConnectionFailed(f"{self.path}: the agent hung up without an answer; see its log")
        return answer


class FrameServer:
    """Serves one handler on one Unix socket, a thread per connection; see `serve_frames`."""

    def __init__(
        self,
        listener: socket.socket,
        path: Path,
        handler: Handler,
        *,
        limit: int,
        connections: int,
        idle_s: float,
        sent: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self._listener = listener
        self._handler = handler
        self._limit = limit
        self._idle_s = idle_s
        self._sent = sent
        self._places = threading.BoundedSemaphore(connections)
        self._closed = threading.Event()
        self._inode = os.stat(path).st_ino
        self._thread = threading.Thread(target=self._accept, name=f"frames {path.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop accepting and remove the socket file, unless another server took its place meanwhile."""
        self._closed.set()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        try:
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        except FileNotFoundError:
            pass

    def __enter__(self) -> FrameServer:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            # A place is taken before accepting: callers beyond the bound wait in the kernel's queue.
            self._places.acquire()
            try:
                connection, _ = self._listener.accept()
            except OSError:
                self._places.release()
                if self._closed.is_set():
                    return
                time.sleep(0.1)  # out of descriptors: others must close first
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(self._idle_s)
                payload = _receive(connection, self._limit, deadline=None)
                if payload is None:
                    return
                answer = self._handler(payload, _peer(connection))
                connection.settimeout(self._idle_s)
                _send(connection, answer, deadline=None)
                self._sent()
        except (OSError, MessageError) as error:
            log.info("%s: connection dropped: %s", self.path.name, error)
        except Exception as error:
            # The caller sees the connection close; what went wrong is the owner's to read.
            log.error("%s: the handler failed: %s", self.path.name, places_of(error))
        finally:
            self._places.release()


def serve_frames(
    path: Path | str,
    handler: Handler,
    mode: int,
    *,
    limit: int = MAX_FRAME_BYTES,
    connections: int = 16,
    idle_s: float = 30.0,
    sent: Callable[[], None] = lambda: None,
) -> FrameServer:
    """Serve `handler(payload, peer) -> answer` on a Unix socket with exactly these permissions.

    The socket is bound under a private name, gets its mode while nobody can connect yet, and is then
    renamed into place, which also replaces a stale file. An exception in the handler closes the
    connection without an answer. `idle_s` bounds each wait for the caller's bytes, not the handler. `sent` is
    called, by the handler's thread, once the whole answer is with the kernel.

    Raises `InputError` when the folder is missing, the path is something other than a socket, or
    another server answers there.
    """
    target = Path(path)
    _check_free(target)
    hidden = target.with_name(f".{target.name}.{os.getpid()}")
    hidden.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(hidden) as address:
            listener.bind(address)
        os.chmod(hidden, mode)
        listener.listen(64)
        os.rename(hidden, target)
    except OSError as error:
        listener.close()
        hidden.unlink(missing_ok=True)
        raise InputError(f"{target}: cannot serve here: {error.strerror or error}") from error
    return FrameServer(
        listener, target, handler, limit=limit, connections=connections, idle_s=idle_s, sent=sent
    )


def _check_free(path: Path) -> None:
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist")
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise InputError(f"{path}: exists and is not a socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, _address(path) as address:
        probe.settimeout(1.0)
        if probe.connect_ex(address) == 0:
            raise InputError(f"{path}: another process serves here; stop it first")


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """What to give to bind or connect; valid inside the block."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _send(connection: socket.socket, payload: bytes, deadline: float | None) -> None:
    if len(payload) > MAX_FRAME_BYTES:
        raise MessageError(f"a frame of {len(payload)} bytes is above the limit of {MAX_FRAME_BYTES}")
    _allow(connection, deadline)
    if len(payload) <= _CHUNK:
        connection.sendall(struct.pack(">I", len(payload)) + payload)
        return
    connection.sendall(struct.pack(">I", len(payload)))
    view = memoryview(payload)
    for start in range(0, len(payload), _CHUNK):
        _allow(connection, deadline)
        connection.sendall(view[start : start + _CHUNK])


def _receive(connection: socket.socket, limit: int, deadline: float | None) -> bytes | None:
    """One frame, or None when the other side closed before a whole one."""
    head = _read(connection, 4, deadline)
    if head is None:
        return None
    (size,) = struct.unpack(">I", head)
    if size > limit:
        raise MessageError(f"a frame of {size} bytes is above the limit of {limit}")
    return _read(connection, size, deadline)


def _read(connection: socket.socket, size: int, deadline: float | None) -> bytes | None:
    # Grown as bytes arrive: a stated size alone makes nobody allocate it.
    buffer = bytearray()
    while len(buffer) < size:
        _allow(connection, deadline)
        chunk = connection.recv(min(_CHUNK, size - len(buffer)))
        if not chunk:
            return None
        buffer += chunk
    return bytes(buffer)


def _allow(connection: socket.socket, deadline: float | None) -> None:
    if deadline is None:
        return
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)


def _peer(connection: socket.socket) -> Peer:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return Peer(*struct.unpack("3i", credentials))
