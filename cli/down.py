"""`hansa down`: stop what `hansa up --detach` started."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def down(
    instance: Annotated[
        Path | None, typer.Option(help="Instance folder; default: the newest under .hansa.")
    ] = None,
) -> None:
    """Stop what `hansa up --detach` started.

    Keys, ledgers and results stay until the next `hansa up` without --keep.
    """
    from hansa.cli.federation import record_path
    from hansa.cli.instance import find_instance
    from hansa.cli.stopping import stop_record

    found = find_instance(instance)
    stopped = stop_record(record_path(found.folder, "up"))
    typer.echo(f"{found.folder}: {'stopped' if stopped else 'nothing was running'}")
