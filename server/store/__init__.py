"""The consortium's memory: jobs, attempts, rounds, metrics, knobs, checkpoints, members, events."""

from hansa.server.store.journal import JobJournal
from hansa.server.store.lease import renewed
from hansa.server.store.store import Store, open_store

__all__ = ["JobJournal", "Store", "open_store", "renewed"]
