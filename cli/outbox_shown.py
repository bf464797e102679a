"""The outbox for people and programs: a line an entry, totals a job, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hansa.cli.listing import shown_time
from hansa.clients.leaving import FILE
from hansa.clients.outbox_reading import Entry, Older
from hansa.clients.outbox_words import parts, words

MAY_HAVE_LEFT = "may have left"
COLUMNS = (
    "id",
    "at",
    "left",
    "job",
    "attempt",
    "purpose",
    "kind",
    "what",
    "bytes",
    "again",
    "again_bytes",
    "charged",
    "receipt",
    "digest",
)
# A cell that begins so is a formula to a spreadsheet.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass
class Total:
    """What left for one job."""

    job: str
    messages: int = 0
    bytes: int = 0
    may_have_left: int = 0
    charged: dict[str, float] = field(default_factory=dict)
    first: float = float("inf")
    last: float = 0.0

    def add(self, entry: Entry) -> None:
        """Count one entry, with all that said the same again."""
        leaving = entry.leaving
        self.messages += 1 + entry.again
        self.bytes += leaving.bytes + entry.again_bytes
        self.may_have_left += entry.left is None and leaving.kind != FILE
        self.first, self.last = min(self.first, entry.at), max(self.last, entry.last or entry.at)
        for it in leaving.charges:
            unit = f"{it.grant} ({leaving.currencies.get(it.grant, 'gdp')}, {it.purpose})"
            self.charged[unit] = self.charged.get(unit, 0.0) + it.amount

    def add_older(self, older: Older) -> None:
        """Count what is no longer kept one by one."""
        self.messages += older.messages
        self.bytes += older.bytes
        self.first, self.last = min(self.first, older.first), max(self.last, older.last)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return vars(self) | {"first": moment(self.first), "last": moment(self.last)}


def totals(entries: Iterable[Entry], older: Sequence[Older] = ()) -> list[Total]:
    """One total a job, in the order of their first entries."""
    found: dict[str, Total] = {}
    for it in older:
        found.setdefault(it.job, Total(it.job)).add_older(it)
    for entry in entries:
        found.setdefault(entry.leaving.job, Total(entry.leaving.job)).add(entry)
    return list(found.values())


def moment(at: float | None) -> str:
    """UTC, to the millisecond; empty for None."""
    if at is None:
        return ""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def size(count: int) -> str:
    """Bytes for people."""
    if count < 1000:
        return f"{count} B"
    power = min((len(str(count)) - 1) // 3, 3)
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"


def charged(entry: Entry) -> str:
    """What it was charged, in the currency of each grant; empty where nothing was."""
    of = entry.leaving.currencies
    return "; ".join(
        f"{it.amount:.4g} {of.get(it.grant, 'gdp')} of '{it.grant}' for {it.purpose}"
        for it in entry.leaving.charges
    )


def receipt(entry: Entry) -> str:
    """The ledger's row that the receipt ends at; empty where it has none."""
    head = entry.leaving.head
    return "" if head is None else f"row {head.sequence}, {head.hash}"


def lines(entry: Entry) -> list[str]:
    """One entry for people: a line of what it was, then one for each part, its charge, and what came again."""
    leaving = entry.leaving
    about = [f"job {leaving.job[:8]}"] if leaving.job else []
    about += [f"attempt {leaving.attempt}"] if leaving.attempt else []
    state = "" if entry.left is not None or leaving.kind == FILE else f"  {MAY_HAVE_LEFT}"
    row = "" if leaving.head is None else f"  receipt: row {leaving.head.sequence}"
    when = shown_time(_local(entry.at))
    found = [f"{when}  {' '.join([leaving.kind, *about])}  {size(leaving.bytes)}{row}{state}"]
    found += [f"    {'' if count is None else size(count):>8}  {said}" for said, count in parts(leaving)]
    if leaving.charges:
        found.append(f"     charged  {charged(entry)}")
    if entry.again:
        times = "once" if entry.again == 1 else f"{entry.again} times"
        until = shown_time(_local(entry.last or entry.at))
        found.append(f"              and the same again {times} until {until}, {size(entry.again_bytes)}")
    return found


def _local(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def as_record(entry: Entry) -> dict[str, Any]:
    """One entry for programs."""
    leaving = entry.leaving
    return {
        "id": entry.id,
        "at": moment(entry.at),
        "left": moment(entry.left) or (MAY_HAVE_LEFT if leaving.kind != FILE else ""),
        "job": leaving.job,
        "attempt": leaving.attempt or None,
        "purpose": ", ".join(leaving.purposes),
        "kind": leaving.kind,
        "what": words(leaving),
        "bytes": leaving.bytes,
        "again": entry.again,
        "again_bytes": entry.again_bytes,
        "charged": charged(entry),
        "receipt": receipt(entry),
        "digest": leaving.digest,
    }


def as_csv(entries: Iterable[Entry]) -> Iterable[str]:
    """Lines of a CSV file (RFC 4180), the header first."""
    yield _line(COLUMNS)
    for entry in entries:
        yield _line([_cell(it) for it in as_record(entry).values()])


def _line(cells: Sequence[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(cells)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    text = "" if value is None else value
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text
