"""Records on the screen: a table for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import typer
from pydantic import BaseModel
from rich.cells import cell_len

if TYPE_CHECKING:
    from rich.console import Console

# What is longer is a sentence, and is given so much room at least.
_SENTENCE, _SENTENCE_LEAST = 60, 20


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """One line: an object, or a list of them."""
    if isinstance(value, BaseModel):
        typer.echo(value.model_dump_json())
    else:
        typer.echo(json.dumps([it.model_dump(mode="json") for it in value]))


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    nothing: str,
    title: str = "",
    console: Console | None = None,
) -> None:
    """A table, or the sentence `nothing` where there is no row.

    Where a word would not fit into its column, columns that are empty go; then a block of lines for each row.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = list(rows)
    console = console or Console()
    if not rows:
        console.print(nothing, markup=False, highlight=False)
        return
    widths = column_widths(columns, rows, console.width)
    if widths is None:
        filled = [number for number in range(len(columns)) if number == 0 or any(row[number] for row in rows)]
        columns = [columns[it] for it in filled]
        rows = [[row[it] for it in filled] for row in rows]
        widths = column_widths(columns, rows, console.width)
    if widths is None:
        if title:
            console.print(title, markup=False, highlight=False)
        for row in rows:
            for line in _block(columns, row):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    table = Table(title=escape(title) or None, title_justify="left")
    for column, width in zip(columns, widths, strict=True):
        table.add_column(escape(column), width=width, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def column_widths(columns: Sequence[str], rows: Sequence[Sequence[str]], screen: int) -> list[int] | None:
    """Widths of a table's columns in which no word is broken and no sentence is a thread; None where there are none.

    The first column's names stay whole, so that they can be copied.
    """
    # A cell has a border and a blank on either side.
    room = screen - 3 * len(columns) - 1
    whole, least = [], []
    for number, column in enumerate(columns):
        cells = [row[number] for row in rows]
        longest = max(cell_len(line) for it in cells for line in it.splitlines() or [""])
        word = max((cell_len(word) for it in (column, *cells) for word in it.split()), default=1)
        whole.append(max(longest, cell_len(column), 1))
        least.append(max(longest if number == 0 else 0, word, _SENTENCE_LEAST if longest > _SENTENCE else 1))
    if sum(least) > room:
        return None
    while sum(whole) > room:
        widest = max(
            (it for it in range(len(whole)) if whole[it] > least[it]), key=lambda it: whole[it] - least[it]
        )
        whole[widest] -= 1
    return whole


def _block(columns: Sequence[str], row: Sequence[str]) -> list[str]:
    width = max(len(it) for it in columns) + 2
    named = zip(columns[1:], row[1:], strict=True)
    return [row[0], *(f"  {name:<{width}}{cell}" for name, cell in named if cell)]


def print_hanging(head: str, text: str) -> None:
    """A line whose text goes on below its own beginning where the terminal ends."""
    width = max(shutil.get_terminal_size().columns, len(head) + 20)
    lines = textwrap.wrap(text, width - len(head), break_long_words=False) or [""]
    typer.echo(f"{head}{lines[0]}".rstrip())
    for line in lines[1:]:
        typer.echo(" " * len(head) + line)


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
