"""`hansa charter`: sign, verify and show the consortium's agreement."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hansa.contract.charter import Charter
    from hansa.contract.features import Column

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Sign, verify, show and change a charter.")

CharterPath = Annotated[Path, typer.Argument(metavar="CHARTER", help="charter.toml")]
SignaturesPath = Annotated[
    Path | None, typer.Option("--signatures", help="Default: CHARTER with .signatures.json for .toml.")
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
def amend(
    charter: CharterPath,
    out: Annotated[
        Path | None, typer.Option(help="Where the next version goes; default charter.next.toml beside it.")
    ] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Entries of new members, as `provision member` prints them."),
    ] = None,
    replace: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Entries of members with other keys, as `provision rotate` prints them."
        ),
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A member that leaves.")] = None,
    expires: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="When the next version runs out, UTC."),
    ] = None,
    operator: Annotated[
        str | None, typer.Option(metavar="KEY", help="Another operator's public key, base64.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="E.g. protection.minimum_cohort=4."),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="Take an optional field out.")
    ] = None,
    model_here: Annotated[
        bool, typer.Option("--model-here", help="Pin the model's code as it is installed here.")
    ] = False,
    signatures: SignaturesPath = None,
) -> None:
    """Write the charter's next version, with these changes and nothing else; nobody has signed it yet."""
    from datetime import UTC

    from hansa.cli.overrides import parsed_setting
    from hansa.contract.amendment import Amendment, amend, read_entries
    from hansa.contract.charter import MOST_BYTES
    from hansa.contract.errors import InputError
    from hansa.contract.signatures import read_charter, verify_charter
    from hansa.contract.typed import read_file, write_atomically

    out = out or charter.with_name(f"{charter.stem}.next.toml")
    if _is_there(out):
        raise InputError(f"{out}: is there already; name another place with --out, or remove it")
    before = verify_charter(charter, _signatures(charter, signatures)).charter
    given: list[tuple[str, Any]] = [parsed_setting(it) for it in settings or []]
    if model_here:
        from hansa.models.registry import distribution_hash

        field = "task.model.distribution_hash"
        given.append((field, distribution_hash(before.task.model.distribution)))
    amendment = Amendment(
        add=tuple(entry for path in add or [] for entry in read_entries(path)),
        replace=tuple(entry for path in replace or [] for entry in read_entries(path)),
        remove=tuple(remove or ()),
        expires=expires and expires.replace(tzinfo=expires.tzinfo or UTC),
        operator_key=operator,
        settings=(*given, *((field, None) for field in unset or [])),
    )
    content = amend(read_file(charter, limit=MOST_BYTES), amendment, charter)
    try:
        write_atomically(out, content)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror})") from None
    _print_differences(before, read_charter(out)[0], "")
    typer.echo(
        f"{out}: not signed yet; each member reads it and signs: hansa charter sign {out} --name NAME --identity FILE"
    )


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="The version in force.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The next one.")],
    as_json: AsJson = False,
) -> None:
    """Say what a version changes, and what protects a member less by it."""
    from hansa.contract.amendment import check_follows
    from hansa.contract.differences import differences
    from hansa.contract.signatures import read_charter

    old, digest = read_charter(before)
    new, new_digest = read_charter(after)
    if as_json:
        found = [vars(it) for it in differences(old, new)]
        typer.echo(json.dumps({"before": digest, "after": new_digest, "differences": found}))
    else:
        _print_differences(
            old, new, "nothing differs" if digest == new_digest else "the texts differ, no field does"
        )
    if digest != new_digest:
        check_follows(old, digest, new)


@app.command()
def install(
    charter: CharterPath,
    folders: Annotated[
        list[Path] | None,
        typer.Option("--folder", help="A member's folder, the server's or control's; may be said again."),
    ] = None,
    instance: Annotated[
        Path | None, typer.Option(help="All folders of an instance that does not run.")
    ] = None,
    signatures: SignaturesPath = None,
    superseded: Annotated[
        bool,
        typer.Option("--superseded", help="Also one that ran out, on the way to a version that follows it."),
    ] = False,
) -> None:
    """Put a charter that all have signed into folders, with the keys that wait there for it."""
    from hansa.cli.charter_install import install_into, install_into_instance, model_warning
    from hansa.cli.instance import find_instance
    from hansa.contract.errors import InputError

    if (instance is None) == (not folders):
        raise InputError("name --instance, or one --folder or more")
    signed = _signatures(charter, signatures)
    if instance is not None:
        done = install_into_instance(find_instance(instance), charter, signed, superseded=superseded)
    else:
        done = install_into(folders or [], charter, signed, superseded=superseded)
    for sentence in done.sentences:
        typer.echo(sentence)
    if done.new:
        typer.echo("what runs there goes on under the version before until it is restarted")
    if warning := model_warning(charter):
        typer.secho(f"warning: {warning}", fg="yellow", err=True)


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


