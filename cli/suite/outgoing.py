"""What left each organisation, from its own outbox, held against the agent's record of uploads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hansa.cli.instance import MemberFolder
from hansa.cli.outbox_shown import size, totals
from hansa.cli.outbox_source import outbox_entries, outbox_older
from hansa.cli.suite.drawn import bars
from hansa.cli.suite.found import Drawing, Rows
from hansa.clients.leaving import FILE
from hansa.clients.outbox_reading import Entry, Query
from hansa.clients.outbox_words import parts
from hansa.clients.uploads import AGENT_RECORDS, read_uploads


@dataclass(frozen=True)
class Outgoing:
    """What one organisation's outbox holds.

    Parameters
    ----------
    messages, bytes : with what was said again
    charged : grant, currency and purpose to the sum of what receipts say was charged
    kinds : what left, in the outbox' own words, to how often and how many bytes
    unknown : attempts with an upload on the agent's record and none in the outbox
    """

    member: str
    entries: int
    messages: int
    bytes: int
    uploads: int
    receipts: int
    may_have_left: int
    charged: dict[str, float]
    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)
    unknown: tuple[int, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        kinds = {name: {"times": times, "bytes": count} for name, (times, count) in self.kinds.items()}
        return vars(self) | {"kinds": kinds, "unknown": list(self.unknown)}


def outgoing(member: MemberFolder) -> Outgoing:
    """Read an organisation's outbox, as `hansa outbox` does.

    Raises
    ------
    HansaError : the file is damaged
    """
    entries = list(outbox_entries(member, Query()))
    sums = totals(entries, outbox_older(member))
    uploads = [it for it in entries if it.leaving.kind == "upload"]
    known = {(it.leaving.job, it.leaving.attempt) for it in uploads}
    recorded = {(it.job, it.attempt) for it in read_uploads(member.folder / AGENT_RECORDS)}
    charged: dict[str, float] = {}
    for total in sums:
        for unit, amount in total.charged.items():
            charged[unit] = charged.get(unit, 0.0) + amount
    return Outgoing(
        member=member.config.name,
        entries=len(entries),
        messages=sum(it.messages for it in sums),
        bytes=sum(it.bytes for it in sums),
        uploads=len(uploads),
        receipts=sum(it.leaving.receipt is not None for it in uploads),
        may_have_left=sum(it.may_have_left for it in sums),
        charged=charged,
        kinds=_kinds(entries),
        unknown=tuple(sorted(attempt for _, attempt in recorded - known)),
    )


def files_noted(member: MemberFolder) -> set[str]:
    """Kinds of the files that somebody took out, by the outbox."""
    return {it.leaving.detail.split(" ")[0] for it in outbox_entries(member, Query(kind=FILE))}


def outgoing_tables(found: Sequence[Outgoing]) -> tuple[Rows, Rows]:
    """By organisation, and by what it was."""
    by_member = tuple(
        (
            it.member,
            str(it.entries),
            str(it.messages),
            size(it.bytes),
            str(it.uploads),
            str(it.receipts),
            "; ".join(f"{amount:.4g} of {unit}" for unit, amount in it.charged.items()),
            str(it.may_have_left),
        )
        for it in found
    )
    columns = ("organisation", "entries", "messages", "size", "uploads", "receipts", "charged")
    kinds: dict[str, tuple[int, int]] = {}
    for it in found:
        for name, (times, count) in it.kinds.items():
            before = kinds.get(name, (0, 0))
            kinds[name] = (before[0] + times, before[1] + count)
    by_kind = sorted(kinds.items(), key=lambda it: -it[1][1])
    return (
        Rows("What left, by organisation", (*columns, "may have left"), by_member),
        Rows(
            "What left all of them, in the outbox' words",
            ("what", "times", "size"),
            tuple((name, str(times), size(count) if count else "") for name, (times, count) in by_kind),
            "Without a size: a message's own few words, whose bytes count in its organisation's row alone.",
        ),
    )


def outgoing_drawing(found: Sequence[Outgoing]) -> Drawing:
    """Bytes by organisation."""
    values = [(it.member, it.bytes / 1000) for it in found]
    return Drawing("outbox", "what left each organisation", bars("what left each organisation", values, "kB"))


def _kinds(entries: Sequence[Entry]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for entry in entries:
        times = 1 + entry.again
        for said, count in parts(entry.leaving):
            before = found.get(said, (0, 0))
            found[said] = (before[0] + times, before[1] + times * (count or 0))
    return found
