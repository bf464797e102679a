"""`hansa charter`: sign, verify and show the consortium's agreement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hansa.contract.charter import Charter

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Sign, verify and show a charter.")

CharterPath = Annotated[Path, typer.Argument(metavar="CHARTER", help="charter.toml")]
SignaturesPath = Annotated[
    Path | None, typer.Option("--signatures", help="Default: charter.signatures.json beside the charter.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@app.command()
def sign(
    charter: CharterPath,
    name: Annotated[str, typer.Option(help="The member that signs.")],
    identity: Annotated[Path, typer.Option(help="Its identity.key.")],
    signatures: SignaturesPath = None,
) -> None:
    """Add one member's signature to the charter's signatures."""
    from hansa.contract.keys import SigningKey
    from hansa.contract.signatures import read_charter, sign_charter

    path = _signatures(charter, signatures)
    signed = sign_charter(charter, path, name, SigningKey.load(identity))
    members = [member.name for member in read_charter(charter)[0].members]
    open_ones = [it for it in members if it not in signed.signatures]
    waiting = f"; still to sign: {', '.join(open_ones)}" if open_ones else "; all members have signed"
    typer.echo(f"{path}: signed by '{name}'{waiting}")


@app.command()
def verify(charter: CharterPath, signatures: SignaturesPath = None, as_json: AsJson = False) -> None:
    """Check that every member has signed exactly these bytes."""
    from hansa.contract.signatures import verify_charter

    verified = verify_charter(charter, _signatures(charter, signatures))
    names = [member.name for member in verified.charter.members]
    if as_json:
        typer.echo(json.dumps({"verified": True, "hash": verified.hash, "signed_by": names}))
    else:
        typer.echo(f"{charter}: signed by all {len(names)} members: {', '.join(names)}")


@app.command()
def show(charter: CharterPath, signatures: SignaturesPath = None, as_json: AsJson = False) -> None:
    """Show what the charter says, in the words of the design."""
    from hansa.contract.errors import CharterError
    from hansa.contract.signatures import read_charter, verify_charter

    agreed, digest = read_charter(charter)
    try:
        verify_charter(charter, _signatures(charter, signatures))
        problem = None
    except CharterError as error:
        problem = str(error)
    if as_json:
        facts: dict[str, Any] = {"hash": digest, "verified": problem is None, "problem": problem}
        facts["threshold"], facts["minimum_cohort"] = agreed.threshold, agreed.minimum_cohort
        typer.echo(json.dumps({**facts, "charter": agreed.model_dump(mode="json")}))
        return
    _print(agreed, digest, problem)


def _signatures(charter: Path, given: Path | None) -> Path:
    return given or charter.with_name("charter.signatures.json")


def _print(charter: Charter, digest: str, problem: str | None) -> None:
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from hansa.contract.expiry import charter_expiry

    console = Console()
    facts = Table.grid(padding=(0, 2))
    model, rules = charter.task.model, charter.protection
    for name, value in (
        ("charter", f"{charter.name}, version {charter.version}"),
        ("hash", digest),
        ("signatures", problem or "of all members, verified"),
        ("expires", f"{charter.expires:%Y-%m-%d %H:%M %Z}"),
        ("task", charter.task.title),
        (
            "model",
            f"{model.name} from {model.distribution}, {len(charter.task.features.encoded)} model columns",
        ),
        ("label", f"{charter.task.features.label.kind}, column '{charter.task.features.label.column}'"),
        (
            "protection",
            f"{rules.mode}, t = {charter.threshold}, c = {rules.c}, cohort >= {charter.minimum_cohort}",
        ),
        ("training", f"{charter.training.mechanism}, clip {charter.training.clip:g}"),
        ("approval of jobs", charter.approval),
    ):
        facts.add_row(name, escape(value))
    console.print(facts)
    members = Table("member", "title", "sector", "controller", "records", "identity key")
    for it in charter.members:
        members.add_row(
            it.name, it.title, it.sector, it.controller, f"~{it.records}", it.identity_key[:16] + "..."
        )
    console.print(members)
    knobs = Table("knob", "default", "low", "high")
    for name, reach in sorted(charter.knobs.items()):
        knobs.add_row(name, f"{reach.default:g}", f"{reach.low:g}", f"{reach.high:g}")
    console.print(knobs)
    warning = charter_expiry(charter).warning(datetime.now(UTC))
    if warning:
        console.print(f"warning: {warning}", style="yellow")
