"""`hansa outbox`: everything that left an organisation, in words."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.contract.errors import InputError

if TYPE_CHECKING:
    from hansa.cli.outbox_shown import Total
    from hansa.clients.outbox_reading import Entry, Query

app = typer.Typer(add_completion=False, help="Everything that left an organisation, in words.")

_AGO = re.compile(r"^(\d{1,6})([mhd])$")
_UNIT = {"m": "minutes", "h": "hours", "d": "days"}


@app.command()
def outbox(
    job: Annotated[str | None, typer.Option(help="Of this job only: its id or its beginning.")] = None,
    since: Annotated[
        str | None, typer.Option(help="From then on: 2026-03-01, 2026-03-01T12:00, or 30m, 12h, 7d ago.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Of this kind only: upload, update, evaluation, statistics, receipt, shares, file, ..."
        ),
    ] = None,
    last: Annotated[int, typer.Option(min=0, help="So many entries at most, the newest; 0: all.")] = 40,
    only_totals: Annotated[bool, typer.Option("--totals", help="Only the sums of each job.")] = False,
    org: Annotated[str | None, typer.Option("--org", help="The organisation's name in the charter.")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Its folder, with member.toml.")] = None,
    instance: Annotated[
        Path | None,
        typer.Option("--instance", help="Instance folder; default: what runs under .hansa, or the newest."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="All entries and totals as one JSON object.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="All entries as CSV.")] = False,
) -> None:
    """Everything that left an organisation: when, for which job, what, how large, what it was charged, its receipt.

    An entry is on the disk before its bytes leave. "may have left": the agent ended before it saw them leave.
    """
    from hansa.cli import outbox_shown as shown
    from hansa.cli.instance import choose_member
    from hansa.cli.outbox_source import outbox_entries, outbox_older
    from hansa.clients.outbox_reading import Query

    if as_json and as_csv:
        raise InputError("--json and --csv: give one of them")
    query = _query(job, since, kind)
    member = choose_member(org, folder, instance)
    entries = list(outbox_entries(member, query))
    # A filter that lets nothing through must not read as if nothing had left.
    others = not entries and query != Query() and any(outbox_entries(member, Query()))
    # Sums of what is gone one by one know no time and no parts.
    older = [it for it in outbox_older(member) if it.job.startswith(job or "")]
    counted = older if since is None and kind is None else []
    if as_csv:
        for line in shown.as_csv(entries):
            typer.echo(line)
        return
    sums = shown.totals(entries, counted)
    if as_json:
        document = {
            "member": member.config.name,
            "entries": [shown.as_record(it) for it in entries],
            "totals": [it.as_json() for it in sums],
            "no_longer_one_by_one": [it.model_dump() for it in older],
        }
        typer.echo(json.dumps(document))
        return
    if not only_totals:
        _print_entries(entries, last, _nothing(query, others))
    _print_totals(sums)
    if older:
        gone = sum(it.messages for it in older)
        more = "" if counted else ", which are not in these sums: they know no time and no parts"
        typer.echo(f"{gone} older messages are kept as sums alone{more}")


def _query(job: str | None, since: str | None, kind: str | None) -> Query:
    from hansa.cli.reach import check_job
    from hansa.clients.outbox_reading import Query
    from hansa.clients.outbox_words import KINDS
    from hansa.contract.typed import parse_document

    given: dict[str, object] = {}
    if job is not None:
        given["job"] = check_job(job, "--job")
    if kind is not None and kind not in KINDS:
        raise InputError(f"--kind {kind}: no such kind; the kinds are {', '.join(KINDS)}")
    if kind is not None:
        given["kind"] = kind
    if since is not None:
        given["since"] = _moment(since)
    return parse_document(given, Query, "outbox")


def _moment(text: str) -> float:
    """Seconds since 1970 of a date, a time, or so long ago; local time where no zone is said."""
    ago = _AGO.match(text)
    if ago is not None:
        return (datetime.now() - timedelta(**{_UNIT[ago[2]]: int(ago[1])})).timestamp()
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise InputError(
            f"--since {text}: expected a date such as 2026-03-01, a time such as 2026-03-01T12:00, or 30m, 12h, 7d"
        ) from None


def _nothing(query: Query, others: bool) -> str:
    """What is said where no entry fits."""
    if not others:
        return "nothing is on record"
    asked = [
        *((f"of kind {query.kind}",) if query.kind else ()),
        *((f"of job {query.job}",) if query.job else ()),
        *(("since then",) if query.since else ()),
    ]
    future = "; that is in the future" if query.since > datetime.now().timestamp() else ""
    return f"nothing {' '.join(asked)}{future}; other entries are on record"


def _print_entries(entries: list[Entry], last: int, nothing: str) -> None:
    from hansa.cli import outbox_shown as shown

    newest = entries[-last:] if last else entries
    if not entries:
        typer.echo(nothing)
    if len(newest) < len(entries):
        typer.echo(f"the newest {len(newest)} of {len(entries)} entries; --last 0 shows all")
    for it in newest:
        for line in shown.lines(it):
            typer.echo(line)


def _print_totals(sums: list[Total]) -> None:
    from hansa.cli import outbox_shown as shown
    from hansa.cli.listing import print_table

    rows = [
        (
            it.job[:8] or "of no job",
            str(it.messages),
            shown.size(it.bytes),
            "; ".join(f"{amount:.4g} of {unit}" for unit, amount in it.charged.items()),
            str(it.may_have_left or ""),
        )
        for it in sums
    ]
    if rows:
        columns = ("job", "messages", "size", "charged", "may have left")
        print_table(columns, rows, nothing="")
