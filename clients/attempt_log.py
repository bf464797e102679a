"""The agent's own durable memory: jobs it approved, attempts it accepted, replies it may send again.

SQLite with `synchronous=FULL`: when `accept` returns, the attempt stays accepted over a power cut.
An attempt without a reply after a restart is lost for good: nothing is computed twice.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hansa.clients.durable import agent_records
from hansa.contract.jobs import JobPlan
from hansa.contract.messages import Seen

KEPT_EVENTS = 10_000
# Attempts of a job that stay known; whether a number rises hangs on the newest alone.
KEPT_ATTEMPTS = 100
# Jobs that wait for this member's yes; whoever proposes more loses the oldest. Of so many that were lost it stays known
# which plan they had: nobody says yes to a plan that came in the place of the one that was looked at.
KEPT_ASKED, KEPT_DROPPED = 100, 100_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    job TEXT PRIMARY KEY, plan TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('asked', 'approved', 'frozen', 'closed')),
    reason TEXT NOT NULL DEFAULT '', changed REAL NOT NULL, charter TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS dropped (id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL UNIQUE, plan TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS attempts (
    job TEXT NOT NULL, attempt INTEGER NOT NULL, request TEXT NOT NULL,
    cohort TEXT NOT NULL, order_digest TEXT NOT NULL,
    active TEXT, reply BLOB, accepted REAL NOT NULL, PRIMARY KEY (job, attempt));
CREATE TABLE IF NOT EXISTS uploads (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, job TEXT NOT NULL, attempt INTEGER NOT NULL,
    segment TEXT NOT NULL, releases INTEGER NOT NULL, noise TEXT NOT NULL, multiplier REAL);
CREATE TABLE IF NOT EXISTS receipts (head INTEGER PRIMARY KEY, seen TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS uploads_stay BEFORE DELETE ON uploads
    BEGIN SELECT RAISE(ABORT, 'the record of uploads is append-only'); END;
CREATE TRIGGER IF NOT EXISTS uploads_stand BEFORE UPDATE ON uploads
    BEGIN SELECT RAISE(ABORT, 'the record of uploads is append-only'); END;
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL,
    job TEXT NOT NULL, kind TEXT NOT NULL, sentence TEXT NOT NULL);
"""


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class AcceptedAttempt:
    """An attempt this member said yes to."""

    attempt: int
    request: str
    cohort: tuple[str, ...]
    order_digest: str
    active: tuple[str, ...] | None
    reply: bytes | None


@dataclass(frozen=True)
class Upload:
    """One segment of an upload that may have left; this record is never pruned, charges are held against it."""

    id: int
    # Seconds since 1970.
    at: float
    job: str
    attempt: int
    segment: str
    # Sums over records in it.
    releases: int
    # The charter's, when it left.
    noise: str
    # Standard deviation of the noise over the sensitivity, of each sum; None without noise, or of times before it was
    # kept.
    multiplier: float | None = None


