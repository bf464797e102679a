"""Folders of private files: whose what is written there becomes, and what a stopped process left behind.

As root a command writes into folders of several users (`deploy/systemd/`); each has to be able to read its own then.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from pathlib import Path

from hansa.contract.errors import InputError

# A file beside another one that is being written; `tempfile` draws its last eight letters.
_DRAWN = re.compile(r"[a-z0-9_]{8}")
# Whoever writes a file is done by then.
LEFT_S = 60.0


def give_to_owner(handle: int, path: Path) -> None:
    """As root: give an open file or folder, which takes its place at `path`, to whom that belongs, or its folder.

    A folder that everybody may write into, such as /tmp, gives nothing away.
    """
    if os.geteuid() != 0:
        return
    try:
        owner = path.lstat()
    except FileNotFoundError:
        owner = path.parent.stat()
        if owner.st_mode & stat.S_IWOTH:
            return
    # The root of a container may lack the right to; what it writes is its own then.
    with contextlib.suppress(PermissionError):
        os.fchown(handle, owner.st_uid, owner.st_gid)


def inner_folder(path: Path) -> None:
    """Make a folder that its owner alone may enter, in one that is there; it belongs to whom that one belongs.

    Raises
    ------
    InputError : something else is in the way
    """
    check_inner_folder(path)
    path.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchmod(handle, 0o700)
        give_to_owner(handle, path.parent)
    finally:
        os.close(handle)


def check_inner_folder(path: Path) -> None:
    """Refuse what `inner_folder` would stumble over: a file, or a link that leads elsewhere.

    Raises
    ------
    InputError : naming it
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise InputError(f"{path}: is in the way of a folder of that name; move it elsewhere")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder")


def clear_leftovers(path: Path) -> None:
    """Remove what processes that were stopped while they wrote `path` left beside it; it may hold a private key."""
    start, latest = f".{path.name}.", time.time() - LEFT_S
    for it in path.parent.glob(f"{start}*"):
        if _DRAWN.fullmatch(it.name.removeprefix(start)):
            with contextlib.suppress(FileNotFoundError):
                found = it.lstat()
                if stat.S_ISREG(found.st_mode) and found.st_mtime < latest:
                    it.unlink()
