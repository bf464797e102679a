"""`hansa backup`: one file of a folder, while its processes run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A member's folder, or an instance or a part of one.")],
    out: Annotated[Path, typer.Option(help="The file to write, e.g. kontor-bank.tar.gz.")],
) -> None:
    """Copy a folder into one file, databases at one moment each.

    Its keys and tokens are in it: encrypt what leaves.
    """
    from hansa.cli.archive import left_out, secrets_among

    count = take_backup(folder, out)
    for name in left_out(folder):
        typer.echo(f"left out: {name}", err=True)
    secret = secrets_among(folder)
    warning = f", {secret} among them; keep it as you keep those" if secret else ""
    typer.echo(f"{out}: {count} file{'s' if count > 1 else ''} of {folder}{warning}")


def take_backup(folder: Path, out: Path) -> int:
    """Copy a folder into one file, once the outbox of every member in it knows of that; how many files.

    Raises
    ------
    InputError : not a folder, or `out` is there already
    HansaError : an outbox did not take the entry; then there is no file
    """
    from hansa.cli.archive import make_archive
    from hansa.cli.instance import MemberFolder
    from hansa.cli.outbox_source import note_digest

    members = [MemberFolder(it.parent) for it in sorted(folder.rglob("member.toml"))]

    def note(whole: Path) -> None:
        with whole.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        for member in members:
            note_digest(member, "backup", out, whole.stat().st_size, digest)

    return make_archive(folder, out, note)
