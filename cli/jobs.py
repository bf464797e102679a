"""`hansa jobs`: submit, follow, pause, resume, stop, roll back and export jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.reach import (
    ControlOption,
    InstanceOption,
    JobArgument,
    JsonOption,
    OnlyJobArgument,
    PausedJobArgument,
    ResumedJobArgument,
    choose_job,
    only_job,
    reach,
)
from hansa.contract.errors import HansaError, InputError

if TYPE_CHECKING:
    from hansa.cli.control_client import Control
    from hansa.server.records import JobRecord

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Submit, follow, stop, resume and export jobs."
)

Setting = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="E.g. rounds=10, rule=fedavg.")
]


@app.command()
def submit(
    name: Annotated[str | None, typer.Option(help="The job's name; default: the instance's.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds, instead of the job's own.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="TOML with the job; default: the instance's job.toml.")
    ] = None,
    settings: Setting = None,
    pins: Annotated[
        list[str] | None, typer.Option("--pin", metavar="KNOB=VALUE", help="A knob that nobody may move.")
    ] = None,
    if_none: Annotated[
        bool, typer.Option("--if-none", help="Do nothing where control has a job already.")
    ] = False,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Start from a model that 'hansa jobs export' wrote, not from the seed's weights.",
        ),
    ] = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a job; it starts when the members it needs are there."""
    from hansa.cli.jobs_plan import plan_of
    from hansa.cli.jobs_shown import say_job

    changes = [*(settings or []), *([f"rounds={rounds}"] if rounds else [])]
    # A control elsewhere says nothing of a scenario's job, unless its instance is named too.
    remote = control is not None and instance is None
    plan = plan_of(name, file, changes, pins or [], instance, remote=remote)
    with reach(control, instance, "write") as desk:
        known = desk.jobs() if if_none else []
        if not known and start is not None:
            from hansa.cli.starting import read_start, submit_from

            begun, sentence = submit_from(desk, plan, read_start(start))
            say_job(begun, as_json=as_json)
            if not as_json:
                typer.echo(sentence)
            return
        say_job(known[-1] if known else desk.submit(plan), as_json=as_json)


@app.command("list")
def list_jobs(
    control: ControlOption = None, instance: InstanceOption = None, as_json: JsonOption = False
) -> None:
    """All jobs, the newest last."""
    from hansa.cli.jobs_shown import print_jobs
    from hansa.cli.listing import print_json

    with reach(control, instance) as desk:
        jobs = desk.jobs()
    if as_json:
        print_json(jobs)
    else:
        print_jobs(jobs)


