"""Times in the tables are Unix seconds, in records they carry a zone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload


@overload
def moment(seconds: float) -> datetime: ...
@overload
def moment(seconds: None) -> None: ...
def moment(seconds: float | None) -> datetime | None:
    """A point in time, UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
