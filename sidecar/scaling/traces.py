"""A recorded demand, minute by minute: read from `timestamp,value`, and what capacity a replaying setting gives it."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hansa.contract.errors import DataError

Minutes = np.ndarray[Any, np.dtype[np.float64]]

# A file with one mistyped year would otherwise fill the memory.
LONGEST = 3_000_000


@dataclass(frozen=True)
class Trace:
    """Demand of every minute, never missing: a gap holds the value before it.

    Attributes
    ----------
    name : of the file
    start : seconds since the epoch of the first minute
    demand : not negative, shape (minutes,)
    """

    name: str
    start: float
    demand: Minutes

    @property
    def peak(self) -> float:
        """The largest demand."""
        return float(self.demand.max())

    def capacity(self, replicas: int = 15) -> float:
        """Demand that one replica serves, if the peak is to need so many."""
        return self.peak / replicas


def read_trace(path: Path) -> Trace:
    """Read a CSV with the columns `timestamp` and `value`.

    Timestamps are ISO 8601 (without a zone: UTC) or seconds since the epoch, in any order. A value is held until the
    next one, not interpolated: what comes next is not known before it is there. Of several values in one minute the
    largest counts. An empty value or `nan` is a gap; a negative one is no demand.

    Raises
    ------
    DataError
        The file is not such a table, or has nothing to replay; names the line.
    """
    rows = sorted(_rows(path))
    if not rows:
        raise DataError(f"{path}: no row has a value")
    start = rows[0][0]
    minutes = int((rows[-1][0] - start) // 60) + 1
    if minutes > LONGEST:
        raise DataError(
            f"{path}: {minutes} minutes from the first to the last timestamp; at most {LONGEST} are read"
        )
    if minutes < 2:
        raise DataError(f"{path}: all rows lie within one minute; there is nothing to replay")
    demand = np.full(minutes, np.nan)
    for at, value in rows:
        place = int((at - start) // 60)
        demand[place] = np.fmax(demand[place], value)
    known = np.where(np.isnan(demand), 0, np.arange(minutes))
    demand = np.maximum(demand[np.maximum.accumulate(known)], 0.0)
    if demand.max() <= 0:
        raise DataError(f"{path}: no value is above zero; there is no demand to serve")
    return Trace(path.name, start, demand)


def _rows(path: Path) -> list[tuple[float, float]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from error
    table = csv.DictReader(text.splitlines())
    missing = {"timestamp", "value"} - set(table.fieldnames or ())
    if missing:
        raise DataError(f"{path}: no column {' and no column '.join(sorted(missing))} in its first line")
    found = []
    try:
        for row in table:
            value = _value(row["value"])
            if not math.isnan(value):
                found.append((_time(row["timestamp"]), value))
            else:
                _time(row["timestamp"])
    except ValueError as error:
        raise DataError(f"{path}, line {table.line_num}: {error}") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {table.line_num}: not a CSV row: {error}") from error
    return found


def _value(text: str | None) -> float:
    if text is None or not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"the value {text.strip()!r} is not a number") from None
    if math.isinf(value):
        raise ValueError("the value is infinite")
    return value


def _time(text: str | None) -> float:
    text = (text or "").strip()
    try:
        number = float(text)
    except ValueError:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"the timestamp {text!r} is neither ISO 8601 nor seconds") from None
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    if not 0 <= number < 1e11:
        raise ValueError(f"the timestamp {text!r} is not in seconds since 1970")
    return number
