"""`python -m hansa.sidecar.docker_gate`: listens on a Unix socket, one short request a connection, one at a time."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import signal
import socket
import stat
import sys
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

from hansa.contract.errors import InputError
from hansa.contract.exposing import expose
from hansa.contract.exposition import Family, Meter
from hansa.contract.logs import add_log_options, say_failure, start_logging
from hansa.contract.process_figures import process_meter

from .gate import Answer, Gate
from .rules import Forbidden, read_wish

log = logging.getLogger("hansa.gate")

REQUESTS = Family(
    "hansa_gate_requests_total", "counter", "Requests by status; 403 is a refusal.", ("code",), 20
)

# Whoever asks gets so long, and so many bytes, to say what it wants.
_PATIENCE_S = 2.0
_LONGEST_HEAD = 4096
_SERVICE = re.compile(r"([a-zA-Z0-9][a-zA-Z0-9_.-]{0,62})=([0-9]{1,4})")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns 0, or 2 with one line on stderr when the input is wrong."""
    options = _parse(argv)
    start_logging("docker-gate", options.log_level, options.log_format)
    meter = process_meter("docker-gate")
    meter.declare(REQUESTS)
    try:
        services = dict(_service(it) for it in options.service)
        exposure = expose(meter, options.metrics)
        listening = listen(options.listen)
    except (OSError, ValueError, InputError) as error:
        say_failure("docker-gate", error, 2)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    gate = Gate(options.docker, options.project, services, options.drain)
    log.info("at most %s of project %s", services, options.project)
    try:
        serve(listening, gate, meter)
    finally:
        if exposure is not None:
            exposure.close()
        listening.close()
        options.listen.unlink(missing_ok=True)
    return 0


def listen(path: Path) -> socket.socket:
    """A socket that this group may connect to; what an earlier gate left there is removed.

    Raises
    ------
    ValueError : something else is in the way
    """
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise ValueError(f"{path}: is in the way and no socket; name another place with --listen")
        path.unlink()
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o117)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    listening.listen(8)
    return listening


def serve(listening: socket.socket, gate: Gate, meter: Meter | None = None) -> None:
    """One after another, so that no two requests see the same free number."""
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            try:
                answer = _answer(connection, gate)
                if meter is not None:
                    meter.add(REQUESTS, str(answer.status))
                connection.sendall(_bytes(answer))
            except OSError:
                continue


def _answer(connection: socket.socket, gate: Gate) -> Answer:
    try:
        return gate.answer(read_wish(_head(connection)))
    except Forbidden as refusal:
        log.warning("refused: %s", refusal)
        return Answer(403, {"message": str(refusal)})


def _head(connection: socket.socket) -> str:
    """Request line and headers; nothing may follow them.

    Raises
    ------
    Forbidden : too long, too slow, not ASCII, or followed by more
    """
    read, deadline = b"", time.monotonic() + _PATIENCE_S
    while b"\r\n\r\n" not in read:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            part = connection.recv(_LONGEST_HEAD)
        except TimeoutError:
            raise Forbidden("the request did not end in time") from None
        read += part
        if not part or len(read) > _LONGEST_HEAD:
            raise Forbidden("a request of that length is none that the gate knows")
    head, _, more = read.partition(b"\r\n\r\n")
    if more:
        raise Forbidden("no body is taken: how a container looks is not the asker's to say")
    try:
        return head.decode("ascii")
    except UnicodeDecodeError:
        raise Forbidden("no request that the gate knows") from None


def _bytes(answer: Answer) -> bytes:
    content = json.dumps(answer.document).encode()
    line = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
    headers = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    return (line + headers).encode() + content


def _service(text: str) -> tuple[str, int]:
    found = _SERVICE.fullmatch(text)
    if found is None:
        raise ValueError(f"--service {text}: expected NAME=MOST, e.g. executor=4")
    return found.group(1), int(found.group(2))


def _leave(*_: object) -> None:
    raise SystemExit(0)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hansa-docker-gate", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--docker", type=Path, default=Path("/var/run/docker.sock"), help="the engine's socket")
    add("--listen", type=Path, required=True, help="the gate's own socket")
    add("--project", required=True, help="Compose's project")
    add("--service", action="append", required=True, metavar="NAME=MOST", help="containers of it at most")
    add("--metrics", metavar="FILE", help="figures, a file that ends in .prom; default: none")
    add_log_options(parser)
    add("--drain", default="SIGUSR1", choices=["SIGUSR1", "SIGTERM", "SIGINT", "SIGQUIT"])
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
