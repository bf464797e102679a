"""A folder of an instance as one file, taken while its processes run, and put back: `hansa backup`, `hansa restore`.

SQLite's own backup copies each database at one moment, its log included; whoever writes a plain file replaces it in one
piece. What a running process makes anew (sockets, logs, figures, records of supervisors) is left out.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from hansa import __version__
from hansa.clients.forgotten import FORGOTTEN
from hansa.contract.errors import InputError

# No file of a folder: names that begin with a dot are left out.
MANIFEST = ".hansa-backup.json"
# What it was called before.
_OLD_MANIFEST = "manifest.json"
_LEFT_OUT = {"run", "logs", "metrics"}
_SQLITE = b"SQLite format 3\x00"
_LOGS = ("-wal", "-shm", "-journal")
_LARGEST_MANIFEST = 64 << 20
_PIECE = 1 << 20


def make_archive(folder: Path, out: Path, note: Callable[[Path], None] = lambda whole: None) -> int:
    """Write a folder's files into `out`, mode 0600; how many.

    Parameters
    ----------
    note : is given the whole archive before `out` is there; what it raises leaves no `out`

    Raises
    ------
    InputError : not a folder, or `out` is there already
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if out.exists():
        raise InputError(f"{out}: is there already, and a backup replaces none; name another file with --out")
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
        note(Path(hidden))
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
    if not archive.is_file():
        raise InputError(f"{archive}: {'a folder, no backup' if archive.is_dir() else 'no such file'}")
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: is there already; move it away first: what it knows may be newer")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        whole = Path(name) / "whole"
        whole.mkdir(mode=0o700)
        try:
            hashes, facts = _unpack(archive, whole)
            files, made = facts["files"], str(facts["made"])
        except (OSError, tarfile.TarError, zlib.error, KeyError, ValueError, EOFError) as error:
            raise InputError(f"{archive}: not a backup that hansa backup made ({error})") from None
        if set(hashes) != set(files):
            raise InputError(f"{archive}: its files are not those of its manifest")
        for path, found in hashes.items():
            if found != files[path]["sha256"]:
                raise InputError(f"{archive}: {path} was changed since the backup was made")
            (whole / path).chmod(int(files[path]["mode"]) & 0o777)
        if folder.exists():
            folder.rmdir()
        os.replace(whole, folder)
    return len(hashes), made


def left_out(folder: Path) -> list[str]:
    """What of a folder a backup does not hold and a restore does not bring back: links, names with a dot, folders of
    what passes. Sockets, locks and logs of databases are made anew and not named."""
    found = []
    for path in sorted(folder.rglob("*")):
        *parents, _ = parts = path.relative_to(folder).parts
        if set(parents) & _LEFT_OUT:
            continue
        name = PurePosixPath(*parts).as_posix()
        if path.is_symlink():
            found.append(f"{name} (a symbolic link)")
        elif path.is_dir() and path.name in _LEFT_OUT:
            found.append(f"{name}/")
        elif path.is_file() and path.name.startswith(".") and not _made_anew(path):
            found.append(name)
    return found


def secrets_among(folder: Path) -> str:
    """What of a folder's files lets somebody act in its owner's place, in words; empty where there is none."""
    names = [it.name for it in _kept(folder)]
    keys = any(it.endswith(".key") for it in names)
    tokens = any(it == "tokens.json" or it.endswith((".token", ".secret")) for it in names)
    return " and ".join([*(["private keys"] if keys else []), *(["tokens"] if tokens else [])])


def _kept(folder: Path) -> Iterator[Path]:
    # The list of forgotten people last: one that has more than its ledger is made up for, one that has less is refused.
    for path in sorted(folder.rglob("*"), key=lambda it: (it.name == FORGOTTEN, it)):
        passing = set(path.relative_to(folder).parts[:-1]) & _LEFT_OUT or _made_anew(path)
        if path.is_file() and not path.is_symlink() and not passing and not path.name.startswith("."):
            yield path


def _made_anew(path: Path) -> bool:
    return path.name.endswith((*_LOGS, ".lock", ".ready"))


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


def _unpack(archive: Path, whole: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Write an archive's files into a new folder, piece by piece; SHA-256 of each, and the manifest.

    Raises
    ------
    InputError : more than the disk has room for
    OSError, ValueError, tarfile.TarError : no archive of `make_archive`
    """
    hashes, room = {}, shutil.disk_usage(whole).free
    with tarfile.open(archive, mode="r:gz") as opened:
        for entry in opened:
            if not entry.isfile():
                continue
            room -= entry.size
            if room < 0:
                raise InputError(
                    f"{archive}: {entry.name} and what comes before it are more than {whole.parent} holds"
                )
            hashes[entry.name] = _write(whole, opened, entry)
    name = MANIFEST if MANIFEST in hashes else _OLD_MANIFEST
    del hashes[name]
    if (whole / name).stat().st_size > _LARGEST_MANIFEST:
        raise ValueError("its manifest is too large")
    facts = json.loads((whole / name).read_bytes())
    (whole / name).unlink()
    return hashes, facts


def _write(folder: Path, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> str:
    name = PurePosixPath(entry.name)
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"{entry.name}: leads out of the folder")
    path, content, hashing = folder / name, archive.extractfile(entry), hashlib.sha256()
    assert content is not None
    for parent in reversed(path.relative_to(folder).parents[:-1]):
        (folder / parent).mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while piece := content.read(_PIECE):
            hashing.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return hashing.hexdigest()
