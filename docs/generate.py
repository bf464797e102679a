"""Writes the pages that are made from code: `python docs/generate.py`; `--check` only says what would change.

docs/reference/commands.md       the command tree, as Typer has it
docs/reference/configuration.md  every file that is read: fields, values, defaults, what they mean
docs/README.md                   the pages there are, by who reads them
docs/decisions/README.md         the decisions there are
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import commands_page
import configuration_page
import index_pages

FOLDER = Path(__file__).resolve().parent

# The indexes come last: they also list what is made before them.
MADE: Mapping[str, Callable[[Path], str]] = {
    "reference/commands.md": lambda _: commands_page.page(),
    "reference/configuration.md": lambda _: configuration_page.page(),
    "decisions/README.md": index_pages.decisions,
    "README.md": index_pages.documents,
}


def departures(folder: Path = FOLDER) -> dict[Path, str]:
    """What each page that differs from its file ought to hold."""
    made = {folder / name: make(folder) for name, make in MADE.items()}
    return {path: text for path, text in made.items() if not path.is_file() or path.read_text() != text}


def main() -> None:
    """Write what changed, or with `--check` name it and exit with 1."""
    parser = argparse.ArgumentParser(description="Writes the pages that are made from code.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where a page differs"
    )
    check = parser.parse_args().check
    changed = departures()
    for path, text in changed.items():
        print(f"{path.relative_to(FOLDER.parent)}: {'differs' if check else 'written'}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    raise SystemExit(1 if check and changed else 0)


if __name__ == "__main__":
    main()
