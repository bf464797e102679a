"""A node behind an HTTPS proxy: its connection goes through a tunnel, and TLS stays end to end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import Engine, engine, until

from hansa.contract.frames import serve_frames
from hansa.strategies.exchange import Exchange

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


class Proxy:
    """Just enough of a CONNECT proxy; `seen` holds what its clients asked for and sent first."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.seen: list[tuple[str, bytes]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        host, _, port = target.rpartition(":")
        assert method == "CONNECT"
        server = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        first = client.recv(65536)
        self.seen.append((target, first))
        server.sendall(first)
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            end.close()


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Engine]:
    with engine(tmp_path, members=1) as started:
        yield started


def test_a_node_works_through_a_proxy_and_with_a_private_ca(it: Engine) -> None:
    proxy = Proxy()
    it.start_superlink()
    with serve_frames(it.work_socket(it.members[0]), lambda payload, _: payload[::-1], 0o600):
        it.start_node(it.members[0], "--proxy", f"http://{proxy.address}")
        exchange = Exchange(it.grid())
        ((node, _),) = until(lambda: len(exchange.nodes()) == 1 and exchange.nodes())
        assert list(exchange.ask({node: b"ab"}, 30.0)) == [(node, b"ba")]
    proxy.listener.close()
    assert {target for target, _ in proxy.seen} == {it.fleet}
    # The first byte inside the tunnel is a TLS handshake record: the proxy reads nothing.
    assert all(first[:1] == b"\x16" for _, first in proxy.seen)