def _is_there(path: Path) -> bool:
    from hansa.contract.errors import InputError

    try:
        return path.exists()
    except OSError as error:
        raise InputError(f"--out {path}: cannot be written ({error.strerror})") from None


def _signatures(charter: Path, given: Path | None) -> Path:
    return given or charter.with_name(f"{charter.stem}.signatures.json")


def _print_differences(before: Charter, after: Charter, nothing: str) -> None:
    from hansa.contract.differences import differences
    from hansa.contract.visible import visible

    found = differences(before, after)
    numbered = f"version {after.version} against version {before.version}"
    if not found:
        typer.echo(nothing if after.version == before.version else f"{numbered}: no other field differs")
        return
    typer.echo(f"{numbered}:")
    for it in found:
        typer.echo(f"  {visible(it.sentence)}")
        if it.weaker:
            typer.secho(f"    protects less, or gives more: {visible(it.weaker)}", fg="yellow")
        elif not it.judged:
            typer.echo("    not judged")
    # Last, so that however much there is above it is seen.
    weaker, open_ones = sum(bool(it.weaker) for it in found), sum(not it.judged for it in found)
    counted = f"differences: {len(found)}; that protect less, or give more: {weaker}"
    said = f"{counted}; not judged here, so yours to judge: {open_ones}"
    typer.secho(said, fg="yellow" if weaker else None)


def _print(charter: Charter, digest: str, problem: str | None) -> None:
    from datetime import UTC

    from hansa.cli.listing import print_facts, print_table
    from hansa.contract.expiry import charter_expiry
    from hansa.contract.visible import visible

    model, rules, features = charter.task.model, charter.protection, charter.task.features
    facts = (
        ("charter", f"{charter.name}, version {charter.version}"),
        ("hash", digest),
        ("signatures", visible(problem or "of all members, verified")),
        ("expires", f"{charter.expires:%Y-%m-%d %H:%M %Z}"),
        ("task", visible(charter.task.title)),
        ("model", f"{model.name} from {visible(model.distribution)}, {len(features.encoded)} model columns"),
        ("label", f"{features.label.kind}, column '{visible(features.label.column)}'"),
        (
            "protection",
            f"{rules.mode}, t = {charter.threshold}, c = {rules.c}, cohort >= {charter.minimum_cohort}",
        ),
        ("training", f"{charter.training.mechanism}, clip {charter.training.clip:g}, {_weighting(charter)}"),
        ("noise", _noise(charter)),
        (
            "charges",
            f"at most {charter.privacy.charges_per_day} a day, {charter.privacy.charges_per_job} a job",
        ),
        ("approval of jobs", charter.approval),
        ("operator's key", charter.operator_key),
    )
    # Keys are facts, not cells: whole on one line, so that they can be compared and copied.
    print_facts([*facts, *((f"key of {it.name}", it.identity_key) for it in charter.members)])
    members = (
        (it.name, visible(it.title), visible(it.sector), visible(it.controller), f"~{it.records}")
        for it in charter.members
    )
    columns = ("member", "title", "sector", "controller", "records")
    print_table(columns, members, nothing="no members")
    print_table(
        ("column", "kind", "range"),
        ((visible(it.name), it.kind, visible(_range(it))) for it in features.columns),
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


def _noise(charter: Charter) -> str:
    from hansa.contract.visible import visible

    privacy = charter.privacy
    if privacy.noise == "none":
        return "none: nothing bounds what the model says of a single record"
    shared = f", which holds while at most {privacy.s} collude" if privacy.s is not None else ""
    unit = charter.task.features.entity
    whose = f"per '{visible(unit)}'" if unit is not None else "per record"
    return (
        f"{privacy.noise}{shared}, {whose}; delta of a grant at most {privacy.delta:g}, a job's share over at least "
        f"{privacy.fewest_rounds} rounds"
    )


def _weighting(charter: Charter) -> str:
    weighted = charter.training.weighting == "root" and charter.privacy.noise == "local"
    return "sums weighted by the root of members' sizes" if weighted else "sums weighted alike"


def _range(column: Column) -> str:
    if column.kind == "numeric":
        return f"{column.low:g} to {column.high:g}"
    return ", ".join(column.categories)
