"""One read-only SELECT at a database by SQLAlchemy URL.

Two locks: the query must be a single SELECT or WITH without a word that writes, and the
connection is opened read-only where the dialect can. Errors never show a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.contract.errors import DataError
from hansa.contract.sources import SqlSource

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import URL, Connection

_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|--[^\n]*|/\*.*?\*/""", re.DOTALL)
_WRITES = re.compile(
    r"\b(insert|update|delete|merge|replace|truncate|drop|create|alter|grant|revoke|copy|call|exec|execute|attach"
    r"|detach|pragma|vacuum|set|into|load|lock|do)\b",
    re.IGNORECASE,
)
# Words above that are also functions and then stand before a bracket.
_FUNCTIONS = re.compile(r"\b(replace|insert|truncate|set)\s*\(", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_READ_ONLY = {"postgresql": "SET TRANSACTION READ ONLY", "mysql": "SET TRANSACTION READ ONLY"}


def read_sql(source: SqlSource, folder: Path, environment: Mapping[str, str]) -> pl.DataFrame:
    """The rows of the query; a relative SQLite path starts at `folder`.

    Raises
    ------
    DataError : not a single SELECT, a variable that is not set, no connection, or the database refuses
    """
    import polars as pl
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    check_query(source.query)
    url = _url(source.url, folder, environment)
    name = url.render_as_string(hide_password=True)
    try:
        engine = create_engine(url)
        with engine.connect() as connection:
            _read_only(connection)
            result = connection.execute(text(source.query.replace(":", "\\:")))
            names, rows = list(result.keys()), [tuple(row) for row in result]
        engine.dispose()
    except (SQLAlchemyError, ImportError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise DataError(f"{name}: the query failed: {reason}") from None
    if not rows:
        raise DataError(f"{name}: the query gives no rows")
    columns = {column: [_plain(row[place]) for row in rows] for place, column in enumerate(names)}
    return pl.DataFrame(
        {column: pl.Series(column, values, strict=False) for column, values in columns.items()}
    )


def check_query(query: str) -> None:
    """Refuse anything but one SELECT or WITH that only reads.

    Raises
    ------
    DataError : saying which word or what else is wrong
    """
    bare = _QUOTED.sub(" ", query).strip().rstrip(";").strip()
    if ";" in bare:
        raise DataError("SQL query: one statement is allowed, more than one is given")
    if not re.match(r"(select|with)\b", bare, re.IGNORECASE):
        raise DataError("SQL query: must be one SELECT (or WITH ... SELECT)")
    word = _WRITES.search(_FUNCTIONS.sub(" ", bare))
    if word:
        raise DataError(
            f"SQL query: '{word.group(0)}' is not allowed in a query that only reads; quote it if it is a column"
        )


def _url(text: str, folder: Path, environment: Mapping[str, str]) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    for name in _PLACEHOLDER.findall(text):
        if name not in environment:
            raise DataError(f"SQL url: the environment variable {name} is not set")
    try:
        url = make_url(_PLACEHOLDER.sub(lambda match: environment[match.group(1)], text))
    except (ArgumentError, ValueError):
        raise DataError(
            "SQL url: not a SQLAlchemy URL such as postgresql+psycopg://user:password@host/name"
        ) from None
    if url.get_backend_name() != "sqlite":
        return url
    path = folder / (url.database or "")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return url.set(database=f"file:{path.resolve()}", query={"mode": "ro", "uri": "true"})


def _read_only(connection: Connection) -> None:
    from sqlalchemy import text

    statement = _READ_ONLY.get(connection.dialect.name)
    if statement:
        connection.execute(text(statement))


def _plain(value: object) -> object:
    """Decimals as floats; what is neither number, text nor truth as text."""
    from decimal import Decimal

    if isinstance(value, Decimal):
        return float(value)
    return value if value is None or isinstance(value, int | float | str | bool) else str(value)
