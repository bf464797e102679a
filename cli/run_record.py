"""What runs here: a supervisor's record on disk, for `status` and `down` in another terminal."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from hansa.cli.children import marked
from hansa.cli.processes import ProcessFacts
from hansa.contract.errors import InputError
from hansa.contract.typed import Frozen, parse_document, write_atomically


class ProcessLine(Frozen):
    """One process as the record shows it."""

    name: str
    state: Literal["waiting", "starting", "ready", "restarting", "given-up", "stopped"]
    pid: int | None
    restarts: int
    sentence: str = ""


class RunRecord(Frozen):
    """`run/NAME.json`: who supervises, since when, and what."""

    supervisor: int
    mark: str
    since: datetime
    processes: tuple[ProcessLine, ...] = ()
    # Why the supervisor ended, where it did not end as asked; `code` is its exit code.
    failure: str = ""
    code: int = 0


def write_record(
    path: Path,
    *,
    mark: str,
    since: datetime,
    processes: Sequence[ProcessFacts],
    failure: str = "",
    code: int = 0,
) -> None:
    """Write this process's record."""
    record = RunRecord(
        supervisor=os.getpid(),
        mark=mark,
        since=since.astimezone(UTC),
        processes=tuple(ProcessLine(**asdict(it)) for it in processes),
        failure=failure,
        code=code,
    )
    write_atomically(path, record.model_dump_json(indent=2).encode() + b"\n", mode=0o600)


def read_record(path: Path) -> RunRecord | None:
    """The record at `path`, None where nothing ever ran or what stands there is no record."""
    try:
        return parse_document(json.loads(path.read_bytes()), RunRecord, path)
    except (OSError, ValueError, InputError):
        return None


@contextmanager
def only_one(path: Path, what: str) -> Iterator[None]:
    """Hold the lock beside a record; a second supervisor of the same thing is refused.

    Raises
    ------
    InputError : somebody holds it; the lock ends with its holder, however that ends
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock_file(path).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            record = read_record(path)
            who = f" (process {record.supervisor})" if record else ""
            raise InputError(f"{what} runs already{who}; stop that one first") from None
        yield


def is_held(path: Path) -> bool:
    """Whether the supervisor that writes this record lives."""
    try:
        with _lock_file(path).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def held_in(folder: Path) -> str | None:
    """What a supervisor runs from this folder, by its record: up, server, client; None where none lives."""
    for lock in sorted((folder / "run").glob("*.lock")):
        if is_held(lock.with_suffix(".json")):
            return lock.stem
    return None


def left_over(record: RunRecord) -> list[int]:
    """Living processes of a supervisor that is gone."""
    return marked(record.mark)


def _lock_file(path: Path) -> Path:
    return path.with_suffix(".lock")
