"""Where a process shows its figures: over HTTP at an address of its own, or in a file that node_exporter reads.

The file is for processes that have no network: what is written there leaves by nobody's hand but the one who reads it.
It is replaced in one piece, so that no reader sees half of it. A port is one process's; node_exporter merges the files
of many into one page, and so each series in a file says whose it is.
"""

from __future__ import annotations

import logging
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socket import AF_INET6
from socketserver import TCPServer

from .errors import InputError
from .exposition import CONTENT_TYPE, Meter

PATH = "/metrics"
WRITE_EVERY_S = 15.0
_PATIENCE_S = 2.0
_SUFFIX = ".prom"
_MODE = 0o640

log = logging.getLogger("hansa.metrics")


class Exposure:
    """Shows a meter until it is closed.

    Parameters
    ----------
    place : HOST:PORT, or the path of a file that ends in .prom

    Raises
    ------
    InputError : neither of both, or nothing can be served or written there
    """

    def __init__(self, meter: Meter, place: str, *, every_s: float = WRITE_EVERY_S) -> None:
        self._meter, self._every_s = meter, every_s
        self._ended = threading.Event()
        self._server: HTTPServer | None = None
        self._path: Path | None = None
        if place.endswith(_SUFFIX):
            self._path = Path(place)
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._write(self._path)
            except OSError as error:
                raise InputError(f"--metrics {place}: cannot be written: {error.strerror}") from None
        else:
            self._server = _listen(place, meter)
        work = self._server.serve_forever if self._server else self._write_again_and_again
        self._thread = threading.Thread(target=work, name="metrics", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """HOST:PORT, or the file's path."""
        if self._server is None:
            return str(self._path)
        return "{}:{}".format(*self._server.server_address[:2])

    def close(self) -> None:
        """Stop; a file is removed, so that figures of a process that ended are not taken for its present ones."""
        self._ended.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._thread.join(timeout=_PATIENCE_S)
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Exposure:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_again_and_again(self) -> None:
        assert self._path is not None
        said = ""
        while not self._ended.wait(self._every_s):
            try:
                self._write(self._path)
                said = ""
            except OSError as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("%s: figures cannot be written: %s", self._path, said)

    def _write(self, path: Path) -> None:
        hidden = path.with_name(f".{path.name}.{os.getpid()}")
        with open(hidden, "w", opener=_private) as file:
            # Read by node_exporter, which is another user: of the folder's group (mode 2750), and nobody else is.
            os.fchmod(file.fileno(), _MODE)
            file.write(self._meter.text(owned=True))
        os.replace(hidden, path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def expose(meter: Meter, place: str | None) -> Exposure | None:
    """As `Exposure`; None where no place is named."""
    return Exposure(meter, place) if place else None


class _Server(HTTPServer):
    """One short request after another: whoever asks slowly keeps others waiting for two seconds at most."""

    allow_reuse_address = True
    meter: Meter

    def server_bind(self) -> None:
        # HTTPServer's own asks the resolver for this machine's name, which may take its time.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is nothing to talk about."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE_S
    server_version = "hansa"
    sys_version = ""

    def do_GET(self) -> None:
        """The page at its path, and nothing else."""
        assert isinstance(self.server, _Server)
        if self.path.partition("?")[0] != PATH:
            self.send_error(404)
            return
        page = self.server.meter.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not news."""


def _listen(place: str, meter: Meter) -> HTTPServer:
    host, _, port = place.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InputError(f"--metrics {place}: expected HOST:PORT, or a file that ends in {_SUFFIX}")
    try:
        server = (
            _ServerOf6((host, int(port)), _Handler) if ":" in host else _Server((host, int(port)), _Handler)
        )
    except OSError as error:
        raise InputError(f"--metrics {place}: cannot listen here: {os.strerror(error.errno or 0)}") from None
    server.meter = meter
    return server


class _ServerOf6(_Server):
    address_family = AF_INET6