@app.command()
def show(
    job: JobArgument = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """One job: how far it is, and why it is where it is."""
    from hansa.cli.jobs_shown import print_job
    from hansa.cli.listing import print_json

    with reach(control, instance) as desk:
        found = choose_job(desk, job)
    if as_json:
        print_json(found)
    else:
        print_job(found)


@app.command()
def stop(
    job: OnlyJobArgument = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a job after the attempt under way; `resume` goes on from its last round."""
    from hansa.cli.jobs_shown import say_job

    with reach(control, instance, "write") as desk:
        found = only_job(desk, job, ("queued", "running", "paused"))
        already = found.status == "stopped"
        asked = found if already else desk.stop(_not_finished(found))
        say_job(asked, as_json=as_json, already=already)


@app.command()
def pause(
    job: OnlyJobArgument = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pause a job after the attempt under way."""
    from hansa.cli.jobs_shown import say_job

    with reach(control, instance, "write") as desk:
        found = only_job(desk, job, ("queued", "running"))
        already = found.status == "paused"
        asked = found if already else desk.pause(_not_finished(found))
        say_job(asked, as_json=as_json, already=already)


@app.command()
def resume(
    job: ResumedJobArgument = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a paused, stopped or failed job, from its last round."""
    from hansa.cli.jobs_shown import say_job

    with reach(control, instance, "write") as desk:
        found = _unfinished(desk, job, ("paused", "stopped", "failed"))
        say_job(desk.resume(found), as_json=as_json)


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Why; kept in the event log.")],
    job: PausedJobArgument = None,
    to: Annotated[
        int | None,
        typer.Option(min=0, metavar="ROUND", help="A kept round; default: the best evaluated one."),
    ] = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a paused job back to an earlier round; `resume` goes on from there. Nothing is refunded."""
    from hansa.cli.listing import print_json

    with reach(control, instance, "write") as desk:
        done = desk.roll_back(_unfinished(desk, job, ("paused",)), to, reason)
    if as_json:
        print_json(done)
        return
    typer.echo(
        f"job {done.job.job} ({done.job.name}) went back from round {done.from_round} to round "
        f"{done.job.round}; what the undone rounds cost its members stays charged\n"
        f"go on with: hansa jobs resume {done.job.job[:8]}"
    )


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What another member's `hansa jobs export` wrote.")
    ],
    org: Annotated[str | None, typer.Option("--org", help="The organisation that it is brought to.")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Its folder, with member.toml.")] = None,
    instance: InstanceOption = None,
) -> None:
    """Bring an organisation a model of a job in which it took no part, so that in mode `he` a job may start from it."""
    from hansa.cli.instance import choose_member
    from hansa.cli.jobs_import import import_model

    typer.echo(import_model(choose_member(org, folder, instance), file))


@app.command()
def export(
    job: JobArgument = None,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    org: Annotated[str | None, typer.Option("--org", help="At an organisation: its name.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="At an organisation: its folder, with member.toml.")
    ] = None,
    federated: Annotated[
        bool, typer.Option("--federated", help="At an organisation: leave its own version out.")
    ] = False,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the released model: NAME.safetensors with its weights, NAME.json with what they mean.

    At an organisation (--org or --folder) also its personal version, which never left that folder.
    """
    if out.suffix in (".safetensors", ".json"):
        raise InputError(f"--out {out}: expected a folder; the files get their names from the job")
    if org is not None or folder is not None:
        from hansa.cli.instance import choose_member
        from hansa.cli.personal_export import export_personal

        member = choose_member(org, folder, instance)
        said = export_personal(member, job, out, force=force, as_json=as_json, federated=federated)
        typer.echo(said)
        return
    from hansa.cli.jobs_export import export_released
    from hansa.cli.listing import print_json

    with reach(control, instance) as desk:
        release, said = export_released(desk, choose_job(desk, job), out, force=force)
    if as_json:
        print_json(release)
    else:
        typer.echo(said)


@app.command()
def mlflow(
    job: JobArgument = None,
    out: Annotated[Path | None, typer.Option(help="MLflow's local folder, e.g. mlruns.")] = None,
    server: Annotated[
        str | None, typer.Option("--server", help="In its place: a tracking server's address.")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(help="MLflow's experiment; default: the job's name.")
    ] = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
) -> None:
    """Hand a job's released figures to MLflow: a local folder, or a tracking server. MLflow is not needed here."""
    from hansa.cli.mlflow_run import MlflowRun, send, write_store

    if (out is None) == (server is None):
        raise InputError("name one of --out FOLDER and --server ADDRESS")
    with reach(control, instance) as desk:
        found = choose_job(desk, job)
        run = MlflowRun.of(found, desk.rounds(found.job), experiment)
    told = f"{len(run.metrics)} values of {found.round} rounds, experiment '{run.experiment}'"
    if out is not None:
        typer.echo(f"{write_store(run, out)}: {told}; look at it with: mlflow ui --backend-store-uri {out}")
    else:
        assert server is not None
        typer.echo(f"run {send(run, server)} at {server}: {told}")


@app.command()
def knobs(
    job: JobArgument = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KNOB=VALUE", help="From the next attempt on.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the value.")] = "",
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """A job's hyper-parameters and how far the charter lets them move."""
    from hansa.cli.jobs_plan import numbers
    from hansa.cli.jobs_shown import print_knobs
    from hansa.cli.listing import print_json
    from hansa.server.replies import KnobChange

    with reach(control, instance, "write" if settings else "read") as desk:
        found = choose_job(desk, job)
        if settings:
            states = desk.set_knobs(found.job, KnobChange(values=numbers("--set", settings), reason=reason))
        else:
            states = desk.knobs(found.job)
    if as_json:
        print_json(states)
    else:
        print_knobs(states)


@app.command()
def approve(
    job: Annotated[str, typer.Argument(help="The job's id or its beginning.")],
    grant: Annotated[
        str | None, typer.Option(help="The grant it may draw on; default: the one of which most is left.")
    ] = None,
    max_epsilon: Annotated[
        float | None, typer.Option(help="The most it may ever take, as epsilon at the grant's delta.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="On whose word; default: this user.")] = None,
    org: Annotated[str | None, typer.Option("--org", help="The organisation that approves.")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Its folder, with member.toml.")] = None,
    instance: InstanceOption = None,
) -> None:
    """At an organisation: say yes to a job, so that its agent takes part. Works on the agent's own socket."""
    from hansa.cli.instance import choose_member
    from hansa.cli.jobs_approve import approve_job

    if max_epsilon is not None and not 0 < max_epsilon <= 100:
        raise InputError(f"--max-epsilon {max_epsilon:g}: expected a number above 0, at most 100")
    member = choose_member(org, folder, instance)
    for line in approve_job(member, job, grant=grant, max_epsilon=max_epsilon, by=by):
        typer.echo(line)


def _unfinished(desk: Control, job: str | None, rather: Sequence[str] = ("running",)) -> str:
    return _not_finished(choose_job(desk, job, rather))


def _not_finished(job: JobRecord) -> str:
    if job.status == "finished":
        raise HansaError(f"job {job.job[:8]} is finished; a new one starts with: hansa jobs submit")
    return job.job
