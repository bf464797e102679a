"""Putting a finished instance in its place: by one rename, or part by part into mounted volumes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def is_mounted(out: Path) -> bool:
    """Whether `out` is where volumes are mounted, as in a container; those cannot be renamed."""
    return out.is_dir() and any(path.is_mount() for path in (out, *out.iterdir()))


def building_place(out: Path) -> Path:
    """A new folder to build in: beside `out`, so that it can be renamed, unless `out` is a mount point."""
    if is_mounted(out):
        return Path(tempfile.mkdtemp(prefix=f"{out.name}.new-"))
    out.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.new-"))


def put_in_place(building: Path, out: Path, last: str) -> None:
    """Move what was built to `out`. In mounted volumes the file `last`, which makes it whole, comes at the end."""
    if is_mounted(out):
        _fill(building, out, last)
        return
    if not out.exists() or not any(out.iterdir()):
        os.replace(building, out)
        return
    # Two renames: whoever looks in between sees no instance rather than a mixed one.
    retired = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.old-"))
    os.replace(out, retired)
    os.replace(building, out)
    shutil.rmtree(retired, ignore_errors=True)


def _fill(building: Path, out: Path, last: str) -> None:
    shutil.copytree(building, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(last))
    os.sync()
    shutil.copy2(building / last, out / f".{last}")
    os.replace(out / f".{last}", out / last)
    shutil.rmtree(building)
