"""`hansa evidence`: what an organisation can prove about a job, in one signed archive, and its check anywhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer
from typer.core import TyperGroup

from hansa.contract.errors import HansaError, InputError

if TYPE_CHECKING:
    from hansa.cli.instance import MemberFolder

Org = Annotated[str | None, typer.Option("--org", help="The organisation's name in the charter.")]
Folder = Annotated[Path | None, typer.Option("--folder", help="Its folder, with member.toml.")]
InstancePath = Annotated[
    Path | None,
    typer.Option("--instance", help="Instance folder; default: what runs under .hansa, or the newest."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]


class JobOrCommand(TyperGroup):
    """`hansa evidence JOB` is `hansa evidence make JOB`: what is no command is a job."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["make", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=JobOrCommand,
    no_args_is_help=True,
    add_completion=False,
    help="What an organisation can prove about a job: hansa evidence JOB makes a signed archive.",
)


@app.command()
def make(
    job: Annotated[str, typer.Argument(help="The job's id or its beginning.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default: evidence-ORG-JOB.zip.")
    ] = None,
    force: Force = False,
    org: Org = None,
    folder: Folder = None,
    instance: InstancePath = None,
) -> None:
    """Gather the charter, approvals, ledger, receipts, events and outbox of a job in one signed archive."""
    from hansa.cli.evidence_collect import whole_job
    from hansa.cli.instance import choose_member

    member = choose_member(org, folder, instance)
    job = whole_job(member, job)
    path = out or Path(f"evidence-{member.config.name}-{job[:8]}.zip")
    _check_free(path, force)
    content = take_out(member, job, path)
    typer.echo(
        f"{path}: evidence of job {job[:8]} at {member.config.name}, {len(content)} bytes, signed; it holds no record "
        f"and no key, and names people who decided\ncheck it anywhere: hansa evidence verify {path} --charter CHARTER"
    )


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `hansa evidence JOB` wrote.")],
    charter: Annotated[
        Path | None,
        typer.Option(help="A charter.toml that you had from somebody else: it must be the archive's."),
    ] = None,
    identity: Annotated[
        str | None, typer.Option(help="The organisation's identity key, base64, from somebody else.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check an archive, with nothing but it: exits 1 where something does not hold, and says what.

    Without --charter or --identity it shows that nothing was changed since somebody signed it, not who that is.
    """
    from hansa.cli.evidence_checked import Pinned
    from hansa.cli.evidence_verify import check_archive, report
    from hansa.contract.archive import MOST_BYTES, InvalidArchive
    from hansa.contract.typed import read_file

    pinned = Pinned(None if charter is None else read_file(charter), identity)
    if file.is_file() and file.stat().st_size > MOST_BYTES:
        raise HansaError(f"{file}: not valid: larger than any archive, {MOST_BYTES} bytes")
    content = read_file(file)
    try:
        done = check_archive(content, pinned)
    except InvalidArchive as error:
        raise HansaError(f"{file}: not valid: {error}") from None
    if as_json:
        facts = done.manifest.model_dump(mode="json", exclude={"files"})
        typer.echo(json.dumps({"valid": True, **facts, "checked": done.lines, "not_checked": done.open}))
        return
    for line in report(done):
        typer.echo(line)
    typer.echo(
        f"{file}: valid; job {done.manifest.job} at {done.manifest.organisation}, made {done.manifest.made}"
    )


@app.command()
def dpia(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default: standard output.")
    ] = None,
    force: Force = False,
    org: Org = None,
    folder: Folder = None,
    instance: InstancePath = None,
) -> None:
    """A data-protection impact assessment (GDPR Art. 35(7)) filled from charter, grants and ledger, in Markdown.

    What no file knows is left as a field marked FILL IN. It is a draft for the officer, not an assessment by itself.
    """
    from hansa.cli.dpia import assessment
    from hansa.cli.instance import choose_member

    if out is not None:
        _check_free(out, force)
    text = assessment(choose_member(org, folder, instance), datetime.now(UTC))
    if out is None:
        typer.echo(text, nl=False)
        return
    _write(out, text.encode(), mode=0o644)
    typer.echo(f"{out}: {text.count('FILL IN')} fields are left to fill in")


def take_out(member: MemberFolder, job: str, path: Path) -> bytes:
    """Write the signed archive of a job, once the outbox knows of it; its bytes.

    Raises
    ------
    HansaError : a file of the organisation's is damaged, or its outbox did not take the entry
    InputError : the file cannot be written
    """
    from hansa.cli.evidence_collect import collect
    from hansa.cli.outbox_source import note_file

    content = collect(member, job, datetime.now(UTC))
    note_file(member, "evidence", path, content, job=job)
    _write(path, content, mode=0o600)
    return content


def _check_free(path: Path, force: bool) -> None:
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder; name a file")
    if path.exists() and not force:
        raise InputError(f"{path}: is there already; --force replaces it")


def _write(path: Path, content: bytes, *, mode: int) -> None:
    from hansa.contract.typed import write_atomically

    try:
        write_atomically(path, content, mode=mode)
    except OSError as error:
        raise InputError(f"--out {path}: cannot be written ({error.strerror})") from None
