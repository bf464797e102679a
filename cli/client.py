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
    Path | None,
    typer.Option("--instance", help="Instance folder; default: what runs under .hansa, or the newest."),
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
    from hansa.cli.attention import member_privacy
    from hansa.cli.federation import keep_running, member_specs, record_path
    from hansa.cli.instance import choose_member

    member = choose_member(org, folder, instance)
    config = member.config
    specs = member_specs(member, member.folder.resolve() / "run")
    said = f"{config.name}: agent and node run, the server is {config.server}; Ctrl-C stops"
    if privacy := member_privacy(member):
        said = f"{privacy}\n{said}"
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
    from hansa.cli.attention import member_privacy, member_warnings
    from hansa.cli.instance import choose_member

    member = choose_member(org, folder, instance)
    answer = ask_agent(member)
    warnings = member_warnings(member)
    if answer is not None and not answer["isolated"]:
        warnings.append("agent not isolated: it can reach a network")
    if as_json:
        said: dict[str, Any] = {"member": member.config.name, "running": answer is not None, "agent": answer}
        typer.echo(json.dumps({**said, "privacy": member_privacy(member), "warnings": warnings}))
        return
    from hansa.cli.listing import print_facts

    facts = [("member", member.config.name), ("server", member.config.server)]
    print_facts([*facts, *_agent_facts(answer), ("privacy", member_privacy(member))])
    for warning in warnings:
        typer.secho(f"warning: {warning}", fg="yellow")


def _agent_facts(answer: dict[str, Any] | None) -> list[tuple[str, str]]:
    from datetime import UTC, datetime

    from hansa.cli.listing import shown_time

    if answer is None:
        return [("agent", "does not run")]
    expires = datetime.fromisoformat(answer["expires"])
    return [
        ("agent", f"runs since {shown_time(datetime.fromtimestamp(answer['started'], UTC))}"),
        ("isolated", {True: "yes", False: "no"}.get(answer["isolated"], "?")),
        ("charter", f"{answer['charter']}, version {answer['charter_version']}"),
        ("hash", answer["charter_hash"]),
        ("expires", f"{expires:%Y-%m-%d %H:%M %Z}"),
        ("mode", answer["mode"]),
        *_start_facts(answer),
        *((("ledger", answer["missing"]),) if answer.get("missing") else ()),
        *(("job", f"{it['job']} {it['state']}") for it in answer["jobs"]),
    ]


def _start_facts(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """Who signed the agent's start; nothing in mode `clear` without noise, where nobody has to."""
    if answer["witnessed"] is None:
        return []
    signed = f"{answer['witnesses']} members signed this start, {answer['witnesses_needed']} must"
    return [("witnessed", f"{'yes' if answer['witnessed'] else 'not yet'}: {signed}")]
