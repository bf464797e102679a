"""`hansa scenario`: the scenarios there are, and making one from CSV files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hansa.clients.data.from_csv import DerivedScenario

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="List scenarios or make one from CSV files."
)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a scenario that is there.")]


@app.command("list")
def list_scenarios(
    public: Annotated[
        bool, typer.Option("--public", help="Public tables that `from-public` makes scenarios of.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """The scenarios that come with Hansa, by industry."""
    if public:
        _list_public(as_json)
        return
    from hansa.contract.library import scenario_folder, scenario_names
    from hansa.contract.scenario import read_scenario

    found = [(name, *read_scenario(scenario_folder(name))) for name in scenario_names()]
    if as_json:
        rows = [
            {
                "name": name,
                "title": scenario.title,
                "industry": scenario.industry,
                "task": scenario.task,
                "members": [member.name for member in scenario.members],
                "model": scenario.model.name,
                "label": features.label.kind,
                "rounds": scenario.job.rounds,
            }
            for name, scenario, features in found
        ]
        typer.echo(json.dumps(rows))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    # What is typed is shown whole, however narrow the terminal.
    for heading in ("industry", "scenario", "members", "label"):
        table.add_column(heading, no_wrap=True)
    table.add_column("task")
    for name, scenario, features in sorted(found, key=lambda it: (it[1].industry, it[0])):
        row = (name, str(len(scenario.members)), features.label.kind, scenario.task)
        table.add_row(scenario.industry, *row)
    Console().print(table)


def _list_public(as_json: bool) -> None:
    from hansa.clients.data.public import TABLES

    if as_json:
        facts = ("title", "industry", "task", "url", "licence")
        rows = [{"name": name, **{it: getattr(table, it) for it in facts}} for name, table in TABLES.items()]
        typer.echo(json.dumps(rows))
        return
    for name, table in TABLES.items():
        typer.echo(f"{name}: {table.title}; {table.task}")
        typer.echo(f"    {', '.join(table.files)} from {table.url} ({table.licence})")


@app.command("from-csv")
def from_csv(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder with one CSV file for each organisation.")
    ],
    label: Annotated[str, typer.Option(help="The column to predict.")],
    out: Annotated[Path, typer.Option(help="Folder of the new scenario.")],
    entity: Annotated[str | None, typer.Option(help="Column that says who a row is about.")] = None,
    model: Annotated[str, typer.Option(help="Entry point of the model.")] = "linear",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make a scenario from CSV files: kinds and ranges are derived from the tables, and marked so."""
    from hansa.clients.data.from_csv import derive_scenario

    _say(derive_scenario(source, label=label, out=out, entity=entity, model=model, overwrite=force), as_json)


@app.command("from-public")
def from_public(
    name: Annotated[str, typer.Argument(help="A table of `list --public`.")],
    source: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with its files, as downloaded.")],
    out: Annotated[Path, typer.Option(help="Folder of the new scenario.")],
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make a scenario of a public table that you downloaded: split into organisations, contract derived."""
    from hansa.clients.data.public import scenario_from_public

    _say(scenario_from_public(name, source, out, overwrite=force), as_json)


def _say(made: DerivedScenario, as_json: bool) -> None:
    for warning in made.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    members, columns = [member.name for member in made.scenario.members], len(made.features.columns)
    if as_json:
        facts = {"scenario": str(made.folder), "members": members, "columns": columns}
        typer.echo(json.dumps({**facts, "label": made.features.label.kind, "warnings": list(made.warnings)}))
        return
    label = made.features.label.column
    typer.echo(f"{made.folder}: {len(members)} organisations, {columns} columns, label '{label}'")
    typer.echo(f"run it with: hansa up {made.folder}")
