"""One agent a folder: two would not know of each other's attempts, and each would give a share of its own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hansa.contract.errors import HansaError, InputError

LOCK = "agent.lock"


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Hold the folder while in here; the lock ends with the process, however it ends.

    The file stays: whoever unlinked it would let a third process lock another file of that name.

    Raises
    ------
    HansaError : another process holds it
    """
    path = folder / LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HansaError(
                f"{folder}: another agent is running in this folder; stop it before you start a second one"
            ) from None
        yield
    finally:
        os.close(handle)
