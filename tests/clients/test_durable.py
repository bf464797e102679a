"""The agent's files beside its ledger: a damaged one is named with what to do, whoever reads it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from federation import make_federation

from hansa.clients.attempt_log import AttemptLog
from hansa.clients.heads import Heads
from hansa.clients.uploads import read_newest_receipt, read_shown_receipts, read_uploads
from hansa.contract.errors import HansaError
from hansa.contract.messages import Receipt, Seen

Open = Callable[[Path], object]


def heads(path: Path) -> Heads:
    return Heads(path, make_federation(3).charter)


def highest(path: Path) -> object:
    made = AttemptLog(path)
    try:
        return made.highest_receipt()
    finally:
        made.close()


def own(path: Path) -> object:
    made = heads(path)
    try:
        return made.own()
    finally:
        made.close()


def scribbled(path: Path, page: int) -> None:
    """Bytes that nobody wrote, at the beginning of a page."""
    content = bytearray(path.read_bytes())
    place = page * int.from_bytes(content[16:18], "big")
    content[place : place + 2000] = b"\xa5" * 2000
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("page", [0, 2])
@pytest.mark.parametrize(
    ("make", "readers"),
    [(AttemptLog, (AttemptLog, read_uploads, read_newest_receipt)), (heads, (heads, read_shown_receipts))],
)
def test_a_file_of_garbage_is_one_sentence_with_what_to_do(
    tmp_path: Path, make: Callable[[Path], AttemptLog | Heads], readers: tuple[Open, ...], page: int
) -> None:
    path = tmp_path / "kept.sqlite"
    make(path).close()
    scribbled(path, page)
    # Whoever only reads sees what is broken of what it reads.
    for read in readers[:1] if page else readers:
        with pytest.raises(
            HansaError, match=r"kept\.sqlite: .* cannot be read .*; move .*kept\.sqlite\* away"
        ):
            read(path)


def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    for read in (AttemptLog, heads, read_uploads, read_newest_receipt, read_shown_receipts):
        with pytest.raises(HansaError, match="file is not a database"):
            read(path)


@pytest.mark.parametrize(
    ("make", "table", "values", "readers"),
    [
        (AttemptLog, "receipts", (7, "{}"), (highest, read_newest_receipt)),
        (AttemptLog, "receipts", (7, "no JSON"), (highest, read_newest_receipt)),
        (AttemptLog, "uploads", (1, 0.0, "job", 1, "update", "many", "local"), (read_uploads,)),
        (heads, "own", (7, "0" * 64, "{}"), (own, read_shown_receipts)),
    ],
)
def test_a_row_of_another_kind_is_one_sentence(
    tmp_path: Path,
    make: Callable[[Path], AttemptLog | Heads],
    table: str,
    values: tuple[object, ...],
    readers: tuple[Open, ...],
) -> None:
    path = tmp_path / "kept.sqlite"
    make(path).close()
    db = sqlite3.connect(path)
    columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")][: len(values)]
    marks = ", ".join("?" * len(values))
    db.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", values)
    db.commit()
    db.close()
    for read in readers:
        with pytest.raises(HansaError, match=r"kept\.sqlite: .* cannot be read \((seen|uploads): "):
            read(path)


def test_a_record_of_uploads_from_before_multipliers_were_kept_is_read_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    db = sqlite3.connect(path)
    db.executescript(
        "CREATE TABLE uploads (id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, job TEXT NOT NULL, "
        "attempt INTEGER NOT NULL, segment TEXT NOT NULL, releases INTEGER NOT NULL, noise TEXT NOT NULL);"
        "INSERT INTO uploads VALUES (1, 7.0, 'job', 1, 'update', 10, 'local');"
    )
    db.close()
    before = read_uploads(path)
    assert [it.multiplier for it in before] == [None]
    log = AttemptLog(path)
    assert log.uploads() == before
    log.keep_reply(
        b"reply",
        Seen(job="ab" * 16, attempt=2, order="0" * 64, receipt=Receipt()),
        {"update": 10, "evaluation": 1},
        "local",
        {"update": 6.5, "evaluation": 2.25},
    )
    log.close()
    AttemptLog(path).close()
    assert [it.multiplier for it in read_uploads(path)] == [None, 6.5, 2.25]
