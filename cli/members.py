"""`hansa members`: who is in the consortium, who is connected, who is held out."""

from __future__ import annotations

from typing import Annotated

import typer

from hansa.cli.reach import ControlOption, InstanceOption, JsonOption, reach

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Members of the consortium.")

Name = Annotated[str, typer.Argument(help="The member's name in the charter.")]


@app.command("list")
def list_members(
    control: ControlOption = None, instance: InstanceOption = None, as_json: JsonOption = False
) -> None:
    """Members of the charter and what is known of each."""
    from hansa.cli.listing import print_json, print_table, shown_time

    with reach(control, instance) as desk:
        members = desk.members()
    if as_json:
        print_json(members)
        return
    known = {True: "yes", False: "no", None: "?"}
    rows = (
        (
            it.name,
            it.title,
            it.sector,
            known[it.present],
            known[it.isolated],
            shown_time(it.seen),
            it.held or "",
        )
        for it in members
    )
    columns = ("member", "title", "sector", "here", "isolated", "seen", "held out because")
    print_table(columns, rows, nothing="the charter has no members")


@app.command()
def hold(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; every member of a cohort sees it.")],
    control: ControlOption = None,
    instance: InstanceOption = None,
) -> None:
    """Hold a member out of selection, from the next attempt on."""
    with reach(control, instance, "write") as desk:
        it = desk.hold(name, reason)
    typer.echo(f"{it.name} is held out: {it.held}")


@app.command()
def quarantine(
    name: Name,
    reason: Annotated[str, typer.Option(help="The evidence; every member of a cohort sees it.")],
    control: ControlOption = None,
    instance: InstanceOption = None,
) -> None:
    """Hold a member out because of what it sends, until it is released."""
    with reach(control, instance, "write") as desk:
        it = desk.hold(name, f"quarantined: {reason}")
    typer.echo(f"{it.name} is held out: {it.held}; let it in again with: hansa members release {it.name}")


@app.command()
def release(name: Name, control: ControlOption = None, instance: InstanceOption = None) -> None:
    """Let a member be selected again, from the next attempt on."""
    with reach(control, instance, "write") as desk:
        it = desk.let_go(name)
    typer.echo(f"{it.name} is selected again")
