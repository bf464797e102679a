"""`hansa client`: one organisation's node and agent, and nothing of anybody else's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="One organisation's node and agent.")

Org = Annotated[str | None, typer.Option("--org", help="The organisation's name in the charter.")]
Folder = Annotated[Path | None, typer.Option("--folder", help="Its folder, with member.toml and its keys.")]
InstancePath = Annotated[
    Path | None, typer.Option("--instance", help="Instance folder; default: the newest under .hansa.")
]


@app.command()
def start(
    org: Org = None,
    folder: Folder = None,
    instance: InstancePath = None,
    logs: Annotated[
        Path | None, typer.Option(help="Folder for logs; default: here, on this terminal.")
    ] = None,
) -> None:
    """Run one organisation's agent and node until Ctrl-C, and start again what dies."""
    from hansa.cli.federation import keep_running, member_specs, record_path
    from hansa.cli.instance import choose_member

    member = choose_member(org, folder, instance)
    config = member.config
    specs = member_specs(member, member.folder.resolve() / "run")
    said = f"{config.name}: agent and node run, the server is {config.server}; Ctrl-C stops"
    record = record_path(member.folder, "client")
    raise SystemExit(keep_running(record, f"'{config.name}'", specs, logs=logs, said=said))


@app.command()
def status(
    org: Org = None,
    folder: Folder = None,
    instance: InstancePath = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """What this organisation's own agent says: its charter, its jobs, whether it is cut off the network."""
    from hansa.cli.agent_client import ask_agent
    from hansa.cli.attention import member_warnings
    from hansa.cli.instance import choose_member

    member = choose_member(org, folder, instance)
    answer = ask_agent(member)
    warnings = member_warnings(member)
    if answer is not None and not answer["isolated"]:
        warnings.append("agent not isolated: it can reach a network")
    if as_json:
        facts: dict[str, Any] = {"member": member.config.name, "running": answer is not None, "agent": answer}
        typer.echo(json.dumps({**facts, "warnings": warnings}))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table.grid(padding=(0, 2))
    facts = {"member": member.config.name, "server": member.config.server, "agent": "does not run"}
    if answer is not None:
        facts["agent"] = "runs"
        facts |= {name: str(value) for name, value in answer.items() if name not in ("ok", "member", "agent")}
    for name, value in facts.items():
        table.add_row(name, escape(str(value)))
    console.print(table)
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
