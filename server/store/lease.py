"""A lease is kept by saying again and again that its holder lives."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from hansa.server.store.journal import JobJournal
from hansa.strategies.ports import LeaseLost

log = logging.getLogger("hansa.store")

RENEW_EVERY_S = 1.0


@contextmanager
def renewed(journal: JobJournal, every_s: float = RENEW_EVERY_S) -> Iterator[None]:
    """Renew the journal's lease from a thread of its own for as long as the block runs."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(every_s):
            try:
                journal.renew()
            except LeaseLost:
                return
            except SQLAlchemyError as error:
                log.warning("the lease of job %s could not be renewed: %s", journal.plan.job, error)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
