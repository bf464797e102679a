"""`hansa members`: who is in the consortium, who is connected, who is held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.reach import ControlOption, InstanceOption, JsonOption, choose_job, reach
from hansa.contract.errors import InputError

if TYPE_CHECKING:
    from hansa.contract.decisions import Decision
    from hansa.server.replies import MemberState

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Members of the consortium.")

Name = Annotated[str, typer.Argument(help="The member's name in the charter.")]


@app.command("list")
def list_members(
    control: ControlOption = None, instance: InstanceOption = None, as_json: JsonOption = False
) -> None:
    """Members of the charter and what is known of each."""
    from hansa.cli.attention import absences
    from hansa.cli.listing import print_json, print_table, shown_time

    with reach(control, instance) as desk:
        members, version = desk.members(), desk.charter().version
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
    for sentence in absences(members, version):
        typer.echo(sentence)


@app.command()
def hold(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; every member of a cohort sees it.")],
    control: ControlOption = None,
    instance: InstanceOption = None,
) -> None:
    """Hold a member out of selection, from the next attempt on."""
    with reach(control, instance, "write") as desk:
        it = desk.hold(name, _given(reason))
        left = who_is_left(desk.members(), desk.charter().minimum_cohort)
    typer.echo(f"{it.name} is held out: {it.held}")
    if left:
        typer.echo(left, err=True)


@app.command()
def quarantine(
    name: Name,
    reason: Annotated[str, typer.Option(help="The evidence; every member of a cohort sees it.")],
    control: ControlOption = None,
    instance: InstanceOption = None,
) -> None:
    """Hold a member out because of what it sends, until it is released."""
    with reach(control, instance, "write") as desk:
        it = desk.hold(name, f"quarantined: {_given(reason)}")
        left = who_is_left(desk.members(), desk.charter().minimum_cohort)
    typer.echo(f"{it.name} is held out: {it.held}; let it in again with: hansa members release {it.name}")
    if left:
        typer.echo(left, err=True)


@app.command()
def audit(
    rounds: Annotated[
        int, typer.Option(min=8, max=25, help="For so many rounds, from the next one on.")
    ] = 25,
    reason: Annotated[str, typer.Option(help="Why; it stands with the job's decisions.")] = "to be sure",
    job: Annotated[
        str | None, typer.Option(help="A job's id or its beginning; default: the newest job.")
    ] = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
) -> None:
    """Look for a member that pulls against the others, where the charter has audit_groups: by sums of groups."""
    from hansa.sidecar.members import AUDIT_SENTENCE
    from hansa.strategies.audit_groups import QUARANTINED_FROM

    with reach(control, instance, "write") as desk:
        charter, found = desk.charter(), choose_job(desk, job)
        reason = _given(reason)
        if charter.audit_groups is None:
            raise InputError(
                "the charter allows no audit: it has no protection.audit_groups, the least size of a group; "
                "members sign it, a demo's stands in its scenario.toml"
            )
        if found.status in ("finished", "stopped", "failed"):
            raise InputError(f"job {found.job[:8]} is {found.status}; there is nothing to audit any more")
        first = found.round + 1
        desk.decide(
            found.job, audit_request(first, first + rounds - 1, f"the operator asks for an audit: {reason}")
        )
    typer.echo(
        f"rounds {first} to {first + rounds - 1} of job {found.job[:8]} are audited, in groups of at least "
        f"{charter.audit_groups}; what is found: hansa tuner explain --by audit\n{AUDIT_SENTENCE}"
    )
    if charter.members < QUARANTINED_FROM:
        typer.echo(
            f"of fewer than {QUARANTINED_FROM} members it holds none out: what it finds is a suggestion"
        )


def _given(reason: str) -> str:
    if not reason.strip():
        raise InputError("--reason: expected some words; they stand in the log")
    return reason


def who_is_left(members: Sequence[MemberState], minimum: int) -> str:
    """What holding a member out comes to: empty, or that too few controllers are left for a round."""
    left = {it.controller for it in members if it.held is None}
    if len(left) >= minimum:
        return ""
    return (
        f"{len(left)} of the charter's controllers are left and a round needs {minimum}: no round is run "
        "until one is released"
    )


def audit_request(first: int, last: int, sentence: str) -> Decision:
    """What asks a job's run for an audit of these rounds."""
    from hansa.contract.decisions import Decision

    return Decision(
        key=f"audit {first}",
        by="audit",
        round=max(first - 1, 0),
        sentence=sentence,
        inputs={"first": first, "last": last},
    )


@app.command()
def release(name: Name, control: ControlOption = None, instance: InstanceOption = None) -> None:
    """Let a member be selected again, from the next attempt on."""
    with reach(control, instance, "write") as desk:
        if any(it.name == name and it.held is None for it in desk.members()):
            typer.echo(f"{name} was not held out")
            return
        it = desk.let_go(name)
    typer.echo(f"{it.name} is selected again")
