"""What is told of parts at a terminal: progress, a summary, one object for programs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hansa.cli.interrupts import Interruption
from hansa.cli.suite.found import Outcome, Rows
from hansa.cli.suite.running import Part, Stage, exit_code, run_parts

if TYPE_CHECKING:
    from rich.console import Console


def run_and_show(
    parts: Sequence[Part],
    *,
    as_json: bool,
    verbose: bool = False,
    seen: Callable[[Sequence[Outcome]], None] = lambda outcomes: None,
    closing: Sequence[str] = (),
) -> int:
    """Run parts, show what they found, and return the exit code.

    Parameters
    ----------
    seen : as `run_parts` has it
    closing : lines after the summary
    """
    from rich.console import Console

    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(name)s %(message)s")
    # What an episode is about would come up here as trouble.
    logging.getLogger("hansa.sidecar").setLevel(logging.INFO if verbose else logging.CRITICAL)
    console = Console(stderr=as_json)
    with Interruption() as interruption:
        stage = Stage(interruption, console)
        outcomes = run_parts(parts, stage, seen)
        code = exit_code(outcomes, interruption)
    if as_json:
        ended = "done" if code == 0 else "interrupted" if interruption.requested else "failed"
        print(json.dumps({"status": ended, "parts": [it.as_json() for it in outcomes]}), flush=True)
    else:
        for outcome in outcomes if len(outcomes) == 1 else ():
            show_tables(console, outcome.found.tables)
        show_summary(console, outcomes)
        for sentence in closing:
            stage.say(sentence)
    _say_what_failed(outcomes)
    return code


def show_tables(console: Console, tables: Sequence[Rows]) -> None:
    """Each under its title."""
    from hansa.cli.listing import print_table

    for it in tables:
        print_table(it.columns, it.rows, nothing=f"{it.title}: none", title=it.title, console=console)
        if it.note:
            console.print(it.note, markup=False, highlight=False)


def show_summary(console: Console, outcomes: Sequence[Outcome]) -> None:
    """One row a part."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("part", "status", "seconds", "found")
    for it in outcomes:
        found = "; ".join(f"{fact.name} {fact.shown}" for fact in it.found.headline)
        told = "; ".join(text for text in (it.reason if it.status == "failed" else "", found) if text)
        table.add_row(it.name, it.status, f"{it.seconds:.1f}", escape(told))
    console.print(table)
    for it in outcomes:
        for sentence in it.found.sentences:
            console.print(f"{it.name}: {sentence}", markup=False, highlight=False)
    total = sum(it.seconds for it in outcomes)
    if len(outcomes) > 1:
        console.print(f"together {total:.1f} s", markup=False, highlight=False)


def _say_what_failed(outcomes: Sequence[Outcome]) -> None:
    for it in outcomes:
        if it.status == "failed":
            print(f"hansa: {it.name}: {it.reason}; alone: {it.command}", file=sys.stderr)
        elif it.status in ("interrupted", "waiting"):
            words = "interrupted" if it.status == "interrupted" else "not begun"
            print(f"hansa: {it.name}: {words}", file=sys.stderr)
