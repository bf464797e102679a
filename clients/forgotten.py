"""Entities that an organisation had forgotten: kept as keyed hashes, never computed on again, whatever data comes.

SQLite with `synchronous=FULL`. The ledger, where there is one, says how many they are and carries a hash over the
list: a copy of this file that is older than the ledger is found at the agent's start. So is one that was made under
another `split.key`.
"""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
import threading
import time
from collections.abc import Collection, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.dataset import Dataset
from hansa.clients.durable import DurableFile
from hansa.clients.ledger import Ledger
from hansa.contract.errors import HansaError
from hansa.privacy.records import ForgetRow

FORGOTTEN = "forgotten.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, by TEXT NOT NULL, reason TEXT NOT NULL,
    entities INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS forgotten (hash TEXT PRIMARY KEY, decision INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS made_under (one INTEGER PRIMARY KEY CHECK (one = 1), key_check TEXT NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS forgotten_stay BEFORE DELETE ON forgotten
    BEGIN SELECT RAISE(ABORT, 'nothing that was forgotten comes back'); END;
CREATE TRIGGER IF NOT EXISTS forgotten_stand BEFORE UPDATE ON forgotten
    BEGIN SELECT RAISE(ABORT, 'nothing that was forgotten comes back'); END;
"""


@dataclass(frozen=True)
class Decision:
    """When (seconds since 1970), by whom, why, and how many entities."""

    at: float
    by: str
    reason: str
    entities: int


def forgotten_file(path: Path | str) -> DurableFile:
    """The list of forgotten entities."""
    return DurableFile(
        path,
        "the list of entities that were forgotten",
        f"move {path}* away and put the newest good copy in its place; without one, forget them again",
    )


class Forgotten:
    """The one writer of the list; safe to call from several threads.

    Parameters
    ----------
    secret : the member's own key, which never leaves it

    Raises
    ------
    HansaError : the file is damaged, an older copy, or made under another key
    """

    def __init__(self, path: Path | str, secret: bytes, ledger: Ledger | None = None) -> None:
        self._path, self._ledger = path, ledger
        self._hashing = _Hashing(secret)
        self._lock = threading.Lock()
        self._db = forgotten_file(path).open(_SCHEMA)
        self._check_key(secret)
        self._hashes = {str(it) for (it,) in self._db.execute("SELECT hash FROM forgotten")}
        self._check_whole()

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the keyed hashes, sorted."""
        return hashlib.sha256("".join(sorted(self._hashes)).encode()).hexdigest()

    def keep(self, records: Dataset) -> Dataset:
        """The records of whoever was not forgotten."""
        return self._hashing.keep(records, self._hashes)

    def holds(self, entity: bytes) -> bool:
        """Whether an entity was forgotten, by its id."""
        return self._hashing(entity) in self._hashes

    def add(self, entities: Collection[bytes], *, by: str, reason: str) -> int:
        """Put entities on the list, durably; returns how many were not on it.

        Raises
        ------
        HansaError : the disk did not take it
        """
        with self._lock:
            new = {self._hashing(it) for it in entities} - self._hashes
            if not new:
                # Where the ledger did not take an earlier row, asking again makes up for it.
                self._record(by, reason)
                return 0
            try:
                self._db.execute("BEGIN IMMEDIATE")
                row = self._db.execute(
                    "INSERT INTO decisions (at, by, reason, entities) VALUES (?, ?, ?, ?)",
                    (time.time(), by, reason, len(new)),
                )
                self._db.executemany(
                    "INSERT INTO forgotten VALUES (?, ?)", [(it, row.lastrowid) for it in sorted(new)]
                )
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise HansaError(
                    f"{self._path}: nobody was forgotten: it could not be written ({error})"
                ) from None
            self._hashes |= new
            self._record(by, reason)
            return len(new)

    def decisions(self) -> list[Decision]:
        """All decisions in their order."""
        with self._lock:
            rows = self._db.execute("SELECT at, by, reason, entities FROM decisions ORDER BY id").fetchall()
        return [Decision(*row) for row in rows]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _record(self, by: str, reason: str) -> None:
        """Enter all that the ledger lacks, what an earlier row that failed was to say among it."""
        if self._ledger is None:
            return
        with self._ledger.held() as book:
            before = 0 if book.forgotten is None else book.forgotten.total
        total = len(self._hashes)
        if total > before:
            self._ledger.record(
                ForgetRow(
                    entities=total - before,
                    total=total,
                    fingerprint=self.fingerprint,
                    reason=reason,
                    by=by,
                )
            )

    def _check_key(self, secret: bytes) -> None:
        try:
            self._db.execute("INSERT OR IGNORE INTO made_under VALUES (1, ?)", (key_check(secret),))
            ((stored,),) = self._db.execute("SELECT key_check FROM made_under")
        except sqlite3.Error as error:
            forgotten_file(self._path).failed(error)
        _check_made_under(self._path, str(stored), secret)

    def _check_whole(self) -> None:
        """Enter what the ledger lacks after a crash between the two writes; refuse a list that lacks entities."""
        if self._ledger is None:
            return
        with self._ledger.held() as book:
            known = book.forgotten
        total = 0 if known is None else known.total
        if known is not None and (
            total > len(self) or (total == len(self) and known.fingerprint != self.fingerprint)
        ):
            raise HansaError(
                f"{self._path}: holds {len(self)} entities, and the ledger says that {total} were forgotten: it is an "
                "older copy; put the newest one in its place, else people would be trained on again"
            )
        if len(self) > total:
            last = self.decisions()[-1]
            self._record(last.by, last.reason)


class _Hashing:
    """The keyed hash of an entity."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.new(secret, b"forget", hashlib.sha256)

    def __call__(self, entity: bytes) -> str:
        keyed = self._key.copy()
        keyed.update(entity)
        return keyed.hexdigest()

    def keep(self, records: Dataset, hashes: Set[str]) -> Dataset:
        """The records of whoever is not among these."""
        if not hashes:
            return records
        kept: NDArray[np.bool_] = np.array(
            [self(it) not in hashes for it in records.entities.tolist()], dtype=np.bool_
        )
        return records.take(kept)


def key_check(secret: bytes) -> str:
    """What tells one key from another and nothing else about it."""
    return hmac.new(secret, b"key of the list of forgotten entities", hashlib.sha256).hexdigest()


def kept_records(path: Path, secret: bytes, records: Dataset) -> Dataset:
    """The records of whoever was not forgotten, read beside a running agent or without one.

    Raises
    ------
    HansaError : the file is damaged, in use, or made under another key
    """
    if not path.exists():
        return records
    file = forgotten_file(path)
    for row in file.query("SELECT key_check FROM made_under"):
        _check_made_under(path, str(row["key_check"]), secret)
    return _Hashing(secret).keep(
        records, {str(it["hash"]) for it in file.query("SELECT hash FROM forgotten")}
    )


def read_decisions(path: Path) -> list[dict[str, object]]:
    """All decisions, read beside a running agent or without one; how many, when and why, of nobody by name."""
    if not path.exists():
        return []
    query = "SELECT at, by, reason, entities FROM decisions ORDER BY id"
    return [dict(it) for it in forgotten_file(path).query(query)]


def _check_made_under(path: Path | str, stored: str, secret: bytes) -> None:
    if not hmac.compare_digest(stored, key_check(secret)):
        raise HansaError(
            f"{path}: was made under another split.key, so nobody on it would be known again: put that split.key back; "
            "where it is lost, move the list away and forget everybody again"
        )
