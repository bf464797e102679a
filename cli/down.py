"""`hansa down`: stop what `hansa up --detach` started."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def down(
    instance: Annotated[
        Path | None, typer.Option(help="Instance folder; default: what runs under .hansa, or the newest.")
    ] = None,
) -> None:
    """Stop what `hansa up --detach` started.

    Keys, ledgers and results stay until the next `hansa up` without --keep.
    """
    from hansa.cli.federation import record_path
    from hansa.cli.instance import find_instance, others_that_run
    from hansa.cli.stopping import stop_record

    found = find_instance(instance)
    stopped = stop_record(record_path(found.folder, "up"))
    typer.echo(f"{found.folder}: {'stopped' if stopped else 'nothing was running'}")
    if not stopped:
        for other in others_that_run(found):
            typer.echo(f"{other.folder} runs; stop it with: hansa down --instance {other.folder}", err=True)
