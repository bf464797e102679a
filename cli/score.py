"""`hansa score`: an organisation's own predictions with the trained model, inside the organisation."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hansa.contract.errors import InputError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Predictions with the trained model, at an organisation."
)

Org = Annotated[str | None, typer.Option("--org", help="The organisation's name in the charter.")]
Folder = Annotated[Path | None, typer.Option("--folder", help="Its folder, with member.toml and its model.")]
InstancePath = Annotated[
    Path | None,
    typer.Option("--instance", help="Instance folder; default: what runs under .hansa, or the newest."),
]


@app.callback()
def score() -> None:
    """Predictions with the trained model, at an organisation."""


@app.command()
def publish(
    job: Annotated[
        str | None, typer.Argument(help="The job's id or its beginning; default: the newest.")
    ] = None,
    federated: Annotated[
        bool, typer.Option("--federated", help="Without the organisation's own version.")
    ] = False,
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="SHIFT,SLOPE",
            help="Of the federated model's log-odds: the job's figures platt_shift and platt_slope.",
        ),
    ] = None,
    org: Org = None,
    folder: Folder = None,
    instance: InstancePath = None,
) -> None:
    """Put a finished job's model where `serve` takes it from. A service that runs takes it up within a second."""
    from hansa.cli.instance import choose_member
    from hansa.cli.outbox_source import note_file
    from hansa.cli.personal_export import kept_model
    from hansa.clients.scoring.model_file import SERVED, calibrated, model_bytes, parse_model, write_model

    member = choose_member(org, folder, instance)
    # The organisation's own version is calibrated on its own records already.
    facts, tensors = kept_model(member, job, federated=federated or calibration is not None)
    if calibration is not None:
        facts, tensors = calibrated(facts, tensors, _two_numbers(calibration))
    content = model_bytes(facts, tensors)
    path = member.folder / SERVED
    note_file(member, "served-model", path, content, job=facts.job)
    write_model(path, content)
    own = f"its own version ({facts.personal})" if facts.personal else "without an own version"
    if calibration is not None:
        own = f"calibrated by {calibration}"
    typer.echo(
        f"{path}: model {parse_model(content, path).digest[:12]} of job {facts.job[:8]} at {facts.member}, {own}\n"
        f"serve it with: hansa score serve --folder {member.folder}"
    )


def _two_numbers(text: str) -> tuple[float, float]:
    import math

    try:
        shift, slope = (float(it) for it in text.split(","))
    except ValueError:
        shift = slope = math.nan
    if not math.isfinite(shift) or not math.isfinite(slope) or slope <= 0:
        raise InputError(
            f"--calibration {text}: expected two numbers, a positive slope second, e.g. -0.1,0.9"
        )
    return shift, slope


@app.command()
def serve(
    org: Org = None,
    folder: Folder = None,
    instance: InstancePath = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but loopback asks for a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 9490,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the port.")] = 1,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that callers bear; default: scoring/token, made if need be."),
    ] = None,
    drain: Annotated[
        float, typer.Option(min=0.0, help="Seconds in which callers notice that the service ends.")
    ] = 5.0,
    ready_file: Annotated[Path | None, typer.Option(help="Written once it serves; says where.")] = None,
) -> None:
    """Answer online and batch predictions over HTTP until Ctrl-C."""
    from hansa.cli.instance import choose_member
    from hansa.clients.scoring.model_file import SERVED, TOKEN

    member = choose_member(org, folder, instance)
    if not (member.folder / SERVED).exists():
        raise InputError(f"{member.config.name}: {_what_to_run(member.folder)}")
    if token_file is None:
        token_file = member.folder / TOKEN
        _make_token(token_file)
    typer.echo(
        f"{member.config.name}: http://{host}:{port or 'PORT'}/v1/score, the token is in {token_file}; Ctrl-C stops"
    )
    argv = ["--folder", str(member.folder), "--host", host, "--port", str(port), "--workers", str(workers)]
    argv += ["--token-file", str(token_file), "--drain", str(drain)]
    argv += ["--ready-file", str(ready_file)] if ready_file else []
    sys.stdout.flush()
    # It is small because it is nothing but itself.
    os.execv(sys.executable, [sys.executable, "-P", "-u", "-m", "hansa.clients.scoring", *argv])


def _what_to_run(folder: Path) -> str:
    if not any(folder.glob("model-*.npz")):
        return f"no finished job left a model in {folder} yet; train one, e.g. with: hansa up"
    return f"no model is published for scoring; run: hansa score publish --folder {folder}"


def _make_token(path: Path) -> None:
    """A new token in a file of the owner's alone, unless there is one."""
    import secrets

    from hansa.contract.typed import write_atomically

    if not path.exists():
        write_atomically(path, secrets.token_hex(16).encode() + b"\n", mode=0o600)