class AttemptLog:
    """Opened once by the agent, which alone writes it; safe to call from several threads.

    Parameters
    ----------
    charter : hash of the one that is obeyed; jobs that are proposed belong to it
    first : it is the first that was obeyed

    Raises
    ------
    HansaError : the file is damaged; says what to do
    """

    def __init__(self, path: Path | str, charter: str = "", *, first: bool = False) -> None:
        self._charter = charter
        self._lock = threading.Lock()
        self._file = agent_records(path)
        # A reply of some megabytes is written twice as fast in large pages, a small one 0.2 ms slower. New files only.
        self._db = self._file.open(_SCHEMA, page_size=32_768)
        if "multiplier" not in {name for _, name, *_ in self._db.execute("PRAGMA table_info(uploads)")}:
            self._db.execute("ALTER TABLE uploads ADD COLUMN multiplier REAL")
        if "charter" not in {name for _, name, *_ in self._db.execute("PRAGMA table_info(jobs)")}:
            self._db.execute("ALTER TABLE jobs ADD COLUMN charter TEXT NOT NULL DEFAULT ''")
            if first:
                # Of a file from before that: there was no other charter.
                self._db.execute("UPDATE jobs SET charter = ?", (charter,))
        # Whoever said yes to a job said it under its charter.
        self._db.execute(
            "UPDATE jobs SET state = 'closed', reason = 'its charter was superseded', changed = ? "
            "WHERE state != 'closed' AND charter NOT IN ('', ?)",
            (time.time(), charter),
        )

    def ask(self, plan: JobPlan) -> str:
        """Note a job that the operator proposes; returns its state. The first plan of a job stands.

        Of one that waited too long and comes with another plan nothing is noted: it stays unknown.
        """
        content = plan.model_dump_json()
        dropped = self._one("SELECT plan FROM dropped WHERE job = ?", plan.job)
        if dropped is not None and dropped[0] != _digest(content):
            return self.state(plan.job)
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT INTO jobs (job, plan, state, changed, charter) VALUES (?, ?, 'asked', ?, ?) "
                "ON CONFLICT (job) DO NOTHING",
                (plan.job, content, time.time(), self._charter),
            )
            self._drop_waiting()
        return self.state(plan.job)

    def _drop_waiting(self) -> None:
        too_many = self._db.execute(
            "SELECT job, plan FROM jobs WHERE state = 'asked' ORDER BY rowid DESC LIMIT -1 OFFSET ?",
            (KEPT_ASKED,),
        ).fetchall()
        for job, content in too_many:
            self._db.execute(
                "INSERT INTO dropped (job, plan) VALUES (?, ?) ON CONFLICT (job) DO NOTHING",
                (job, _digest(content)),
            )
            self._db.execute("DELETE FROM jobs WHERE job = ?", (job,))
        self._db.execute("DELETE FROM dropped WHERE id <= (SELECT max(id) FROM dropped) - ?", (KEPT_DROPPED,))

    def state(self, job: str) -> str:
        """`asked`, `approved`, `frozen`, `closed`, or an empty string for an unknown job."""
        row = self._one("SELECT state FROM jobs WHERE job = ?", job)
        return str(row[0]) if row else ""

    def plan(self, job: str) -> JobPlan | None:
        """The plan this member was shown for a job."""
        row = self._one("SELECT plan FROM jobs WHERE job = ?", job)
        return self._file.read(JobPlan, row[0]) if row else None

    def jobs(self) -> list[tuple[str, str, str]]:
        """(job, state, reason) of every job that was ever proposed."""
        with self._lock:
            rows = self._db.execute("SELECT job, state, reason FROM jobs ORDER BY changed").fetchall()
        return [(str(job), str(state), str(reason)) for job, state, reason in rows]

    def set_state(self, job: str, state: str, reason: str = "") -> bool:
        """Approve, freeze or close a job; False when it is unknown."""
        with self._lock:
            cursor = self._db.execute(
                "UPDATE jobs SET state = ?, reason = ?, changed = ? WHERE job = ?",
                (state, reason, time.time(), job),
            )
        return cursor.rowcount > 0

    def finish(self, job: str, reason: str) -> bool:
        """Close an approved job; False when it is in any other state, which it keeps."""
        with self._lock:
            cursor = self._db.execute(
                "UPDATE jobs SET state = 'closed', reason = ?, changed = ? WHERE job = ? AND state = 'approved'",
                (reason, time.time(), job),
            )
        return cursor.rowcount > 0

    def newest(self, job: str) -> AcceptedAttempt | None:
        """The highest attempt ever accepted of a job."""
        return self._attempt("WHERE job = ? ORDER BY attempt DESC LIMIT 1", job)

    def accepted(self, job: str, attempt: int) -> AcceptedAttempt | None:
        """One attempt, if it was accepted."""
        return self._attempt("WHERE job = ? AND attempt = ?", job, attempt)

    def accept(
        self, job: str, attempt: int, request: str, cohort: tuple[str, ...], order_digest: str
    ) -> None:
        """Take an attempt, durably, before anything is computed; drops lower ones' replies."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("UPDATE attempts SET reply = NULL WHERE job = ? AND reply IS NOT NULL", (job,))
            self._db.execute(
                "INSERT INTO attempts (job, attempt, request, cohort, order_digest, accepted) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (job, attempt, request, " ".join(cohort), order_digest, time.time()),
            )
            self._db.execute(
                "DELETE FROM attempts WHERE job = ? AND attempt < "
                "(SELECT attempt FROM attempts WHERE job = ? ORDER BY attempt DESC LIMIT 1 OFFSET ?)",
                (job, job, KEPT_ATTEMPTS - 1),
            )

    def keep_reply(
        self,
        reply: bytes,
        seen: Seen,
        released: Mapping[str, int],
        noise: str,
        multipliers: Mapping[str, float],
    ) -> None:
        """Keep a reply's bytes, so that the same request gets the same bytes again, and that they may have left.

        Parameters
        ----------
        seen : the attempt and its receipt
        released : of each segment, how many sums over records are in it
        noise : the charter's
        multipliers : of each segment with noise, how much was added
        """
        now = time.time()
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "UPDATE attempts SET reply = ? WHERE job = ? AND attempt = ?", (reply, seen.job, seen.attempt)
            )
            self._db.executemany(
                "INSERT INTO uploads (at, job, attempt, segment, releases, noise, multiplier) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (now, seen.job, seen.attempt, name, count, noise, multipliers.get(name))
                    for name, count in released.items()
                ],
            )
            if seen.receipt.head is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO receipts (head, seen) VALUES (?, ?)",
                    (seen.receipt.head.sequence, seen.model_dump_json()),
                )
                self._db.execute("DELETE FROM receipts WHERE head < (SELECT max(head) FROM receipts)")

    def uploads(self, after: int = 0, most: int = 500) -> list[Upload]:
        """The next uploads behind a number, in their order: all that ever may have left."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, at, job, attempt, segment, releases, noise, multiplier FROM uploads "
                "WHERE id > ? ORDER BY id LIMIT ?",
                (after, most),
            ).fetchall()
        return [Upload(*row) for row in rows]

    def highest_receipt(self) -> Seen | None:
        """This member's own receipt with the highest head: a ledger that does not know that row is an older copy."""
        row = self._one("SELECT seen FROM receipts ORDER BY head DESC LIMIT 1")
        return self._file.read(Seen, row[0]) if row else None

    def agree(self, job: str, attempt: int, active: tuple[str, ...]) -> bool:
        """Bind an attempt to one active set; False when it is bound to another already."""
        text = " ".join(sorted(active))
        with self._lock:
            self._db.execute(
                "UPDATE attempts SET active = ? WHERE job = ? AND attempt = ? AND active IS NULL",
                (text, job, attempt),
            )
        row = self._one("SELECT active FROM attempts WHERE job = ? AND attempt = ?", job, attempt)
        return row is not None and row[0] == text

    def event(self, job: str, kind: str, sentence: str) -> None:
        """Append to this member's own log."""
        with self._lock:
            self._db.execute(
                "INSERT INTO events (at, job, kind, sentence) VALUES (?, ?, ?, ?)",
                (time.time(), job, kind, sentence),
            )
            self._db.execute(
                "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (KEPT_EVENTS,)
            )

    def events(self, newest: int = 100) -> list[tuple[float, str, str, str]]:
        """(time, job, kind, sentence), newest last."""
        with self._lock:
            rows = self._db.execute(
                "SELECT at, job, kind, sentence FROM events ORDER BY id DESC LIMIT ?", (newest,)
            ).fetchall()
        return [(float(at), str(job), str(kind), str(sentence)) for at, job, kind, sentence in reversed(rows)]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _one(self, query: str, *values: object) -> tuple[object, ...] | None:
        with self._lock:
            row: tuple[object, ...] | None = self._db.execute(query, values).fetchone()
        return row

    def _attempt(self, where: str, *values: object) -> AcceptedAttempt | None:
        row = self._one(
            f"SELECT attempt, request, cohort, order_digest, active, reply FROM attempts {where}", *values
        )
        if row is None:
            return None
        number, request, cohort, order_digest, active, reply = row
        return AcceptedAttempt(
            attempt=int(str(number)),
            request=str(request),
            cohort=tuple(str(cohort).split()),
            order_digest=str(order_digest),
            active=tuple(str(active).split()) if active is not None else None,
            reply=bytes(reply) if isinstance(reply, bytes) else None,
        )
