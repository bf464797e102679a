"""Several scoring processes behind one listening socket.

They accept from the same queue, so that one which goes leaves no connection behind in a queue of its own (as
`SO_REUSEPORT` would), and they count into the same memory, so that /metrics of any of them speaks for all.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import MutableSequence, Sequence
from pathlib import Path
from socket import socket
from typing import cast

from hansa.clients.scoring.server import write_ready
from hansa.clients.scoring.tally import Place

log = logging.getLogger("hansa.scoring")

_TICK_S = 0.1
_PAUSE_S = (0.5, 15.0)
_PR_SET_PDEATHSIG = 1
_INPUT_IS_WRONG = 2


def shared_counts(workers: int, columns: int) -> int:
    """A file in memory with the counts of so many processes; its descriptor."""
    handle = os.memfd_create("hansa-scoring-counts", 0)
    os.ftruncate(handle, 8 * workers * Place(columns).slots)
    return handle


def opened_counts(handle: int) -> MutableSequence[float]:
    """The counts behind a descriptor, as numbers."""
    return cast("MutableSequence[float]", memoryview(mmap.mmap(handle, 0)).cast("d"))


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process by SIGTERM when its parent is gone; at once where it is gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(1)


def keep_workers(
    argv: Sequence[str], workers: int, listener: socket, columns: int, ready_file: Path | None
) -> int:
    """Start workers, start again what dies, pass signals on; returns when all have ended, with the first bad code.

    Parameters
    ----------
    argv : arguments of one worker, but for which one it is
    """
    counts = shared_counts(workers, columns)
    ended = False

    def pass_on(number: int, _: object) -> None:
        nonlocal ended
        ended = ended or number != signal.SIGHUP
        if ended and ready_file is not None:
            ready_file.unlink(missing_ok=True)
        for child in children:
            if child is not None and child.poll() is None:
                child.send_signal(number)

    with tempfile.TemporaryDirectory(prefix="hansa-scoring-") as folder:
        marks = [Path(folder) / str(place) for place in range(workers)]

        def start(place: int) -> subprocess.Popen[bytes]:
            own = [
                "--worker",
                f"{place},{listener.fileno()},{counts},{os.getpid()}",
                "--ready-file",
                str(marks[place]),
            ]
            command = [sys.executable, "-P", "-m", "hansa.clients.scoring", *argv, *own]
            # Ctrl-C goes to all of a terminal's processes; a worker hears of it once, from here.
            return subprocess.Popen(command, pass_fds=(listener.fileno(), counts), start_new_session=True)

        children: list[subprocess.Popen[bytes] | None] = [None] * workers
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, pass_on)
        children[:] = [start(place) for place in range(workers)]
        code, ready, pauses, due = 0, False, [_PAUSE_S[0]] * workers, [0.0] * workers
        while True:
            for place, child in enumerate(children):
                if child is not None and (left := child.poll()) is not None:
                    children[place] = None
                    if ended or left == _INPUT_IS_WRONG:
                        # One that was told to end while it started had nothing to finish.
                        code = code or (0 if left == -signal.SIGTERM else left)
                        if not ended:
                            pass_on(signal.SIGTERM, None)
                        continue
                    log.error(
                        "worker %d ended with code %d; another starts in %g s", place, left, pauses[place]
                    )
                    due[place], pauses[place] = (
                        time.monotonic() + pauses[place],
                        min(2 * pauses[place], _PAUSE_S[1]),
                    )
                elif child is None and not ended and time.monotonic() >= due[place]:
                    children[place] = start(place)
            if ended and not any(children):
                return code
            if not ready and not ended and all(mark.exists() for mark in marks):
                ready = True
                if ready_file is not None:
                    write_ready(ready_file, listener)
            time.sleep(_TICK_S)
