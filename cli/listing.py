"""Records on the screen: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import typer
from pydantic import BaseModel

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_ANY_WIDTH = 10_000


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """One line: an object, or a list of them."""
    if isinstance(value, BaseModel):
        typer.echo(value.model_dump_json())
    else:
        typer.echo(json.dumps([it.model_dump(mode="json") for it in value]))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, nothing: str) -> None:
    """A table, or the sentence `nothing` where there is no row.

    Where a word would not fit into its column, a block of lines for each row instead.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = list(rows)
    # Names stay whole, so that they can be copied; sentences wrap.
    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console()
    if not rows:
        console.print(nothing, markup=False, highlight=False)
    elif fits(console, table):
        console.print(table)
    else:
        for row in rows:
            for line in _block(columns, row):
                console.print(line, markup=False, highlight=False, soft_wrap=True)


def fits(console: Console, table: Table) -> bool:
    """Whether the table has room on this console without a word being broken."""
    from rich.measure import Measurement

    return (
        Measurement.get(console, console.options.update(max_width=_ANY_WIDTH), table).minimum <= console.width
    )


def _block(columns: Sequence[str], row: Sequence[str]) -> list[str]:
    width = max(len(it) for it in columns) + 2
    named = zip(columns[1:], row[1:], strict=True)
    return [row[0], *(f"  {name:<{width}}{cell}" for name, cell in named if cell)]


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """One line for each fact that is known."""
    width = max(len(name) for name, _ in facts) + 2
    for name, value in facts:
        if value:
            typer.echo(f"{name:<{width}}{value}")


def shown_time(moment: datetime | None) -> str:
    """Local time to the second, with the date where it is not today's."""
    if moment is None:
        return ""
    local = moment.astimezone()
    today = local.date() == datetime.now(local.tzinfo).date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def whole_time(moment: datetime | str) -> str:
    """Date and local time to the second, with its zone; a text that is no moment stays as it is."""
    try:
        found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError:
        return str(moment)
    return f"{found.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def shown_numbers(values: dict[str, float]) -> str:
    """`name=value`, in order of names."""
    return ", ".join(f"{name}={value:g}" for name, value in sorted(values.items()))


def forget_again(since: str | None) -> str:
    """What is to be done after a restore: nobody else knows who was forgotten."""
    when = "ever" if since is None else f"since {since}"
    return f"forget everybody again who was forgotten {when} (hansa data forget)"
