"""docs/README.md and docs/decisions/README.md: the pages there are, each with its title and first sentence."""

from __future__ import annotations

import re
from pathlib import Path

from tables import NOTE, table

# Who reads what first; a page that nobody is named for stands at the end. Pages that are not there are left out.
READERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Everybody", ("getting-started", "suite", "architecture", "scenarios", "public-tables", "figures")),
    (
        "The consortium's operator and platform team",
        ("operations", "page", "monitoring", "logs", "connections", "scaling", "scaler", "stock-flower"),
    ),
    (
        "An organisation and its privacy officer",
        ("privacy-officer", "privacy-accounting", "budgets", "audit", "scoring"),
    ),
    ("The ML engineer", ("ml-engineer", "python-api", "tuner", "anomalies", "recovery")),
    ("Whoever checks it", ("threat-model", "protocol")),
)


def documents(folder: Path) -> str:
    """The index of docs/."""
    there = {path.stem: path for path in sorted(folder.glob("*.md")) if path.name != "README.md"}
    parts = ["# Documents", "", NOTE, ""]
    named = {name for _, names in READERS for name in names}
    more = ("More", tuple(name for name in there if name not in named))
    for reader, names in (*READERS, more):
        rows = [(f"[{name}]({name}.md)", first_sentence(there[name])) for name in names if name in there]
        if rows:
            parts += [f"## {reader}", "", table(("page", ""), rows), ""]
    reference = (
        ("[commands](reference/commands.md)", "Every command with its options."),
        ("[configuration](reference/configuration.md)", "Every file with its fields."),
        ("[decisions](decisions/README.md)", "Why it is so, ten lines each."),
    )
    return "\n".join([*parts, "## Reference", "", table(("page", ""), reference), ""])


def decisions(folder: Path) -> str:
    """The index of docs/decisions/."""
    paths = sorted(path for path in (folder / "decisions").glob("*.md") if path.name != "README.md")
    rows = [(f"[{path.stem}]({path.name})", title(path)) for path in paths]
    text = "What a newcomer would question, with the reason and what else was looked at."
    return "\n".join(["# Decisions", "", NOTE, "", text, "", table(("record", "decision"), rows), ""])


def title(path: Path) -> str:
    """The page's first heading."""
    return path.read_text().splitlines()[0].lstrip("# ").strip()


def first_sentence(path: Path) -> str:
    """The first sentence below the heading."""
    text = path.read_text().partition("\n")[2].strip()
    paragraph = " ".join(text.partition("\n\n")[0].split())
    found = re.match(r".*?\.(?=\s|$)", paragraph)
    return found[0] if found else paragraph
