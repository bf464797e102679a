"""Records on the screen: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime

import typer
from pydantic import BaseModel


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """One line: an object, or a list of them."""
    if isinstance(value, BaseModel):
        typer.echo(value.model_dump_json())
    else:
        typer.echo(json.dumps([it.model_dump(mode="json") for it in value]))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, nothing: str) -> None:
    """A table, or the sentence `nothing` where there is no row."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    # Names stay whole, so that they can be copied; sentences wrap.
    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console()
    if table.row_count:
        console.print(table)
    else:
        console.print(nothing, markup=False, highlight=False)


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


def shown_numbers(values: dict[str, float]) -> str:
    """`name=value`, in order of names."""
    return ", ".join(f"{name}={value:g}" for name, value in sorted(values.items()))


def forget_again(since: str | None) -> str:
    """What is to be done after a restore: nobody else knows who was forgotten."""
    when = "ever" if since is None else f"since {since}"
    return f"forget everybody again who was forgotten {when} (hansa data forget)"
