"""How a command finds control: `--control URL` with a token, or the instance that runs here."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.contract.errors import InputError

if TYPE_CHECKING:
    from hansa.cli.control_client import Control
    from hansa.server.records import JobRecord

TOKEN_VARIABLE = "HANSA_TOKEN"

ControlOption = Annotated[
    str | None,
    typer.Option(
        "--control",
        metavar="URL",
        envvar="HANSA_CONTROL",
        help=f"Control's address, with its token in {TOKEN_VARIABLE}; default: the instance's.",
    ),
]
InstanceOption = Annotated[
    Path | None, typer.Option(help="Instance folder; default: what runs under .hansa, or the newest.")
]
JobArgument = Annotated[
    str | None,
    typer.Argument(
        help="A job's id or its beginning; default: the one that runs, else the newest.", show_default=False
    ),
]
ResumedJobArgument = Annotated[
    str | None,
    typer.Argument(
        help="A job's id or its beginning; default: the paused, stopped or failed one that changed last.",
        show_default=False,
    ),
]
PausedJobArgument = Annotated[
    str | None,
    typer.Argument(
        help="A job's id or its beginning; default: the paused one that changed last.", show_default=False
    ),
]
OnlyJobArgument = Annotated[
    str | None,
    typer.Argument(
        help="A job's id or its beginning; may be left out where only one job is not over.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def reach(url: str | None, instance: Path | None, scope: str = "read") -> Control:
    """Control, with a token of that scope.

    Raises
    ------
    InputError : neither an address with a token nor an instance is there
    """
    from hansa.cli.control_client import Control
    from hansa.cli.instance import find_instance

    if url is None:
        return Control.of(find_instance(instance), scope)
    if not url.startswith(("http://", "https://")):
        raise InputError(f"--control {url}: expected a URL, e.g. http://127.0.0.1:9480")
    token = os.environ.get(TOKEN_VARIABLE)
    if token:
        return Control(url.rstrip("/"), token)
    try:
        tokens = find_instance(instance).tokens
    except InputError:
        raise InputError(f"--control {url}: its token is missing; put it into {TOKEN_VARIABLE}") from None
    if scope not in tokens:
        raise InputError(
            f"--control {url}: the instance holds no '{scope}' token; put one into {TOKEN_VARIABLE}"
        )
    return Control(url.rstrip("/"), tokens[scope])


def check_job(job: str, named: str) -> str:
    """A job's id or its beginning, as it was given.

    Raises
    ------
    InputError : it is neither
    """
    if re.fullmatch("[0-9a-f]{1,32}", job) is None:
        raise InputError(
            f"{named}: '{job}' is no job; expected its id, 32 characters of 0-9 and a-f, or the id's beginning, "
            "as hansa jobs list shows it"
        )
    return job


def choose_job(control: Control, job: str | None, rather: Sequence[str] = ("running",)) -> JobRecord:
    """The job that is meant: by id, by its beginning, or the one that is as asked for, or the newest.

    Parameters
    ----------
    rather : of jobs in one of these states, the one that changed last is meant where none is named

    Raises
    ------
    InputError : there is no such job, or none at all
    """
    if job is not None:
        return control.job(job)
    jobs = control.jobs()
    if not jobs:
        raise InputError("there is no job yet; submit one with: hansa jobs submit")
    fitting = [it for it in jobs if it.status in rather]
    return max(fitting, key=lambda it: it.updated) if fitting else jobs[-1]


def only_job(control: Control, job: str | None, fitting: Sequence[str]) -> JobRecord:
    """The job that is meant: by id, by its beginning, or the only one in one of these states.

    Where none is in any of them: the one that changed last, of which then is said what it is already.

    Raises
    ------
    InputError : there is no such job, none at all, or more than one that could be meant
    """
    if job is not None:
        return control.job(job)
    jobs = control.jobs()
    found = [it for it in jobs if it.status in fitting]
    if len(found) > 1:
        those = ", ".join(f"{it.job[:8]} ({it.name}, {it.status})" for it in found)
        raise InputError(f"JOB: {len(found)} jobs can be meant, name one of them: {those}")
    if not found and not jobs:
        raise InputError("there is no job yet; submit one with: hansa jobs submit")
    return found[0] if found else max(jobs, key=lambda it: it.updated)
