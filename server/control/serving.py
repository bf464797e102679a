"""How control serves its application: it returns when it is told to end, and ends the pages' streams before that."""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI

_KEEP_ALIVE_S = 75
_SHUTDOWN_S = 3
_THREADS = 4


class ControlServer(uvicorn.Server):
    """Serves one application.

    Parameters
    ----------
    ready : called once it serves
    """

    def __init__(self, app: FastAPI, ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                ws="none",
                lifespan="off",
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_SHUTDOWN_S,
            )
        )
        self._hub = app.state.hub
        self._ready = ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own would end the process by the same signal, before the keeper's last look."""
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and say so."""
        # More threads than this read the store no faster: they only wait for each other.
        current_default_thread_limiter().total_tokens = _THREADS
        await super().startup(sockets)
        # What is loaded by now stays: a full collection that walks over all of it would hold up every request.
        gc.collect()
        gc.freeze()
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """A stream would otherwise be waited for until the grace is over."""
        self._hub.close()
        await super().shutdown(sockets)
