"""What a part of the suite found: plain values, from which summary, report and JSON are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Status = Literal["waiting", "done", "failed", "interrupted"]
# From here on figures are whole: four digits would need a power of ten.
_WHOLE = 10_000


def shown_number(value: float) -> str:
    """Four digits, or all digits before the point where there are more."""
    if isinstance(value, int) or (math.isfinite(value) and abs(value) >= _WHOLE):
        return f"{value:,.0f}"
    return f"{value:.4g}"


@dataclass(frozen=True)
class Fact:
    """One figure: a number with its unit, or a word."""

    name: str
    value: float | str
    unit: str = ""

    @property
    def shown(self) -> str:
        """For people."""
        if isinstance(self.value, str):
            return self.value
        return f"{shown_number(self.value)} {self.unit}".strip()


@dataclass(frozen=True)
class Rows:
    """A table."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Drawing:
    """An SVG; `name` becomes its file's."""

    name: str
    title: str
    svg: str


@dataclass(frozen=True)
class Found:
    """What one part leaves behind.

    Parameters
    ----------
    sentences : what a reader should know before the figures, what was left out among it
    headline : the figures that a summary of several parts shows
    data : the part's own object, as its command prints it with `--json`
    files : what it wrote beside the report, by names from there
    """

    sentences: tuple[str, ...] = ()
    headline: tuple[Fact, ...] = ()
    tables: tuple[Rows, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    # A part that ran to its end and found that something does not hold.
    problem: str = ""


@dataclass(frozen=True)
class Outcome:
    """One part as it stands."""

    name: str
    title: str
    # What one types for this part alone.
    command: str
    status: Status = "waiting"
    seconds: float = 0.0
    reason: str = ""
    found: Found = Found()

    def ended(self, status: Status, seconds: float, reason: str = "", found: Found | None = None) -> Outcome:
        """The same part, over."""
        return replace(
            self, status=status, seconds=seconds, reason=reason, found=self.found if found is None else found
        )

    def as_json(self) -> dict[str, Any]:
        """As it stands in `parts`."""
        return {
            "part": self.name,
            "command": self.command,
            "status": self.status,
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
            "headline": {it.name: it.value for it in self.found.headline},
            "result": dict(self.found.data),
        }
