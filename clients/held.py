"""What a member keeps of jobs in mode `he`: keys, its last two states, and how often a sum was wrong.

One SQLite file of the agent's, readable by its user only, `synchronous=FULL`: a signature on keys, and a new state,
are on disk before anything about them leaves.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hansa.clients.durable import kept_keys

HELD = "held.sqlite"
# States of a job that are kept: the newest, and the one before, to which a round may go back.
KEPT_STATES = 2
# Jobs whose keys and states are kept; of those longest untouched stays what they may not be given any more.
KEPT_JOBS = 8

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    job TEXT PRIMARY KEY, epoch INTEGER NOT NULL, maker TEXT NOT NULL, content BLOB NOT NULL, bundle BLOB NOT NULL,
    signatures TEXT NOT NULL, ready INTEGER NOT NULL, used INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS states (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, round INTEGER NOT NULL,
    tag TEXT NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS wrong_sums (job TEXT NOT NULL, request TEXT NOT NULL, PRIMARY KEY (job, request));
"""


@dataclass(frozen=True)
class HeldKeys:
    """The newest keys of a job that this member signed for.

    Parameters
    ----------
    content : the secret keys, as `secagg.key_setup` packs them; empty where they made room for those of other jobs
    bundle : the same as their maker sealed them, to be handed on
    signatures : of members, those that were shown
    ready : whether t of them were valid
    used : whether an upload may have left under them
    """

    epoch: int
    maker: str
    content: bytes
    bundle: bytes
    signatures: Mapping[str, str]
    ready: bool
    used: bool


@dataclass(frozen=True)
class HeldState:
    """One state of a job: applied rounds, tag, and its bytes."""

    round: int
    tag: str
    content: bytes


class HeldJobs:
    """Opened once by the agent, which alone writes it; safe to call from several threads.

    Raises
    ------
    HansaError : the file is damaged; says what to do
    """

    def __init__(self, path: Path | str) -> None:
        self._lock = threading.Lock()
        if path != ":memory:":
            # SQLite would make it readable by whoever the umask lets.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = kept_keys(path).open(_SCHEMA)
        self._db.execute("PRAGMA secure_delete=ON")

    def keys(self, job: str) -> HeldKeys | None:
        """The newest keys of a job."""
        with self._lock:
            row = self._db.execute(
                "SELECT epoch, maker, content, bundle, signatures, ready, used FROM keys WHERE job = ?",
                (job,),
            ).fetchone()
        if row is None:
            return None
        epoch, maker, content, bundle, signatures, ready, used = row
        return HeldKeys(
            epoch, maker, bytes(content), bytes(bundle), json.loads(signatures), bool(ready), bool(used)
        )

    def keep_keys(self, job: str, keys: HeldKeys) -> None:
        """Take keys in place of any before; those of the job longest untouched go, but not which they were."""
        signatures = json.dumps(dict(keys.signatures))
        row = (keys.epoch, keys.maker, keys.content, keys.bundle, signatures, keys.ready, keys.used)
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                # Another row in its place: the newest number is that of the job touched last (`_touch`).
                "INSERT OR REPLACE INTO keys (job, epoch, maker, content, bundle, signatures, ready, used) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (job, *row),
            )
            self._db.execute(
                "UPDATE keys SET content = x'', bundle = x'', signatures = '{}', ready = 0 "
                "WHERE content != x'' AND job NOT IN (SELECT job FROM keys ORDER BY rowid DESC LIMIT ?)",
                (KEPT_JOBS,),
            )
            self._db.execute("DELETE FROM states WHERE job IN (SELECT job FROM keys WHERE content = x'')")

    def use(self, job: str) -> None:
        """An upload under the job's keys may leave from here on."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("UPDATE keys SET used = 1 WHERE job = ? AND NOT used", (job,))
            self._touch(job)

    def states(self, job: str) -> list[HeldState]:
        """The kept states of a job, the newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT round, tag, content FROM states WHERE job = ? ORDER BY id DESC", (job,)
            ).fetchall()
        return [HeldState(int(number), str(tag), bytes(content)) for number, tag, content in rows]

    def keep_state(self, job: str, state: HeldState) -> None:
        """Take a state as the newest one."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM states WHERE job = ? AND tag = ?", (job, state.tag))
            self._db.execute(
                "INSERT INTO states (job, round, tag, content) VALUES (?, ?, ?, ?)",
                (job, state.round, state.tag, state.content),
            )
            self._db.execute(
                "DELETE FROM states WHERE job = ? AND id NOT IN "
                "(SELECT id FROM states WHERE job = ? ORDER BY id DESC LIMIT ?)",
                (job, job, KEPT_STATES),
            )
            self._touch(job)

    def count_wrong(self, job: str, request: str) -> int:
        """This request brought a wrong sum of the job; how many did. The same request counts once."""
        with self._lock:
            self._db.execute("INSERT OR IGNORE INTO wrong_sums (job, request) VALUES (?, ?)", (job, request))
            row = self._db.execute("SELECT count(*) FROM wrong_sums WHERE job = ?", (job,)).fetchone()
        return int(row[0])

    def _touch(self, job: str) -> None:
        """Others make room before a job that goes on, however long ago its keys were made."""
        newest = "(SELECT max(rowid) FROM keys)"
        self._db.execute(
            f"UPDATE keys SET rowid = 1 + {newest} WHERE job = ? AND rowid < {newest}",
            (job,),
        )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
