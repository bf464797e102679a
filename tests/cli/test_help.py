"""`hansa --help` stays quick and small: it imports no library of training, and no model of data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

import click
import pytest

from hansa.cli.app import COMMANDS, build

HEAVY = (
    *("torch", "flwr", "tenseal", "polars", "numpy", "sqlalchemy", "fastapi", "opacus", "httpx"),
    *("rich.console", "pydantic"),
)
_HELP = "import sys; sys.argv = ['hansa', '--help']\nfrom hansa.cli import main\ntry: main()\nexcept SystemExit: pass\n"
_EMPTY = (
    "import sys, typer; sys.argv = ['empty', '--help']\napp = typer.Typer(add_completion=False)\n"
    "@app.command()\ndef one() -> None: 'Nothing.'\ntry: app()\nexcept SystemExit: pass\n"
)
_USED = "import resource\nr = resource.getrusage(resource.RUSAGE_SELF)\n"
_USED += "sys.stderr.write(f'{r.ru_utime + r.ru_stime} {r.ru_maxrss}')\n"


def used(program: str) -> tuple[float, float]:
    """Processor seconds and MiB of one process that a small shell starts: a fork begins as large as its parent."""
    command = ["/bin/sh", "-c", '"$0" -c "$1"', sys.executable, program + _USED]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    seconds, kib = done.stderr.split()[-2:]
    return float(seconds), float(kib) / 1024


@pytest.mark.parametrize(
    "words", [("--help",), *((name, "--help") for name in ("jobs", "budgets", "scaler"))]
)
def test_help_imports_no_library_that_it_does_not_need(words: tuple[str, ...]) -> None:
    program = f"import sys, json; sys.argv = ['hansa', *{words!r}]\nfrom hansa.cli import main\n"
    program += "try: main()\nexcept SystemExit: pass\n"
    program += f"sys.stderr.write(json.dumps([it for it in {HEAVY!r} if it in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # Help of a command draws with rich.
    allowed = set() if words == ("--help",) else {"rich.console"}
    assert set(json.loads(done.stderr)) <= allowed


def test_help_and_reference_say_what_an_argument_is_for() -> None:
    without = [
        (words, param.name)
        for words, command in _below(build())
        for param in command.params
        if isinstance(param, click.Argument) and not param.help
    ]
    assert not without


def _below(command: click.Command, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _below(inner, *words, name)


def test_help_names_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hansa.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.slow
@pytest.mark.alone
def test_help_takes_at_most_a_third_more_than_an_empty_application() -> None:
    pairs = [(used(_HELP), used(_EMPTY)) for _ in range(7)]
    assert median(own[0] for own, _ in pairs) <= 1.3 * median(empty[0] for _, empty in pairs)
    assert max(own[1] for own, _ in pairs) <= 40.0
