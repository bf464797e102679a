"""Reading a member's records: CSV, Parquet, one read-only SELECT, or a generator."""

from __future__ import annotations

import codecs
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.contract.errors import DataError
from hansa.contract.sources import CsvSource, ParquetSource, Source, SqlSource

if TYPE_CHECKING:
    import polars as pl

# Spellings of an absent value in a CSV file, beside the empty cell.
ABSENT = ["", "NA", "N/A", "NaN", "nan", "NULL", "null", "?"]
_BLOCK_BYTES = 1 << 20


def read_source(source: Source, folder: Path) -> pl.DataFrame:
    """The table of a source; relative paths start at `folder`.

    Raises
    ------
    DataError : naming the file or query and what is wrong with it
    """
    if isinstance(source, CsvSource):
        return read_csv(folder / source.path)
    if isinstance(source, ParquetSource):
        return read_parquet(folder / source.path)
    if isinstance(source, SqlSource):
        from hansa.clients.data.sql import read_sql

        return read_sql(source, folder, os.environ)
    from hansa.clients.data.generators import generate

    return generate(source)


def read_in_subprocess(source: Source, folder: Path, *, timeout_s: float = 600.0) -> pl.DataFrame:
    """As `read_source`, in a child process that hands the table back over a pipe.

    The calling process never opens a connection, so that it may give up its network afterwards.
    """
    import polars as pl

    command = [sys.executable, "-m", "hansa.clients.data.reader", str(folder)]
    try:
        child = subprocess.run(
            command,
            input=source.model_dump_json().encode(),
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"{origin(source, folder)}: no answer within {timeout_s:g} s") from None
    if child.returncode != 0:
        lines = child.stderr.decode(errors="replace").strip().splitlines() or [
            "the reader ended without a word"
        ]
        raise DataError(lines[-1])
    return pl.read_ipc(io.BytesIO(child.stdout))


def origin(source: Source, folder: Path) -> str:
    """How errors and reports name a source."""
    if isinstance(source, CsvSource | ParquetSource):
        return str(folder / source.path)
    return "SQL query" if isinstance(source, SqlSource) else f"generator '{source.generator}'"


def read_csv(path: Path) -> pl.DataFrame:
    """A CSV file with a header row, every column as text; the separator is `,`, `;` or a tab."""
    import polars as pl

    try:
        # Polars reads bytes that are no text as if they were some.
        _check_text(path)
        with path.open("rb") as file:
            header = file.readline().removeprefix(b"\xef\xbb\xbf")
        if not header.strip():
            raise DataError(f"{path}: the file is empty; expected a header row and records")
        separator = max(",;\t", key=lambda mark: header.count(mark.encode()))
        table = pl.read_csv(
            path, separator=separator, infer_schema=False, null_values=ABSENT, encoding="utf8"
        )
    except OSError as error:
        raise DataError(f"{path}: {_reason(error)}") from None
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: not a CSV file in UTF-8: {_first_line(error)}") from None
    return _checked(table, path)


def read_parquet(path: Path) -> pl.DataFrame:
    """A Parquet file."""
    import polars as pl

    try:
        return _checked(pl.read_parquet(path, glob=False), path)
    except OSError as error:
        raise DataError(f"{path}: {_reason(error)}") from None
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: not a Parquet file: {_first_line(error)}") from None


def _check_text(path: Path) -> None:
    """Refuse a file that is not text in UTF-8, by the line where it stops being that."""
    decoder, line = codecs.getincrementaldecoder("utf-8")(errors="strict"), 1
    with path.open("rb") as file:
        while True:
            block = file.read(_BLOCK_BYTES)
            # Bytes of a character that the block before cut in two.
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line += block.count(b"\n", 0, max(0, error.start - pending))
                raise DataError(
                    f"{path}: not a CSV file in UTF-8: line {line} has bytes that are no text; save it as UTF-8"
                ) from None
            if (place := block.find(b"\0")) >= 0:
                line += block.count(b"\n", 0, place)
                raise DataError(
                    f"{path}: not a CSV file in UTF-8: line {line} has a NUL byte; save it as UTF-8"
                )
            if not block:
                return
            line += block.count(b"\n")


def _checked(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    table = table.rename({name: name.strip() for name in table.columns})
    if table.height == 0:
        raise DataError(f"{path}: the file has no records below its header")
    return table


def _reason(error: OSError) -> str:
    return (
        "no such file"
        if isinstance(error, FileNotFoundError)
        else f"cannot be read ({error.strerror or error})"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
