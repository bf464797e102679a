"""`hansa sidecar`: the process that tunes, watches and recovers, beside the server or on another machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hansa.cli.reach import TOKEN_VARIABLE, ControlOption, InstanceOption
from hansa.contract.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Tunes, watches and recovers; training never waits for it.",
)


@app.callback()
def sidecar() -> None:
    """Tunes, watches and recovers; training never waits for it."""


@app.command()
def start(
    control: ControlOption = None,
    instance: InstanceOption = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder for what it remembers; default: the instance's sidecar/.")
    ] = None,
    scaler: Annotated[
        Path | None,
        typer.Option(
            help="scaler.toml: services that it scales; default: the instance's, where there is one."
        ),
    ] = None,
) -> None:
    """Look at running jobs until Ctrl-C. It may be killed at any time; another one goes on where it was."""
    from hansa.cli.instance import find_instance

    argv = ["-m", "hansa.sidecar"]
    if control is not None and os.environ.get(TOKEN_VARIABLE):
        if state is None:
            raise InputError("--state: name a folder for what the sidecar remembers of jobs")
        argv += ["--control", control]
    else:
        found = find_instance(instance)
        argv += ["--control", control or found.control_url, "--tokens", str(found.sidecar_tokens_path)]
        state = state or found.sidecar
        scaler = scaler or (found.scaler_services if found.scaler_services.is_file() else None)
    argv += ["--scaler", str(scaler)] if scaler else []
    # It is small because it is nothing but itself.
    os.execv(sys.executable, [sys.executable, "-P", "-u", *argv, "--state", str(state)])
