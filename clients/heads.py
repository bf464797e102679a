"""Receipts of the other members' ledgers, and of this member's own where others showed one that it does not have.

Small, and lasting like the ledger: SQLite with `synchronous=FULL`. What is noted here was verified before;
it lies under the identity key that signed it, so that a member with a new key begins anew.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hansa.clients.durable import kept_receipts
from hansa.contract.charter import Charter
from hansa.contract.messages import Seen

HEADS = "heads.sqlite"
# Receipts of one member that are kept: two hashes for a number are noticed that far back.
KEPT = 256
# Receipts of this member's own that its ledger does not have; the highest says all that was spent.
KEPT_OWN = 16
# Sums are doubles that were rounded up.
_ROUNDING = 1e-12

_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (
    key TEXT NOT NULL, sequence INTEGER NOT NULL, hash TEXT NOT NULL,
    job TEXT NOT NULL, attempt INTEGER NOT NULL, content TEXT NOT NULL,
    PRIMARY KEY (key, sequence)) STRICT;
CREATE TABLE IF NOT EXISTS forks (key TEXT PRIMARY KEY, one TEXT NOT NULL, other TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS own (
    sequence INTEGER NOT NULL, hash TEXT NOT NULL, content TEXT NOT NULL,
    PRIMARY KEY (sequence, hash)) STRICT;
"""


@dataclass(frozen=True)
class Fork:
    """Two receipts of one member that no one ledger can have given: anybody can check both signatures."""

    one: Seen
    other: Seen

    def sentence(self, member: str) -> str:
        """What they show."""
        first, second = _head(self.one), _head(self.other)
        if first[0] == second[0]:
            return (
                f"the ledger of '{member}' has two hashes for row {first[0]}: {first[1][:12]}… in attempt "
                f"{self.one.attempt}, {second[1][:12]}… in attempt {self.other.attempt}"
            )
        return (
            f"the ledger of '{member}' went back: what it says at row {second[0]} in attempt "
            f"{self.other.attempt} does not follow from row {first[0]} in attempt {self.one.attempt}"
        )


def contradict(one: Seen, other: Seen) -> bool:
    """Whether no one ledger can have given both receipts of a member: by numbers and hashes, or by what was spent.

    Rows are added, sums only rise, and the charges of a receipt are the newest rows at its head.
    """
    lower, higher = sorted((one, other), key=lambda it: _head(it)[0])
    if _head(lower)[0] == _head(higher)[0]:
        return _head(lower) != _head(higher)
    if lower.job == higher.job and lower.attempt > higher.attempt:
        return True
    before = {state.grant: state for state in lower.receipt.grants}
    for state in higher.receipt.grants:
        known = before.get(state.grant)
        if known is None:
            continue
        training = known.training + sum(_charged(higher, state.grant, held_out=False))
        holdout = known.holdout + sum(_charged(higher, state.grant, held_out=True))
        if state.training < training * (1 - _ROUNDING) or state.holdout < holdout * (1 - _ROUNDING):
            return True
    return False


def _charged(seen: Seen, grant: str, *, held_out: bool) -> list[float]:
    return [
        it.amount
        for it in seen.receipt.charges
        if it.grant == grant and (it.purpose == "evaluate") == held_out
    ]


class Heads:
    """Opened once by the agent, which alone writes it; safe to call from several threads.

    Raises
    ------
    HansaError : the file is damaged; says what to do
    """

    def __init__(self, path: Path | str, charter: Charter) -> None:
        self._keys = {member.name: member.identity_key for member in charter.members}
        self._lock = threading.Lock()
        self._file = kept_receipts(path)
        self._db = self._file.open(_SCHEMA)

    def highest(self, member: str) -> Seen | None:
        """The receipt of a member with the highest head that was ever noted."""
        row = self._one(
            "SELECT content FROM seen WHERE key = ? ORDER BY sequence DESC LIMIT 1", self._keys[member]
        )
        return None if row is None else self._file.read(Seen, row[0])

    def fork(self, member: str) -> Fork | None:
        """The proof that a member's ledger forked, if there is one."""
        row = self._one("SELECT one, other FROM forks WHERE key = ?", self._keys[member])
        return None if row is None else Fork(*(self._file.read(Seen, it) for it in row))

    def note(self, shown: Mapping[str, Seen]) -> None:
        """Keep receipts of several members; they are on the disk when this returns. A fork is kept as its proof."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for member, seen in shown.items():
                if seen.receipt.head is not None:
                    self._note(self._keys[member], seen)

    def _note(self, key: str, seen: Seen) -> None:
        number, hashed = _head(seen)
        content = seen.model_dump_json()
        for (neighbour,) in self._db.execute(
            "SELECT content FROM (SELECT * FROM seen WHERE key = ? AND sequence < ? ORDER BY sequence DESC LIMIT 1) "
            "UNION ALL SELECT content FROM seen WHERE key = ? AND sequence = ? "
            "UNION ALL SELECT content FROM "
            "(SELECT * FROM seen WHERE key = ? AND sequence > ? ORDER BY sequence LIMIT 1) "
            # The attempts of a job come one by one.
            "UNION ALL SELECT content FROM "
            "(SELECT * FROM seen WHERE key = ? AND job = ? AND attempt < ? ORDER BY attempt DESC LIMIT 1)",
            (key, number, key, number, key, number, key, seen.job, seen.attempt),
        ).fetchall():
            if contradict(earlier := self._file.read(Seen, neighbour), seen):
                one, other = sorted((earlier, seen), key=lambda it: it.attempt)
                self._db.execute(
                    "INSERT OR IGNORE INTO forks VALUES (?, ?, ?)",
                    (key, one.model_dump_json(), other.model_dump_json()),
                )
                break
        self._db.execute(
            "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?, ?, ?)",
            (key, number, hashed, seen.job, seen.attempt, content),
        )
        self._db.execute(
            "DELETE FROM seen WHERE key = ? AND sequence < "
            "(SELECT sequence FROM seen WHERE key = ? ORDER BY sequence DESC LIMIT 1 OFFSET ?)",
            (key, key, KEPT - 1),
        )

    def own(self) -> list[Seen]:
        """Receipts of this member's own that its ledger did not have when they were shown; the highest first."""
        with self._lock:
            rows = self._db.execute("SELECT content FROM own ORDER BY sequence DESC").fetchall()
        return [self._file.read(Seen, content) for (content,) in rows]

    def keep_own(self, seen: Seen) -> None:
        """Keep one of them: what it proves is known after a restart, too."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT OR IGNORE INTO own VALUES (?, ?, ?)", (*_head(seen), seen.model_dump_json())
            )
            self._db.execute(
                "DELETE FROM own WHERE sequence < "
                "(SELECT sequence FROM own ORDER BY sequence DESC LIMIT 1 OFFSET ?)",
                (KEPT_OWN - 1,),
            )

    def forget_own(self) -> None:
        """The ledger has made up for all of them."""
        with self._lock:
            self._db.execute("DELETE FROM own")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _one(self, query: str, *values: object) -> tuple[object, ...] | None:
        with self._lock:
            row: tuple[object, ...] | None = self._db.execute(query, values).fetchone()
        return row


def _head(seen: Seen) -> tuple[int, str]:
    head = seen.receipt.head
    assert head is not None
    return head.sequence, head.hash
