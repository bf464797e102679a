"""`hansa data`: an organisation's records against the feature contract, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.forgetting import forget
from hansa.contract.errors import DataError, InputError

if TYPE_CHECKING:
    from hansa.clients.data.check import DataReport
    from hansa.contract.features import FeatureContract
    from hansa.contract.sources import Source

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="An organisation's records: check them, forget somebody."
)


@app.callback()
def data() -> None:
    """An organisation's records: check them against the feature contract, forget somebody."""


@app.command()
def check(
    org: Annotated[str | None, typer.Option("--org", help="The organisation's name in the charter.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Its folder, with member.toml and charter.toml.")
    ] = None,
    instance: Annotated[
        Path | None, typer.Option(help="Instance folder; default: what runs under .hansa, or the newest.")
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(help="A scenario, before there is a charter: its contract and its --org's records."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say, column by column, where an organisation's records depart from the contract. Exits 2 where they do."""
    from hansa.clients.data.check import check_table
    from hansa.clients.data.sources import origin, read_source

    source, start, features = _what(org, folder, instance, scenario)
    report = check_table(read_source(source, start), features, origin(source, start))
    if as_json:
        typer.echo(report.model_dump_json())
    else:
        _print(report)
    if report.errors:
        more = len(report.errors) - 1
        raise DataError(report.errors[0] + (f"; and {more} more" if more else ""))


@app.command()
def describe(
    scenario: Annotated[
        str | None, typer.Argument(help="A scenario's name or folder.", show_default=False)
    ] = None,
    org: Annotated[str | None, typer.Option("--org", help="In place of a scenario: an organisation.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Its folder, with member.toml and charter.toml.")
    ] = None,
    instance: Annotated[
        Path | None, typer.Option(help="Instance folder; default: what runs under .hansa, or the newest.")
    ] = None,
    synthetic: Annotated[
        int | None,
        typer.Option(min=1, max=10_000_000, metavar="N", help="Write so many made-up rows to --out."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A file that ends in .csv or .parquet.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the made-up rows.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: the contract.")] = False,
) -> None:
    """Show a feature contract: columns, ranges, categories, label. Reads nobody's records.

    With --synthetic rows that fit it instead, made of the contract alone, to debug on: nothing can be learnt from them.
    """
    features = _contract(scenario, org, folder, instance)
    if (synthetic is None) != (out is None):
        raise InputError("--synthetic and --out belong together, e.g. --synthetic 1000 --out rows.csv")
    if synthetic is not None and out is not None:
        _write_rows(features, synthetic, seed, out, force=force)
        if not as_json:
            return
    if as_json:
        typer.echo(features.model_dump_json())
    else:
        _print_contract(features)


def _contract(
    scenario: str | None, org: str | None, folder: Path | None, instance: Path | None
) -> FeatureContract:
    if scenario is not None:
        from hansa.contract.library import scenario_folder
        from hansa.contract.scenario import read_scenario

        return read_scenario(scenario_folder(scenario))[1]
    from hansa.cli.instance import choose_member, find_instance
    from hansa.contract.charter import Charter
    from hansa.contract.signatures import read_charter
    from hansa.contract.typed import read_toml

    if org is None and folder is None:
        return read_toml(find_instance(instance).charter, Charter).task.features
    member = choose_member(org, folder, instance)
    return read_charter(member.folder / member.config.charter)[0].task.features


def _print_contract(features: FeatureContract) -> None:
    from hansa.cli.listing import print_table
    from hansa.contract.features import NumericColumn

    rows: list[tuple[str, ...]] = [
        (
            it.name,
            it.kind,
            f"{it.low:g} to {it.high:g}" + (", by its logarithm" if it.log else "")
            if isinstance(it, NumericColumn)
            else ", ".join(it.categories),
            "" if it.missing is None else f"{it.missing:g}" if isinstance(it.missing, float) else it.missing,
            "optional" if it.optional else "",
        )
        for it in features.columns
    ]
    label = features.label.model_dump(exclude={"kind", "column"})
    shown = ", ".join(f"{name} {value}" for name, value in label.items())
    rows.append((features.label.column, f"label, {features.label.kind}", shown, "", ""))
    if features.entity is not None:
        rows.append((features.entity, "entity", "whom a row belongs to", "", ""))
    print_table(("column", "kind", "values", "absent counts as", "note"), rows, nothing="no column")
    typer.echo(
        f"{len(features.encoded)} model columns; hold-out {features.holdout:g}; contract {features.digest}"
    )


def _write_rows(features: FeatureContract, rows: int, seed: int, out: Path, *, force: bool) -> None:
    import io

    from hansa.clients.data.synthetic import synthetic_rows
    from hansa.contract.typed import write_atomically

    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"--out {out}: give a name that ends in .csv or .parquet")
    if out.exists() and not force:
        raise InputError(f"{out}: is there already; --force replaces it")
    table, content = synthetic_rows(features, rows, seed), io.BytesIO()
    table.write_csv(content) if out.suffix == ".csv" else table.write_parquet(content)
    try:
        write_atomically(out, content.getvalue())
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror})") from None
    typer.echo(f"{out}: {rows} made-up rows, seed {seed}; nothing can be learnt from them", err=True)


app.command()(forget)


def _what(
    org: str | None, folder: Path | None, instance: Path | None, scenario: str | None
) -> tuple[Source, Path, FeatureContract]:
    """The records to look at, where their relative path starts, and the contract."""
    if scenario is not None:
        from hansa.contract.library import scenario_folder
        from hansa.contract.scenario import read_scenario

        where = scenario_folder(scenario)
        described, features = read_scenario(where)
        found = {member.name: member.data for member in described.members}
        if org not in found:
            raise InputError(f"--org: no organisation '{org}' in {where}; expected one of {', '.join(found)}")
        return found[org], where, features
    from hansa.cli.instance import choose_member
    from hansa.contract.signatures import read_charter

    member = choose_member(org, folder, instance)
    charter, _ = read_charter(member.folder / member.config.charter)
    return member.config.data, member.folder, charter.task.features


def _print(report: DataReport) -> None:
    from hansa.cli.listing import print_table

    typer.echo(f"{report.origin}: {report.rows} rows")
    rows = (
        (
            it.name,
            it.kind if it.role == "feature" else f"{it.role}, {it.kind}",
            f"{it.missing:.1%}" if it.missing else "",
            f"{it.clipped:.1%}" if it.clipped_rows else "",
            f"{it.spread[0]:.4g} to {it.spread[1]:.4g}" if it.spread else "",
        )
        for it in report.columns
    )
    columns = ("column", "kind", "missing", "clipped", "1-99 % range")
    print_table(columns, rows, nothing="the contract names no column")
    # Sentences would be squeezed into what the other columns leave.
    for it in report.columns:
        for finding in it.findings:
            typer.echo(f"{finding.level}: column '{it.name}'{finding.sentence}")
    if report.extra:
        typer.echo(f"not used: {', '.join(report.extra)}")
