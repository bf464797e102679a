"""Everything that left this organisation: written before it leaves, marked once it has left.

SQLite with `synchronous=FULL`: when `enter` returns, the entry stays over a power cut, and only then may the
bytes leave. That they left is marked afterwards, without waiting for the disk: an entry without the mark says "may
have left". What says the same again within ten minutes is counted at the entry of the first.

The newest KEPT uploads, shares and files are kept one by one, and apart from them the newest KEPT of all other
messages, so that no number of these drives out one of those; of older ones how many of which kind, how large and of
when.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hansa.clients.durable import DurableFile
from hansa.clients.leaving import FILE, Leaving
from hansa.clients.outbox_words import speakable
from hansa.contract.errors import HansaError

OUTBOX = "outbox.sqlite"
# Entries of each of the two sorts that are kept one by one, 0.4 to 1.3 kB each; so many more are gathered before the
# oldest go.
KEPT, GATHERED = 50_000, 1_000
# Sums of older ones, of so many jobs and kinds; what is beyond that is added up under no job.
MOST_OLDER = 10_000
# What was computed from records, shares by which it is opened, and files.
WEIGHTY = ("upload", "unmask", FILE)
# Seconds during which what says the same again is counted at the first entry; of so many such entries.
AGAIN_S, OPEN = 600.0, 256

_KINDS = str(WEIGHTY)
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, job TEXT NOT NULL, kind TEXT NOT NULL,
    kinds TEXT NOT NULL, bytes INTEGER NOT NULL, content TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS gone (entry INTEGER PRIMARY KEY, at REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS again (
    id INTEGER PRIMARY KEY AUTOINCREMENT, entry INTEGER NOT NULL, messages INTEGER NOT NULL, bytes INTEGER NOT NULL,
    last REAL NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS again_of ON again (entry);
CREATE TABLE IF NOT EXISTS older (
    job TEXT NOT NULL, kind TEXT NOT NULL, messages INTEGER NOT NULL, bytes INTEGER NOT NULL,
    first REAL NOT NULL, last REAL NOT NULL, PRIMARY KEY (job, kind)) STRICT;
CREATE TABLE IF NOT EXISTS edges (weighty INTEGER PRIMARY KEY, entry INTEGER NOT NULL) STRICT;
INSERT OR IGNORE INTO edges VALUES (0, 0), (1, 0);
DROP TRIGGER IF EXISTS entries_stay;
CREATE TRIGGER IF NOT EXISTS entries_stand BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'the outbox is append-only'); END;
CREATE TRIGGER IF NOT EXISTS gone_stand BEFORE UPDATE ON gone
    BEGIN SELECT RAISE(ABORT, 'the outbox is append-only'); END;
CREATE TRIGGER IF NOT EXISTS again_stand BEFORE UPDATE ON again
    BEGIN SELECT RAISE(ABORT, 'the outbox is append-only'); END;
CREATE TRIGGER entries_stay BEFORE DELETE ON entries
    WHEN OLD.id > (SELECT entry FROM edges WHERE weighty = (OLD.kind IN {_KINDS}))
    BEGIN SELECT RAISE(ABORT, 'the outbox is append-only'); END;
"""
_GOES = f"(kind IN {_KINDS}) = :weighty AND id <= :edge"
_FOLD = (
    "INSERT INTO older SELECT job, kind, count(*) + sum(more), sum(bytes + more_bytes), min(at), max(last) FROM ("
    "SELECT job, kind, at, e.bytes AS bytes, coalesce(sum(messages), 0) AS more, "
    "coalesce(sum(a.bytes), 0) AS more_bytes, max(at, coalesce(max(a.last), at)) AS last "
    f"FROM (SELECT * FROM entries WHERE {_GOES}) e LEFT JOIN again a ON a.entry = e.id GROUP BY e.id) WHERE true "
    "GROUP BY job, kind ON CONFLICT (job, kind) DO UPDATE SET messages = messages + excluded.messages, "
    "bytes = bytes + excluded.bytes, first = min(first, excluded.first), last = max(last, excluded.last)",
    "UPDATE edges SET entry = :edge WHERE weighty = :weighty",
    f"DELETE FROM again WHERE entry IN (SELECT id FROM entries WHERE {_GOES})",
    f"DELETE FROM gone WHERE entry IN (SELECT id FROM entries WHERE {_GOES})",
    f"DELETE FROM entries WHERE {_GOES}",
)
# Sums that are added up: those of the least weight, and of them the oldest.
_BEYOND = (
    f"FROM older WHERE job <> '' ORDER BY kind IN {_KINDS} DESC, last DESC, job, kind LIMIT -1 OFFSET :most"
)
_GATHER = (
    "INSERT INTO older SELECT '', kind, sum(messages), sum(bytes), min(first), max(last) "
    f"FROM (SELECT * {_BEYOND}) WHERE true GROUP BY kind "
    "ON CONFLICT (job, kind) DO UPDATE SET messages = messages + excluded.messages, "
    "bytes = bytes + excluded.bytes, first = min(first, excluded.first), last = max(last, excluded.last)",
    f"DELETE FROM older WHERE rowid IN (SELECT rowid {_BEYOND})",
)


@dataclass
class _Open:
    """The entry of what may be said again, and how often it was since that was last written."""

    entry: int
    weighty: bool
    until: float
    messages: int = 0
    bytes: int = 0
    last: float = 0.0


