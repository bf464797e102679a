"""Control's application on a real port, in a thread of the test."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hansa.server.control.app import build_app
from hansa.server.control.desk import ControlDesk
from hansa.server.control.serving import ControlServer


class _InThread(ControlServer):
    """Signals are the main thread's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def serve(desk: ControlDesk) -> Iterator[str]:
    """The URL under which the desk is served."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _InThread(build_app(desk))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
