"""An agent's SQLite files beside its ledger: opened lasting and whole, or a sentence that says what to do.

`synchronous=FULL`: what was written stays over a power cut.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from pydantic import ValidationError

from hansa.contract.errors import HansaError
from hansa.contract.typed import Fact, clipped, explain

# What SQLite says of a broken file; where the break is in its names or texts it cannot say it in UTF-8.
BROKEN = (sqlite3.Error, UnicodeDecodeError)


@dataclass(frozen=True)
class DurableFile:
    """One file: what is kept in it, and what its organisation does where it is damaged."""

    path: Path | str
    holds: str
    remedy: str

    def open(self, schema: str, *, page_size: int | None = None) -> sqlite3.Connection:
        """A connection that several threads may use in turn; the file is made where there is none.

        Parameters
        ----------
        page_size : of a new file, in bytes

        Raises
        ------
        HansaError : the file is damaged, or cannot be opened
        """
        try:
            db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
            if page_size is not None:
                db.execute(f"PRAGMA page_size={page_size}")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            problem = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
            if problem != "ok":
                self.damaged(problem)
            db.executescript(schema)
        except BROKEN as error:
            self.failed(error)
        return db

    def query(self, query: str, values: Mapping[str, object] | None = None) -> list[sqlite3.Row]:
        """Rows, read beside its writer or without one; nothing of the file is changed.

        Raises
        ------
        HansaError : the file is damaged, or in use
        """
        try:
            address = f"file:{quote(str(self.path))}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as db:
                db.row_factory = sqlite3.Row
                return db.execute(query, values or {}).fetchall()
        except BROKEN as error:
            self.failed(error)

    def read(self, kind: type[Fact], content: object) -> Fact:
        """One thing that is kept here as JSON.

        Raises
        ------
        HansaError : it is none that this version knows
        """
        try:
            return kind.model_validate_json(str(content))
        except ValidationError as error:
            self.damaged(f"{kind.__name__.lower()}: {explain(error)}")

    def failed(self, error: Exception) -> NoReturn:
        """Say what is wrong: a file that another process holds is not damaged."""
        code = getattr(error, "sqlite_errorcode", None)
        # The low byte; the rest says more of the same.
        if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise HansaError(
                f"{self.path}: {self.holds} is in use by another process just now; try again, or see which one holds it"
            )
        self.damaged(str(error))

    def damaged(self, problem: str) -> NoReturn:
        """Say what is wrong and what to do."""
        raise HansaError(f"{self.path}: {self.holds} cannot be read ({clipped(problem)}); {self.remedy}")


def agent_records(path: Path | str) -> DurableFile:
    """Jobs, attempts and uploads of an agent."""
    return DurableFile(
        path,
        "the agent's records",
        f"move {path}* away and put the newest good copy in its place; without one the agent starts anew, jobs are "
        "approved again, and what the ledger was charged for before is not on the record of uploads",
    )


def kept_receipts(path: Path | str) -> DurableFile:
    """Receipts of the other members' ledgers, and of this member's own that others showed."""
    return DurableFile(
        path,
        "the receipts of all members' ledgers",
        f"move {path}* away, put the newest good copy in its place if there is one, and start the agent: "
        "the others show the newest receipts again",
    )


def kept_keys(path: Path | str) -> DurableFile:
    """Keys and states of jobs in mode `he`."""
    return DurableFile(
        path,
        "the keys and states of jobs in mode 'he'",
        f"move {path}* away and start the agent: the other members hand on the keys of a job that goes on, and its "
        "newest state",
    )
