"""The store: one database, opened in one place."""

from __future__ import annotations

from pathlib import Path

from hansa.server.store.budgets import Budgets
from hansa.server.store.database import Database, connect
from hansa.server.store.decisions import Decisions
from hansa.server.store.events import EventLog
from hansa.server.store.figures import Figures
from hansa.server.store.history import History
from hansa.server.store.jobs import Jobs, Runs
from hansa.server.store.journal import JobJournal
from hansa.server.store.scaling import Scaling
from hansa.server.store.schema import bring_up_to_date
from hansa.server.store.steering import Knobs, Members, Signed


class Store:
    """Everything that must outlive Flower's processes, by concept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.jobs = Jobs(database)
        self.runs = Runs(database)
        self.history = History(database)
        self.figures = Figures(database)
        self.events = EventLog(database)
        self.budgets = Budgets(database)
        self.knobs = Knobs(database)
        self.decisions = Decisions(database)
        self.scaling = Scaling(database)
        self.members = Members(database)
        self.signed = Signed(database)

    def claim(self, job: str, holder: str) -> JobJournal:
        """Take a job's lease; see `Jobs.claim`."""
        return self.jobs.claim(job, holder)

    def version(self) -> int | None:
        """A number that changes with every commit to the store, by whomever; None where the database has none."""
        return self._database.version()

    def close(self) -> None:
        """Close the database's connections."""
        self._database.close()


def open_store(url: str, folder: Path | None = None) -> Store:
    """Open the store of a SQLAlchemy URL and bring its schema up to date.

    Parameters
    ----------
    folder : where a relative `sqlite:///FILE` begins

    Raises
    ------
    InputError : the URL is wrong, or a newer Hansa wrote the store
    ConnectionFailed : the database does not answer
    """
    database = connect(url, folder)
    bring_up_to_date(database)
    return Store(database)
