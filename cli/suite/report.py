"""The report of `hansa enterprise`: a folder with Markdown, a page, drawings and one JSON file.

Written anew after every part, each file in one step: whatever ends the command, what stands there is whole and says
which parts were reached.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hansa.cli.suite.found import Outcome, Rows
from hansa.contract.errors import InputError
from hansa.contract.typed import write_atomically

_PACKAGES = ("hansa", "flwr", "torch", "numpy", "tenseal", "opacus", "dp-accounting", "pydantic")
# Folders beside the report that are the report's own.
_BESIDE = (Path("drawings"), Path("evidence"))
# As Markdown has it.
_CODE = re.compile(r"`([^`]+)`")
# A cell that is a number, with a unit or a percent sign; columns of these are ranged on the right.
_NUMBER = re.compile(r"^[-+]?\d[\d,.]*( ?(%|s|B|kB|MB|GB|MiB|GiB))?$")
_STYLE = """
:root{--paper:#fff;--ink:#1d2126;--soft:#5b6570;--line:#d9dde2;--good:#1d6b3a;--bad:#a3271b}
@media(prefers-color-scheme:dark){:root{--paper:#16181c;--ink:#e3e6ea;--soft:#9aa4af;--line:#343a41;--good:#7fd09b;
--bad:#f0938a}}
body{margin:2rem auto;max-width:62rem;padding:0 1rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}
h1,h2{line-height:1.2}h2{margin-top:2.5rem}
table{border-collapse:collapse;font-size:.9rem}.wide{overflow-x:auto;margin:1rem 0}
caption{text-align:left;font-weight:600;padding:.3rem 0}
th,td{border-bottom:1px solid var(--line);padding:.3rem .7rem .3rem 0;text-align:left;vertical-align:top}
.note,footer{color:var(--soft);font-size:.9rem}.done{color:var(--good)}.failed,.interrupted{color:var(--bad)}
.waiting{color:var(--soft)}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}figure{margin:1rem 0}
code{font-size:.9em}svg{width:100%;height:auto}a{color:inherit}
"""


@dataclass(frozen=True)
class Report:
    """What stands at the top of a report.

    Parameters
    ----------
    command : as it was typed
    """

    out: Path
    command: str
    began: datetime

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """All files, as the parts stand now.

        Raises
        ------
        InputError : the folder cannot be written
        """
        facts = self._facts(outcomes)
        try:
            if all(it.status == "waiting" for it in outcomes):
                self._clear()
            for drawing in (it for outcome in outcomes for it in outcome.found.drawings):
                write_atomically(self.out / "drawings" / f"{drawing.name}.svg", drawing.svg.encode())
            document = {**facts, "files": _files(outcomes), "parts": [it.as_json() for it in outcomes]}
            write_atomically(self.out / "results.json", json.dumps(document, indent=2).encode() + b"\n")
            write_atomically(self.out / "report.html", _page(facts, outcomes).encode())
            write_atomically(self.out / "report.md", _markdown(facts, outcomes).encode())
        except OSError as error:
            raise InputError(f"--out {self.out}: cannot be written ({error.strerror or error})") from None

    def _clear(self) -> None:
        """Take away what an earlier report names: a part that this one never reaches would show it."""
        try:
            earlier = json.loads((self.out / "results.json").read_bytes())
            names = [Path(str(it)) for it in earlier["files"]]
        except (OSError, ValueError, LookupError, TypeError):
            return
        for name in names:
            if name.parent in _BESIDE:
                (self.out / name).unlink(missing_ok=True)

    def _facts(self, outcomes: Sequence[Outcome]) -> dict[str, object]:
        import psutil

        statuses = {it.status for it in outcomes}
        status = "complete" if statuses == {"done"} else "not complete"
        return {
            "status": status,
            "command": self.command,
            "began": self.began.isoformat(timespec="seconds"),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "together": f"{sum(it.seconds for it in outcomes):.1f} s in {len(outcomes)} parts",
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, "
            f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
            "load": "{:.2f} over the last minute, {:.2f} over the last quarter of an hour".format(
                *os.getloadavg()[::2]
            ),
            "versions": {name: _version(name) for name in _PACKAGES},
        }


def _files(outcomes: Sequence[Outcome]) -> list[str]:
    """What lies beside the report, by its name from there."""
    drawings = (f"drawings/{drawing.name}.svg" for it in outcomes for drawing in it.found.drawings)
    return [*drawings, *(name for it in outcomes for name in it.found.files)]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _lines(facts: Mapping[str, object]) -> list[tuple[str, str]]:
    versions = facts["versions"]
    assert isinstance(versions, dict)
    shown = ", ".join(f"{name} {found}" for name, found in versions.items())
    named = ("status", "command", "began", "written", "together", "machine", "load", "python")
    return [*((name, str(facts[name])) for name in named), ("versions", shown)]


def _markdown(facts: Mapping[str, object], outcomes: Sequence[Outcome]) -> str:
    parts = ["# What ran, and what it found", ""]
    parts += [f"- {name}: {value}" for name, value in _lines(facts)]
    rows = tuple((it.name, it.status, _seconds(it), f"`{it.command}`", _told(it)) for it in outcomes)
    parts += ["", *_table(Rows("Parts", ("part", "status", "seconds", "alone", "found"), rows))]
    for outcome in outcomes:
        parts += ["", f"## {outcome.name}: {outcome.title}", ""]
        parts += [f"`{outcome.command}`: {outcome.status}, {outcome.seconds:.1f} s", ""]
        if outcome.status == "failed":
            parts += [f"**{_cell(outcome.reason)}**", ""]
        parts += [*outcome.found.sentences, ""] if outcome.found.sentences else []
        for table in outcome.found.tables:
            parts += [*_table(table), ""]
        parts += [f"![{it.title}](drawings/{it.name}.svg)" for it in outcome.found.drawings]
    return "\n".join(parts) + "\n"


def _table(table: Rows) -> list[str]:
    ranged = ["---:" if it else "---" for it in _numeric(table)]
    lines = [f"**{table.title}**", "", _row(table.columns), _row(ranged)]
    lines += [_row(row) for row in table.rows]
    return [*lines, "", table.note] if table.note else lines


def _numeric(table: Rows) -> list[bool]:
    """Of each column whether all its cells are numbers; an absent one may be empty or a dash."""
    columns = [[row[number] for row in table.rows] for number in range(len(table.columns))]
    return [
        any(_NUMBER.match(it) for it in cells)
        and all(_NUMBER.match(it) for it in cells if it not in ("", "-"))
        for cells in columns
    ]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(it) for it in cells) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _page(facts: Mapping[str, object], outcomes: Sequence[Outcome]) -> str:
    head = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in _lines(facts)
    )
    summary = "".join(
        f'<tr><td><a href="#{it.name}">{it.name}</a></td><td class="{it.status}">{it.status}</td>'
        f'<td class="n">{_seconds(it)}</td><td><code>{escape(it.command)}</code></td>'
        f"<td>{escape(_told(it))}</td></tr>"
        for it in outcomes
    )
    sections = "\n".join(_section(it) for it in outcomes)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Hansa: what ran, and what it found</title><style>{_STYLE}</style></head><body>\n"
        f'<h1>What ran, and what it found</h1><div class="wide"><table>{head}</table></div>\n'
        '<div class="wide"><table><caption>Parts</caption><tr><th>part</th><th>status</th><th class="n">seconds</th>'
        f"<th>alone</th><th>found</th></tr>{summary}</table></div>\n{sections}\n"
        "<footer>Every figure comes from what ran for this report.</footer></body></html>\n"
    )


def _section(outcome: Outcome) -> str:
    found = outcome.found
    parts = [f'<section id="{outcome.name}"><h2>{escape(outcome.name)}: {escape(outcome.title)}</h2>']
    parts.append(
        f'<p><code>{escape(outcome.command)}</code>: <span class="{outcome.status}">{outcome.status}</span>, '
        f"{outcome.seconds:.1f} s</p>"
    )
    if outcome.status == "failed":
        parts.append(f'<p class="{outcome.status}">{escape(outcome.reason)}</p>')
    parts += ["<p>" + _CODE.sub(r"<code>\1</code>", escape(it)) + "</p>" for it in found.sentences]
    for table in found.tables:
        parts.append(f'<div class="wide">{_html_table(table)}</div>')
        parts += [f'<p class="note">{escape(table.note)}</p>'] if table.note else []
    parts += [f'<figure aria-label="{escape(it.title)}">{it.svg}</figure>' for it in found.drawings]
    return "\n".join(parts) + "</section>"


def _html_table(table: Rows) -> str:
    ranged = [' class="n"' if it else "" for it in _numeric(table)]
    head = "".join(f"<th{n}>{escape(it)}</th>" for n, it in zip(ranged, table.columns, strict=True))
    rows = (
        "".join(f"<td{n}>{escape(cell)}</td>" for n, cell in zip(ranged, row, strict=True))
        for row in table.rows
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><caption>{escape(table.title)}</caption><tr>{head}</tr>{body}</table>"


def _told(outcome: Outcome) -> str:
    """Why it failed, then the figures that it has all the same."""
    headline = "; ".join(f"{it.name} {it.shown}" for it in outcome.found.headline)
    return "; ".join(it for it in (outcome.reason if outcome.status == "failed" else "", headline) if it)


def _seconds(outcome: Outcome) -> str:
    return "" if outcome.status == "waiting" else f"{outcome.seconds:.1f}"
