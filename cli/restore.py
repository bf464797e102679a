"""`hansa restore`: put back what `hansa backup` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def restore(
    archive: Annotated[Path, typer.Argument(help="What hansa backup wrote.")],
    to: Annotated[Path, typer.Option(help="A folder that is not there yet.")],
) -> None:
    """Check every file of a backup and write them; a ledger among them is older than what others saw of it."""
    from hansa.cli.archive import put_back
    from hansa.cli.listing import forget_again, whole_time

    count, made = put_back(archive, to)
    typer.echo(f"{to}: {count} files as they were at {whole_time(made)}")
    if any(to.rglob("ledger.sqlite")):
        typer.echo(
            "it holds a ledger: where charges were made since then, its agent computes nothing until they"
        )
        typer.echo("are entered again from what others saw of it: hansa budgets recover")
    if any(to.rglob("member.toml")):
        typer.echo(
            f"nothing here knows who was forgotten after it was made: {forget_again(whole_time(made))}"
        )
