"""A small scenario on disk, the `hansa` command in this process, and what it left running."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
import pytest

SCENARIO = """
name = "tiny"
title = "A tiny federation"
task = "say whether y"

[model]
name = "linear"

[protection]
mode = "masked"
{cohort}
[knobs]
client_rate = {{ default = 1.0, low = 0.001, high = 10.0 }}
server_rate = {{ default = 0.5, low = 0.0001, high = 2.0 }}

[job]
rounds = {rounds}
"""
MEMBER = """
[[members]]
name = "{name}"
title = "{title}"
data = {{ kind = "csv", path = "{name}.csv" }}
"""
FEATURES = """
[label]
kind = "binary"
column = "y"

[[columns]]
name = "age"
kind = "numeric"
low = -3.0
high = 3.0

[[columns]]
name = "ward"
kind = "categorical"
categories = ["north", "south"]
"""


def write_scenario(
    folder: Path, members: Sequence[str] = ("a", "b", "c"), *, rounds: int = 3, rows: int = 120
) -> Path:
    """A scenario folder with one CSV a member."""
    folder.mkdir(parents=True, exist_ok=True)
    cohort = "minimum_cohort = 2" if len(members) == 2 else ""
    text = SCENARIO.format(rounds=rounds, cohort=cohort)
    text += "".join(MEMBER.format(name=name, title=f"Member {name.upper()}") for name in members)
    (folder / "scenario.toml").write_text(text)
    (folder / "features.toml").write_text(FEATURES)
    for name in members:
        draw = random.Random(name)
        lines = ["age,ward,y"]
        for _ in range(rows):
            age, ward = draw.gauss(0, 1), draw.choice(["north", "south"])
            lines.append(f"{age:.4f},{ward},{int(age + (ward == 'south') + draw.gauss(0, 1) > 0.5)}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def hansa(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command line in this process; its exit code."""
    from hansa.cli import main

    monkeypatch.setattr(sys, "argv", ["hansa", *arguments])
    try:
        main()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    return 0


def still_running(folder: Path) -> list[str]:
    """Command lines of living processes that name something in `folder`, this process apart."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if alive and process.pid != psutil.Process().pid and any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found


@dataclass(frozen=True)
class Said:
    """What a command ended with and printed."""

    code: int
    out: str
    err: str


class Commands(Protocol):
    """Runs a command in this process."""

    def __call__(self, *arguments: str) -> Said: ...


def commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    """What runs commands and keeps what they say."""

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        code = hansa(arguments, monkeypatch)
        printed = capsys.readouterr()
        return Said(code, printed.out, printed.err)

    return run
