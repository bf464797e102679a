"""The one way to the database: an engine, and transactions that read or write.

SQLite: WAL, every commit on disk before it returns, and writers that take the lock when they begin
(a transaction that reads first and writes later fails under a concurrent writer instead of waiting).
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from hansa.contract.errors import ConnectionFailed, InputError

log = logging.getLogger("hansa.store")

_BUSY_TIMEOUT_MS = 10_000
# Pages of the log before it is copied into the database: by default 4 MiB, which one checkpoint of a model
# fills, so that every round would pay for the copying and its two further waits for the disk.
_LOG_PAGES = 4_000
_PRAGMAS = (
    f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    f"PRAGMA wal_autocheckpoint={_LOG_PAGES}",
    "PRAGMA foreign_keys=ON",
)


class Database:
    """An engine and its two kinds of transaction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writing = engine
        self._reading = engine
        self._version: sqlite3.Connection | None = None
        self._version_lock = threading.Lock()
        if engine.dialect.name == "sqlite":
            self._writing = engine.execution_options(begin="IMMEDIATE")
        else:
            # One snapshot for all statements of a reading transaction, as SQLite gives by itself.
            self._reading = engine.execution_options(isolation_level="REPEATABLE READ")

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the store."""
        with self._reading.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is all there or not at all, and on disk when it ends."""
        with self._writing.begin() as connection:
            yield connection

    def version(self) -> int | None:
        """SQLite's `data_version` of a connection that writes nothing: another number after each commit of others."""
        path = self.engine.url.database
        if self.dialect != "sqlite" or path is None:
            return None
        with self._version_lock:
            if self._version is None:
                self._version = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            return int(self._version.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close the pool's connections."""
        self.engine.dispose()
        with self._version_lock:
            if self._version is not None:
                self._version.close()
                self._version = None


def connect(url: str, folder: Path | None = None) -> Database:
    """Open the database of a SQLAlchemy URL; `sqlite:///FILE` is relative to `folder`.

    Raises
    ------
    InputError : not a URL, another database than SQLite or PostgreSQL, or its driver is not installed
    ConnectionFailed : the database does not answer
    """
    target = _target(url, folder)
    shown = target.render_as_string(hide_password=True)
    options: dict[str, Any] = {"json_serializer": _to_json}
    if target.get_backend_name() == "postgresql":
        options["pool_pre_ping"] = True
    try:
        engine = create_engine(target, **options)
    except ModuleNotFoundError:
        raise InputError(
            f"store '{shown}': its driver is missing; run: pip install 'hansa[postgres]'"
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        with engine.connect():
            pass
    except OperationalError as error:
        cause = str(error.orig).strip().splitlines()[0]
        raise ConnectionFailed(f"store '{shown}' cannot be opened: {cause}") from None
    except DBAPIError as error:
        raise InputError(f"store '{shown}' is not a database of ours: {error.orig}") from None
    return Database(engine)


def _target(url: str, folder: Path | None) -> URL:
    try:
        target = make_url(url)
    except ArgumentError:
        raise InputError(
            f"store '{url}': not a SQLAlchemy URL; expected e.g. sqlite:///store.sqlite"
        ) from None
    backend = target.get_backend_name()
    if backend == "postgresql":
        return target.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise InputError(f"store: '{backend}' is not supported; expected sqlite:///FILE or postgresql://…")
    if not target.database or target.database == ":memory:":
        raise InputError("store: a store in memory does not last; expected sqlite:///FILE")
    path = Path(target.database)
    if folder is not None and not path.is_absolute():
        path = folder / path
    if not path.parent.is_dir():
        raise InputError(f"store '{path}': its folder does not exist")
    return target.set(database=str(path))


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # Python's driver would begin transactions by its own rules; ours are begun below.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: Connection) -> None:
    mode = connection.get_execution_options().get("begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


def _to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
