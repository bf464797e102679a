"""One process a folder: two would each write what the other remembers."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TextIO

from hansa.contract.errors import InputError


def hold_alone(path: Path, what: str) -> TextIO:
    """Make the folder and hold this lock file in it, until what is returned is closed or the process ends.

    Parameters
    ----------
    what : who holds it, as the error says it, e.g. "scaler"

    Raises
    ------
    InputError : the folder cannot be used, or another process holds it
    """
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise
    except BlockingIOError:
        raise InputError(
            f"{folder}: another {what} works over this folder; stop it, or name another one"
        ) from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be used ({error.strerror})") from None
    return lock