def outbox_file(path: Path | str) -> DurableFile:
    """The record of all that left."""
    return DurableFile(
        path,
        "the record of all that left this organisation",
        f"move {path}* away and keep it for whoever can read it; the agent begins a new record at its next start",
    )


class Outbox:
    """The one writer of the record; safe to call from several threads.

    Parameters
    ----------
    path : the file, made where there is none
    now, monotonic : seconds since 1970; seconds of a clock that only rises

    Raises
    ------
    HansaError : the file is damaged; says what to do
    """

    def __init__(
        self,
        path: Path | str,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        kept: int = KEPT,
        gathered: int = GATHERED,
        most_older: int = MOST_OLDER,
    ) -> None:
        self.path, self._now, self._monotonic = path, now, monotonic
        self._kept, self._gathered, self._most_older = kept, gathered, most_older
        self._lock = threading.Lock()
        self._db = outbox_file(path).open(_SCHEMA)
        # Marks of what left do not wait for the disk; the next entry does, for all of them.
        self._marks = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._marks.execute("PRAGMA synchronous=NORMAL")
        # How many entries of either sort there are.
        self._held = {
            it: int(
                self._db.execute(
                    f"SELECT count(*) FROM entries WHERE (kind IN {_KINDS}) = ?", (it,)
                ).fetchone()[0]
            )
            for it in (False, True)
        }
        self._open: dict[str, _Open] = {}
        # Of each thread the entry whose bytes it is about to send.
        self._sending = threading.local()

    def enter(self, leaving: Leaving, key: str = "") -> None:
        """Write what is about to leave, durably; nothing may leave before this returns.

        Parameters
        ----------
        key : equal for what says the same again; empty: nothing else does

        Raises
        ------
        HansaError : there are no words for it, or the disk did not take it: then it must not leave
        """
        self._sending.entry = None
        if not speakable(leaving):
            raise HansaError(
                f"the outbox has no words for a message '{leaving.kind}' with {leaving.kinds[1:]}"
            )
        with self._lock:
            known = self._open.get(key)
            if known is not None and self._monotonic() < known.until:
                known.messages, known.bytes = known.messages + 1, known.bytes + leaving.bytes
                known.last = self._now()
                return
            entry = self._write(leaving)
            self._sending.entry = entry
            if key:
                self._open.pop(key, None)
                self._open[key] = _Open(entry, leaving.kind in WEIGHTY, self._monotonic() + AGAIN_S)
                if len(self._open) > OPEN:
                    # What was counted of it was written with the entry just now.
                    del self._open[next(iter(self._open))]

    def sent(self) -> None:
        """What this thread entered last has left; where that cannot be written it stays "may have left"."""
        entry = getattr(self._sending, "entry", None)
        self._sending.entry = None
        if entry is None:
            return
        with self._lock, suppress(sqlite3.Error):
            self._marks.execute("INSERT OR IGNORE INTO gone VALUES (?, ?)", (entry, self._now()))

    def flush(self) -> None:
        """Write what was counted in memory, so that a reader of the file sees it."""
        with self._lock:
            counted = [it for it in self._open.values() if it.messages]
            if not counted:
                return
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._count(counted)
                self._db.execute("COMMIT")
            except sqlite3.Error:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                return
            _begin_anew(counted)

    def close(self) -> None:
        """Close the file."""
        self.flush()
        with self._lock:
            self._marks.close()
            self._db.close()

    def _write(self, leaving: Leaving) -> int:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            row = self._db.execute(
                "INSERT INTO entries (at, job, kind, kinds, bytes, content) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    self._now(),
                    leaving.job,
                    leaving.kind,
                    f" {' '.join(leaving.kinds)} ",
                    leaving.bytes,
                    leaving.model_dump_json(exclude_defaults=True),
                ),
            )
            entry = int(row.lastrowid or 0)
            counted = [it for it in self._open.values() if it.messages]
            self._count(counted)
            weighty = leaving.kind in WEIGHTY
            edge = self._fold(weighty)
            # Returns when the entry is on the disk.
            self._db.execute("COMMIT")
            _begin_anew(counted)
            self._held[weighty] = self._kept if edge else self._held[weighty] + 1
            # What may still be said again is counted at entries that stay.
            self._open = {
                key: it for key, it in self._open.items() if it.weighty != weighty or it.entry > edge
            }
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise HansaError(
                f"{self.path}: what leaves could not be written down ({error}), so it did not leave; "
                "put the disk in order"
            ) from None
        return entry

    def _count(self, counted: Sequence[_Open]) -> None:
        self._db.executemany(
            "INSERT INTO again (entry, messages, bytes, last) VALUES (?, ?, ?, ?)",
            [(it.entry, it.messages, it.bytes, it.last) for it in counted],
        )

    def _fold(self, weighty: bool) -> int:
        """With one entry of its sort more: add up the oldest where they are too many; the last that went, or 0."""
        if self._held[weighty] + 1 < self._kept + self._gathered:
            return 0
        newest = f"SELECT id FROM entries WHERE (kind IN {_KINDS}) = ? ORDER BY id DESC LIMIT 1 OFFSET ?"
        edge = int(self._db.execute(newest, (weighty, self._kept)).fetchone()[0])
        for statement in _FOLD:
            self._db.execute(statement, {"edge": edge, "weighty": weighty})
        for statement in _GATHER:
            self._db.execute(statement, {"most": self._most_older})
        return edge


def _begin_anew(counted: Sequence[_Open]) -> None:
    for it in counted:
        it.messages = it.bytes = 0
