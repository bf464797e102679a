"""The ledger's file: an organisation's rows, durable before anything is applied (DESIGN section 6).

SQLite in WAL mode with `synchronous=FULL`: when `record` or `charge` returns, the rows stay over a power
cut. What the rows mean, and which may follow, is `privacy.book`'s business; this file only keeps them.
One process writes (`clients.lock`), any number may read meanwhile.
"""

from __future__ import annotations

import copy
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from pydantic import ValidationError

from hansa.contract.errors import HansaError, InputError, RefusalError
from hansa.contract.messages import Head, Seen
from hansa.contract.typed import canonical_json, clipped, explain
from hansa.privacy.book import Book, LedgerError
from hansa.privacy.laws import Limits
from hansa.privacy.records import AnyBody, Charge, Row

log = logging.getLogger("hansa.agent")

LEDGER = "ledger.sqlite"
# Rows of one page of a reading.
MOST_ROWS = 500
# A clock that is corrected by less than this did not go back: the row gets the time of the one before it.
SLEWED = timedelta(seconds=1)
_VERSION = 1
# What SQLite says of a broken file; where the break is in its names or texts it cannot say it in UTF-8.
_BROKEN = (sqlite3.Error, UnicodeDecodeError)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (sequence INTEGER PRIMARY KEY, content TEXT NOT NULL, hash TEXT NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS rows_stay BEFORE DELETE ON rows
    BEGIN SELECT RAISE(ABORT, 'a ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS rows_stand BEFORE UPDATE ON rows
    BEGIN SELECT RAISE(ABORT, 'a ledger is append-only'); END;
"""


class Ledger:
    """The one writer of a ledger's file, and what its rows add up to; safe to call from several threads.

    Parameters
    ----------
    path : the file, made where there is none; ":memory:" keeps rows as long as this object lives

    Raises
    ------
    LedgerError : the file is damaged; names the first bad row and says what to do
    """

    def __init__(self, path: Path | str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path = path
        self._now = now
        # Whoever decides by what stands in the book holds it until the row is written.
        self._lock = threading.RLock()
        self._failed = ""
        # Why nothing may be charged: receipts show rows that are not here (`clients.witnesses`).
        self._frozen = ""
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            _check_file(self._db, path)
            self._db.executescript(_SCHEMA)
            if not self._db.execute("PRAGMA user_version").fetchone()[0]:
                self._db.execute(f"PRAGMA user_version={_VERSION}")
        except _BROKEN as error:
            _damaged(path, 1, str(error))
        self._book = replay(_rows(self._db, path, 0), path)

    @property
    def head(self) -> Head:
        """The newest row: sequence number and hash."""
        with self._lock:
            return self._book.head

    @contextmanager
    def held(self) -> Iterator[Book]:
        """The book, and nobody else writes while in here; to be read only."""
        with self._lock:
            yield self._book

    def time(self) -> datetime:
        """Now, as rows are dated."""
        with self._lock:
            now, newest = self._now(), self._book.newest
            return newest if newest is not None and now < newest <= now + SLEWED else now

    def record(self, *bodies: AnyBody) -> tuple[Row, ...]:
        """Write decisions of the organisation: all of them or, by the exception, none.

        Raises
        ------
        InputError : a law of the ledger forbids one; the sentence says which
        HansaError : the disk did not take them
        """
        with self._lock:
            self._check_writable()
            now, rows = self.time(), []
            # Later rows build on earlier ones, which must not be applied before all are written.
            trial = copy.deepcopy(self._book) if len(bodies) > 1 else self._book
            for number, body in enumerate(bodies, start=1):
                row = trial.entry(body, now)
                rows.append(row)
                if number < len(bodies):
                    trial.apply(row)
            self._append(rows)
            return tuple(rows)

    def charge(self, charges: Sequence[Charge], limits: Limits) -> tuple[Row, ...]:
        """Pay for one attempt, durably, before anything is computed: for all of its charges or for none.

        Raises
        ------
        RefusalError : as `Book.admit` says; `agent-unavailable` where the disk did not take the rows
        """
        with self._lock:
            try:
                self._check_writable()
                self._check_whole()
                rows = self._book.admit(charges, now=self.time(), limits=limits)
                self._append(rows)
            except RefusalError:
                raise
            except HansaError as error:
                raise RefusalError("agent-unavailable", str(error)) from None
            return rows

    def admissible(self, charges: Sequence[Charge], limits: Limits) -> None:
        """Raise what `charge` would raise now; nothing is written."""
        with self._lock:
            self._check_whole()
            self._book.admit(charges, now=self.time(), limits=limits)

    def behind(self, seen: Seen) -> bool:
        """Whether a receipt of this member's own shows rows that are not here."""
        with self._lock:
            return self._book.behind(seen)

    @property
    def frozen(self) -> str:
        """Why nothing is charged, in a sentence; empty where charges are admitted."""
        return self._frozen

    def freeze(self, sentence: str) -> None:
        """Charge nothing from here on, for this reason; go on where there is none."""
        with self._lock:
            self._frozen = sentence

    def recover(self, seen: Seen, *, by: str, reason: str) -> tuple[Row, ...]:
        """Write the rows that make up for what a receipt shows was lost: all or none.

        Raises
        ------
        InputError : nothing was lost by its word, or it cannot be made up for
        HansaError : the disk did not take them
        """
        with self._lock:
            self._check_writable()
            rows = self._book.recover(seen, by=by, reason=reason, now=self.time())
            self._append(rows)
            return rows

    def rows(self, after: int = 0, most: int = MOST_ROWS) -> list[Row]:
        """The next rows behind a sequence number."""
        with self._lock:
            return list(_rows(self._db, self._path, after, most))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _append(self, rows: Sequence[Row]) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT INTO rows (sequence, content, hash) VALUES (?, ?, ?)",
                [(row.sequence, canonical_json(row).decode(), row.hash) for row in rows],
            )
            # Returns when the rows are on the disk.
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            # Whether they are on the disk is not known now. Nothing more is written until the file was read again.
            self._failed = f"{self._path}: the ledger could not be written ({error})"
            log.exception("the ledger could not be written")
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._check_writable()
        for row in rows:
            self._book.apply(row)

    def _check_whole(self) -> None:
        if self._frozen:
            raise RefusalError("ledger-behind-witness", self._frozen)

    def _check_writable(self) -> None:
        if self._failed:
            raise HansaError(f"{self._failed}; put its disk in order and restart the agent")


def read_rows(path: Path) -> Iterator[Row]:
    """All rows of a ledger's file, which a running agent may go on writing; nothing is changed.

    Raises
    ------
    InputError : there is no such file
    LedgerError : the file is damaged, or holds what is no row; the rows before it were given out
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; an agent makes it at its first start")
    try:
        db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    try:
        _check_file(db, path)
        yield from _rows(db, path, 0)
    except _BROKEN as error:
        _damaged(path, 1, str(error))
    finally:
        db.close()


def replay(rows: Iterable[Row], path: Path | str) -> Book:
    """The book of all rows from the first on.

    Raises
    ------
    LedgerError : names the first bad row and says what to do
    """
    book = Book()
    for row in rows:
        try:
            book.apply(row)
        except LedgerError as error:
            _damaged(path, error.sequence, error.sentence)
    return book


def _check_file(db: sqlite3.Connection, path: Path | str) -> None:
    """The file is whole, and of a version that is known here."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > _VERSION:
        raise InputError(f"{path}: was written by a newer version of Hansa (format {version}); install that")
    problem = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    if problem != "ok":
        _damaged(path, _whole_rows(db) + 1, problem)


def _whole_rows(db: sqlite3.Connection) -> int:
    """Number of the last row before the first that cannot be read from a broken file."""
    last = 0
    try:
        for (sequence,) in db.execute("SELECT sequence FROM rows ORDER BY sequence"):
            last = int(sequence)
    except _BROKEN:
        pass
    return last


def _rows(db: sqlite3.Connection, path: Path | str, after: int, most: int = -1) -> Iterator[Row]:
    last = after
    try:
        for sequence, content, stored in db.execute(
            "SELECT sequence, content, hash FROM rows WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after, most),
        ):
            last = int(sequence)
            row = _row(str(content), path, last)
            if row.sequence != last or row.hash != stored:
                _damaged(path, last, "its content is not what its hash was taken over")
            yield row
    except _BROKEN as error:
        _damaged(path, last + 1, str(error))


def _row(content: str, path: Path | str, sequence: int) -> Row:
    try:
        return Row.model_validate_json(content)
    except ValidationError as error:
        _damaged(path, sequence, f"it is no row that this version knows: {explain(error)}")


def _damaged(path: Path | str, sequence: int, problem: str) -> NoReturn:
    raise LedgerError(
        sequence,
        f"{clipped(problem)}. Nothing is charged from it as it is: move {path}* away, put the newest good copy in its "
        "place (without one, grant anew), start the agent, and run 'hansa budgets recover', which enters what "
        "is missing from the receipts",
    )
