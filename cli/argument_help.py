"""What arguments are for: Click 8.5 keeps no help that Typer 0.20 gives it for an argument."""

from __future__ import annotations

import click
from typer.models import ArgumentInfo
from typer.utils import get_params_from_function


def keep_help(command: click.Command) -> None:
    """Give each argument of a command, and of those below it, the help that its function states."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            keep_help(inner)
    if command.callback is None:
        return
    stated = get_params_from_function(command.callback)
    for param in command.params:
        info = stated[param.name].default if param.name in stated else None
        if isinstance(param, click.Argument) and isinstance(info, ArgumentInfo):
            param.help = info.help
