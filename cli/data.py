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
        Path | None, typer.Option(help="Instance folder; default: the newest under .hansa.")
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
