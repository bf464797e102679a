"""A folder of an instance as one file, taken while its processes run, and put back: `hansa backup`, `hansa restore`.

SQLite's own backup copies each database at one moment, its log included; whoever writes a plain file replaces it in one
piece. What a running process makes anew (sockets, logs, figures, records of supervisors) is left out.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from hansa import __version__
from hansa.contract.errors import InputError

MANIFEST = "manifest.json"
_LEFT_OUT = {"run", "logs", "metrics"}
_SQLITE = b"SQLite format 3\x00"
_LOGS = ("-wal", "-shm", "-journal")
_LARGEST_MANIFEST = 64 << 20


def make_archive(folder: Path, out: Path) -> int:
    """Write a folder's files into `out`, mode 0600; how many.

    Raises
    ------
    InputError : not a folder, or `out` is there already
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if out.exists():
        raise InputError(f"{out}: is there already; a backup replaces none")
    if out.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{out}: lies in the folder itself; a backup belongs elsewhere")
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, hidden = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    manifest: dict[str, dict[str, str | int]] = {}
    try:
        with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for path in _kept(folder):
                name = path.relative_to(folder).as_posix()
                content, mode = _content(path), stat.S_IMODE(path.stat().st_mode)
                _add(archive, name, content, mode)
                manifest[name] = {"sha256": hashlib.sha256(content).hexdigest(), "mode": mode}
            facts = {"version": __version__, "made": datetime.now(UTC).isoformat(), "files": manifest}
            _add(archive, MANIFEST, json.dumps(facts, indent=1).encode(), 0o600)
            archive.close()
            file.flush()
            os.fsync(file.fileno())
        os.replace(hidden, out)
    except BaseException:
        Path(hidden).unlink(missing_ok=True)
        raise
    return len(manifest)


def put_back(archive: Path, folder: Path) -> tuple[int, str]:
    """Write an archive's files into a folder that is not there yet; how many, and when they were taken.

    Raises
    ------
    InputError : no archive of `make_archive`, a file of it was changed, or the folder is there
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: is there already; move it away first: what it knows may be newer")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        whole = Path(name) / "whole"
        whole.mkdir(mode=0o700)
        try:
            with tarfile.open(archive, mode="r:gz") as opened:
                contents = {it.name: _read(opened, it) for it in opened if it.isfile()}
            facts = json.loads(contents.pop(MANIFEST))
            files, made = facts["files"], str(facts["made"])
        except (OSError, tarfile.TarError, KeyError, ValueError, EOFError) as error:
            raise InputError(f"{archive}: not a backup that hansa backup made ({error})") from None
        if set(contents) != set(files):
            raise InputError(f"{archive}: its files are not those of its manifest")
        for path, content in contents.items():
            if hashlib.sha256(content).hexdigest() != files[path]["sha256"]:
                raise InputError(f"{archive}: {path} was changed since the backup was made")
            _write(whole, path, content, int(files[path]["mode"]))
        if folder.exists():
            folder.rmdir()
        os.replace(whole, folder)
    return len(contents), made


def _kept(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        passing = set(parts[:-1]) & _LEFT_OUT or path.name.endswith((*_LOGS, ".lock", ".ready"))
        if path.is_file() and not path.is_symlink() and not passing and not path.name.startswith("."):
            yield path


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        if file.read(len(_SQLITE)) != _SQLITE:
            return path.read_bytes()
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / path.name
        source, target = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30), sqlite3.connect(copy)
        with closing(source), closing(target):
            source.backup(target)
            # One file, without a log beside it.
            target.execute("PRAGMA journal_mode=DELETE")
        return copy.read_bytes()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(content), mode, int(datetime.now(UTC).timestamp())
    archive.addfile(entry, io.BytesIO(content))


def _read(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    path = PurePosixPath(entry.name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{entry.name}: leads out of the folder")
    file = archive.extractfile(entry)
    assert file is not None
    return file.read()


def _write(folder: Path, name: str, content: bytes, mode: int) -> None:
    path = folder / name
    for parent in reversed(path.relative_to(folder).parents[:-1]):
        (folder / parent).mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o777), "wb") as file:
        os.fchmod(file.fileno(), mode & 0o777)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
