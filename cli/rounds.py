"""`hansa rounds`: what each round of a job did, and a live view of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.reach import ControlOption, InstanceOption, JobArgument, JsonOption, choose_job, reach
from hansa.contract.errors import HansaError, InputError

if TYPE_CHECKING:
    from hansa.cli.follow import Followed

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Rounds of a job.")


@app.command("list")
def list_rounds(
    job: JobArgument = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only the newest so many.")] = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Applied rounds with the released figures of their models, the newest last."""
    from hansa.cli.listing import print_json
    from hansa.cli.results import RoundLine, rounds_table

    with reach(control, instance) as desk:
        found = choose_job(desk, job)
        rounds = desk.rounds(found.job, after=max(0, found.round - last) if last else 0)
    if as_json:
        print_json(rounds)
        return
    if not rounds:
        typer.echo(f"job {found.job[:8]} is {found.status}; it has no round yet")
        return
    from rich.console import Console

    lines = [RoundLine(it.round, it.seconds, it.active, it.metrics) for it in rounds]
    console = Console()
    console.print(rounds_table(lines, width=console.width))


@app.command()
def show(
    number: Annotated[int, typer.Argument(min=1, help="The round's number.")],
    job: Annotated[
        str | None,
        typer.Option(help="A job's id or its beginning; default: the one that runs, else the newest."),
    ] = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """One round: who took part, how long it took, what came of it."""
    from hansa.cli.listing import print_facts, print_json, print_table, shown_numbers, shown_time
    from hansa.cli.results import shown_metric

    with reach(control, instance) as desk:
        found = choose_job(desk, job)
        rounds = [it for it in desk.rounds(found.job, after=number - 1) if it.round == number]
    if not rounds:
        raise InputError(f"job {found.job[:8]} has no round {number}; it is at round {found.round}")
    [it] = rounds
    if as_json:
        print_json(it)
        return
    print_facts(
        (
            ("job", f"{found.job} ({found.name})"),
            (
                "round",
                f"{it.round} of {found.plan.rounds}, attempt {it.attempt}, from the model of round {it.base}",
            ),
            ("applied", f"{shown_time(it.applied)}, after {it.seconds:.2f} s"),
            ("knobs", shown_numbers(it.knobs)),
            ("figures", ", ".join(f"{name} {shown_metric(value)}" for name, value in it.metrics.items())),
            ("left out", "; ".join(f"{name}: {why}" for name, why in it.left_out.items())),
        )
    )
    rows = (
        (
            part.member,
            part.outcome,
            f"{part.seconds:.2f}",
            f"{part.bytes_up:,}",
            f"{part.bytes_down:,}",
            part.sentence,
        )
        for part in it.participation
    )
    columns = ("member", "outcome", "seconds", "bytes up", "bytes down", "reason")
    print_table(columns, rows, nothing="nobody took part")


@app.command()
def watch(
    job: JobArgument = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line for each round as it comes.")
    ] = False,
) -> None:
    """Follow a job until it is over: exit code 0 where it finished."""
    from hansa.cli.follow import follow
    from hansa.cli.interrupts import Interruption

    with Interruption() as interruption, reach(control, instance) as desk:
        from rich.console import Console

        from hansa.cli.progress import progress_on
        from hansa.cli.results import rounds_table

        found = choose_job(desk, job)
        titles = {it.name: it.title for it in desk.members()}
        console = Console()
        if as_json:
            followed = follow(desk, found, wait=interruption.wait, seen=_RoundPrinter().seen)
        else:
            with progress_on(console, f"{found.name} {found.job[:8]}", titles) as progress:
                followed = follow(desk, found, wait=interruption.wait, seen=progress.seen)
            if followed.lines and console.is_terminal and not as_json:
                console.print(rounds_table(followed.lines, width=console.width, last=10))
        if not followed.over:
            raise SystemExit(interruption.exit_code)
    if followed.job.status != "finished":
        raise HansaError(
            f"job {found.job[:8]} is {followed.job.status}: {followed.job.reason or 'see its events'}"
        )
    print(f"job {found.job[:8]} finished at round {followed.job.round}", file=sys.stderr)


class _RoundPrinter:
    """One JSON line a round, once its figures are known or nothing more will come."""

    def __init__(self) -> None:
        self._printed = 0

    def seen(self, followed: Followed) -> None:
        """Print what is complete."""
        from hansa.cli.listing import print_json

        self._printed = min(self._printed, followed.job.round)
        for number, record in sorted(followed.rounds.items()):
            complete = record.metrics or followed.over or number < max(followed.rounds)
            if number > self._printed and complete:
                self._printed = number
                print_json(record)
