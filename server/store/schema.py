"""Brings a database to the schema of this code, and refuses one that a newer Hansa has written."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from hansa.contract.errors import InputError
from hansa.server.store.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"
# Newest revision in `migrations/versions`; written out so that a current store opens without Alembic.
HEAD = "0007"
# Any fixed number: two processes that migrate one PostgreSQL database wait for each other on it.
_MIGRATION_LOCK = 0x68616E7361


def bring_up_to_date(database: Database) -> None:
    """Migrate to `HEAD`, in one transaction.

    Raises
    ------
    InputError : the store's revision is not one of ours, so a newer Hansa wrote it
    """
    with database.read() as connection:
        if _revision(connection) == HEAD:
            return
    with database.write() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        found = _revision(connection)
        if found != HEAD:
            _migrate(connection, found)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _migrate(connection: Connection, found: str | None) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise InputError(
            f"the store is at revision {found}, newer than this Hansa knows (up to {HEAD}); upgrade Hansa"
        )
    command.upgrade(config, HEAD)
