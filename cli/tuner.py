"""`hansa tuner`: what moves a job's hyper-parameters, what it decided and why, and how to stop it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.reach import ControlOption, InstanceOption, JobArgument, JsonOption, choose_job, reach
from hansa.contract.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from hansa.server.records import RoundRecord

# So many of the newest rounds say whether a figure rises or falls.
_TREND = 30

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Hyper-parameters: their values, decisions, pins."
)

Knobs = Annotated[list[str], typer.Argument(help="Knobs, e.g. server_rate.")]
JobOption = Annotated[str | None, typer.Option(help="A job's id or its beginning; default: the newest job.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the event log.")]


@app.command()
def show(
    job: JobArgument = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """A job's knobs: value, range, who set each, and why."""
    from hansa.cli.listing import print_json, print_table, shown_time

    with reach(control, instance) as desk:
        found = choose_job(desk, job)
        knobs = desk.knobs(found.job)
        rounds = desk.rounds(found.job, after=max(0, found.round - _TREND))
    if as_json:
        print_json(knobs)
        return
    typer.echo(f"job {found.job[:8]} ({found.name}) is {found.status}; tuning: {found.plan.tuning}")
    for line in _trends(rounds):
        typer.echo(line)
    rows = (
        (
            it.name,
            f"{it.value:.4g}" + (" pinned" if it.pinned else ""),
            f"{it.low:g} to {it.high:g}",
            it.set_by,
            shown_time(it.at),
            it.reason,
        )
        for it in knobs
    )
    print_table(
        ("knob", "value", "range", "set by", "at", "because"), rows, nothing="the charter opens no knob"
    )


def _trends(rounds: Sequence[RoundRecord]) -> list[str]:
    """Whether the figures of the newest rounds rise or fall, in words."""
    from hansa.sidecar.anomaly import Reading
    from hansa.sidecar.tuner import trend

    lines = []
    for name in ("log_loss", "rmse", "auc", "accuracy"):
        known = [(it.round, it.metrics[name]) for it in rounds if name in it.metrics]
        if len(known) > 2:
            readings = [Reading(name, number, it.value, it.error) for number, it in known]
            lines.append(f"{name} is {trend(readings).sentence}")
    return lines


@app.command()
def explain(
    job: JobArgument = None,
    last: Annotated[int, typer.Option(min=1, help="Only the newest so many.")] = 20,
    by: Annotated[
        str | None, typer.Option(help="Only those of probe, tuner, watch, recovery, members or audit.")
    ] = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """What was decided, on which figures, and why; the newest last."""
    from typing import get_args

    from hansa.cli.listing import print_json, print_table, shown_numbers, shown_time
    from hansa.contract.decisions import Decider

    if by is not None and by not in get_args(Decider):
        raise InputError(f"--by {by}: expected one of {', '.join(get_args(Decider))}")
    with reach(control, instance) as desk:
        found = choose_job(desk, job)
        decisions = [it for it in desk.decisions(found.job) if by in (None, it.by)]
    earlier, decisions = len(decisions[:-last]), decisions[-last:]
    if as_json:
        print_json(decisions)
        return
    rows = (
        (str(it.round), it.by, shown_numbers(it.knobs), it.sentence, shown_time(it.at)) for it in decisions
    )
    nothing = f"nothing was decided about job {found.job[:8]} yet"
    if earlier:
        typer.echo(f"{earlier} earlier ones are not shown; all of them: --last {earlier + last}")
    print_table(("round", "by", "set", "because", "at"), rows, nothing=nothing)


@app.command()
def pin(
    names: Knobs,
    job: JobOption = None,
    reason: ReasonOption = "",
    control: ControlOption = None,
    instance: InstanceOption = None,
) -> None:
    """Hold knobs where they are: neither probe, sidecar nor operator moves them."""
    _pin(names, True, job, reason, control, instance)


@app.command()
def unpin(
    names: Annotated[list[str] | None, typer.Argument(help="Knobs; default: all.")] = None,
    job: JobOption = None,
    reason: ReasonOption = "",
    control: ControlOption = None,
    instance: InstanceOption = None,
) -> None:
    """Let knobs be moved again; those that the job's plan pins stay."""
    _pin(names or [], False, job, reason, control, instance)


@app.command()
def off(
    job: JobOption = None,
    reason: ReasonOption = "the tuner is switched off",
    control: ControlOption = None,
    instance: InstanceOption = None,
) -> None:
    """Pin every knob: the sidecar watches and says what it sees, and changes nothing. `unpin` switches on again."""
    _pin([], True, job, reason, control, instance)


def _pin(
    names: list[str], pinned: bool, job: str | None, reason: str, control: str | None, instance: Path | None
) -> None:
    with reach(control, instance, "write") as desk:
        found = choose_job(desk, job)
        if found.status == "finished":
            raise InputError(f"job {found.job[:8]} is finished; its knobs do nothing any more")
        there = [it.name for it in desk.knobs(found.job)]
        strange = [it for it in names if it not in there]
        if strange:
            raise InputError(
                f"'{strange[0]}' is no knob of job {found.job[:8]}; its knobs are {', '.join(there) or 'none'}"
            )
        knobs = desk.pin(found.job, names, pinned, reason)
    held = [it.name for it in knobs if it.pinned]
    free = [it.name for it in knobs if not it.pinned]
    typer.echo(f"pinned: {', '.join(held) or 'none'}; may be moved: {', '.join(free) or 'none'}")
