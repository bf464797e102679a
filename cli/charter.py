"""`hansa charter`: sign, verify and show the consortium's agreement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hansa.contract.charter import Charter
    from hansa.contract.features import Column

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

    from hansa.cli.listing import print_facts, print_table
    from hansa.contract.expiry import charter_expiry

    model, rules, features = charter.task.model, charter.protection, charter.task.features
    facts = (
        ("charter", f"{charter.name}, version {charter.version}"),
        ("hash", digest),
        ("signatures", problem or "of all members, verified"),
        ("expires", f"{charter.expires:%Y-%m-%d %H:%M %Z}"),
        ("task", charter.task.title),
        ("model", f"{model.name} from {model.distribution}, {len(features.encoded)} model columns"),
        ("label", f"{features.label.kind}, column '{features.label.column}'"),
        (
            "protection",
            f"{rules.mode}, t = {charter.threshold}, c = {rules.c}, cohort >= {charter.minimum_cohort}",
        ),
        ("training", f"{charter.training.mechanism}, clip {charter.training.clip:g}, {_weighting(charter)}"),
        ("approval of jobs", charter.approval),
    )
    # Keys are facts, not cells: whole on one line, so that they can be compared and copied.
    print_facts([*facts, *((f"key of {it.name}", it.identity_key) for it in charter.members)])
    members = ((it.name, it.title, it.sector, it.controller, f"~{it.records}") for it in charter.members)
    columns = ("member", "title", "sector", "controller", "records")
    print_table(columns, members, nothing="no members")
    print_table(
        ("column", "kind", "range"),
        ((it.name, it.kind, _range(it)) for it in features.columns),
        nothing="no columns",
    )
    knobs = (
        (name, f"{reach.default:g}", f"{reach.low:g}", f"{reach.high:g}")
        for name, reach in sorted(charter.knobs.items())
    )
    print_table(("knob", "default", "low", "high"), knobs, nothing="the charter opens no knob")
    warning = charter_expiry(charter).warning(datetime.now(UTC))
    if warning:
        typer.secho(f"warning: {warning}", fg="yellow")


def _weighting(charter: Charter) -> str:
    weighted = charter.training.weighting == "root" and charter.privacy.noise == "local"
    return "sums weighted by the root of members' sizes" if weighted else "sums weighted alike"


def _range(column: Column) -> str:
    if column.kind == "numeric":
        return f"{column.low:g} to {column.high:g}"
    return ", ".join(column.categories)
