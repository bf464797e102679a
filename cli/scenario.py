"""`hansa scenario`: the scenarios there are, and making one from CSV files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="List scenarios or make one from CSV files."
)


@app.command("list")
def list_scenarios(as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False) -> None:
    """The scenarios that come with Hansa."""
    from hansa.contract.library import scenario_folder, scenario_names
    from hansa.contract.scenario import read_scenario

    found = [(name, *read_scenario(scenario_folder(name))) for name in scenario_names()]
    if as_json:
        rows = [
            {
                "name": name,
                "title": scenario.title,
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

    table = Table("scenario", "title", "members", "model", "label", "rounds")
    for name, scenario, features in found:
        row = (str(len(scenario.members)), scenario.model.name, features.label.kind, str(scenario.job.rounds))
        table.add_row(name, scenario.title, *row)
    Console().print(table)


@app.command("from-csv")
def from_csv(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder with one CSV file for each organisation.")
    ],
    label: Annotated[str, typer.Option(help="The column to predict.")],
    out: Annotated[Path, typer.Option(help="Folder of the new scenario.")],
    entity: Annotated[str | None, typer.Option(help="Column that says who a row is about.")] = None,
    model: Annotated[str, typer.Option(help="Entry point of the model.")] = "linear",
    force: Annotated[bool, typer.Option("--force", help="Replace a scenario that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Make a scenario from CSV files: kinds and ranges are derived from the tables, and marked so."""
    from hansa.clients.data.from_csv import derive_scenario

    made = derive_scenario(source, label=label, out=out, entity=entity, model=model, overwrite=force)
    for warning in made.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    members, columns = [member.name for member in made.scenario.members], len(made.features.columns)
    if as_json:
        facts = {"scenario": str(made.folder), "members": members, "columns": columns}
        typer.echo(json.dumps({**facts, "label": made.features.label.kind, "warnings": list(made.warnings)}))
        return
    typer.echo(f"{made.folder}: {len(members)} organisations, {columns} columns, label '{label}'")
    typer.echo(f"run it with: hansa up {made.folder}")
