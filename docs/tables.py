"""Markdown tables, and what may stand in their cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NOTE = "<!-- Made by `python docs/generate.py`; edit the code it comes from, not this page. -->"


def cell(text: object) -> str:
    """A text on one line that does not end its cell; `|` inside code stays readable."""
    return " ".join(str(text).split()).replace("|", "\\|")


def code(text: object) -> str:
    """A text as code, nothing where it is empty."""
    return f"`{text}`" if str(text) else ""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a header; rows as wide as it."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(cell(it) for it in row)} |" for row in rows]
    return "\n".join(lines)
