"""A scoring process: uvicorn with an end at which nothing is lost.

SIGTERM: /readyz says no and the ready file goes, so that whoever sends requests sends them elsewhere; for the time
that this takes to be noticed requests are still accepted and answered, each with `Connection: close`. Then the
listener closes, what is in flight is finished, and the process exits 0. Closing at once instead, as servers mostly do,
resets connections that wait to be accepted, and kept ones on which a request is on its way.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from hansa.clients.scoring.app import ScoringApp
from hansa.contract.errors import InputError
from hansa.contract.typed import write_atomically

log = logging.getLogger("hansa.scoring")

BACKLOG = 1024
# A caller that keeps connections finds them open for this long.
_KEEP_ALIVE_S = 75
_FINISH_S = 30
# With no connection left for this long nobody is sending here any more.
_QUIET_S = 0.5
_TICK_S = 0.05
# Signals that come together are one.
_ECHO_S = 1.0


@dataclass(frozen=True)
class Manners:
    """How a process comes and goes.

    Parameters
    ----------
    drain_s : the longest that a drain waits for callers to go elsewhere
    connections : kept at once, at most; beyond them requests are answered 503
    """

    ready_file: Path | None = None
    drain_s: float = 5.0
    connections: int = 2000


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; several processes may accept from it.

    Raises
    ------
    InputError : the address cannot be had
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: {error.strerror}; choose another port") from None
    return listener


def write_ready(path: Path, listener: socket.socket) -> None:
    """Say where it serves."""
    write_atomically(path, json.dumps({"scoring": address(listener), "pid": os.getpid()}).encode())


def address(listener: socket.socket) -> str:
    """HOST:PORT of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ScoringServer(uvicorn.Server):
    """Serves an application and the watch over its model file until a signal ends it."""

    def __init__(self, app: ScoringApp, manners: Manners) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                backlog=BACKLOG,
                limit_concurrency=manners.connections,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_FINISH_S,
            )
        )
        self._app, self._manners = app, manners
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: float | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are handled by the event loop, see `startup`; uvicorn's own would not end with 0."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, watch, and say so."""
        assert sockets
        # What is there now stays: the collector need not walk through it again and again.
        gc.collect()
        gc.freeze()
        await super().startup(sockets)
        ended, nudged = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, ended)
        loop.add_signal_handler(signal.SIGHUP, nudged.set)
        self._tasks.append(loop.create_task(self._app.desk.watch(ended, nudged)))
        log.info("scoring ready: http://%s, model %s", address(sockets[0]), self._app.desk.serving.version)
        if self._manners.ready_file is not None:
            write_ready(self._manners.ready_file, sockets[0])

    def _end(self, ended: asyncio.Event) -> None:
        now = asyncio.get_running_loop().time()
        if self._ending is not None:
            # Whoever says it again is in a hurry: no more waiting for callers, but what is in flight is finished. An
            # echo is none: a worker may hear it from its parent and from whoever ends all processes of a service.
            self.should_exit = self.should_exit or now - self._ending > _ECHO_S
            return
        self._ending = now
        self._app.draining = True
        ended.set()
        if self._manners.ready_file is not None:
            self._manners.ready_file.unlink(missing_ok=True)
        self._tasks.append(asyncio.get_running_loop().create_task(self._drain()))

    async def _drain(self) -> None:
        """Let callers go: until no connection was open for a while, or it has taken long enough."""
        loop = asyncio.get_running_loop()
        give_up, busy = loop.time() + self._manners.drain_s, loop.time()
        while loop.time() < give_up and loop.time() - busy < _QUIET_S:
            if self.server_state.connections:
                busy = loop.time()
            await asyncio.sleep(_TICK_S)
        self.should_exit = True
