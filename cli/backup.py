"""`hansa backup`: one file of a folder, while its processes run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A member's folder, or an instance or a part of one.")],
    out: Annotated[Path, typer.Option(help="The file to write, e.g. kontor-bank.tar.gz.")],
) -> None:
    """Copy a folder into one file, databases at one moment each. It holds private keys: encrypt what leaves."""
    from hansa.cli.archive import make_archive

    count = make_archive(folder, out)
    typer.echo(f"{out}: {count} files of {folder}, private keys among them; keep it as you keep those")
