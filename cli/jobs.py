"""`hansa jobs`: submit, follow, pause, resume, stop, roll back and export jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.reach import ControlOption, InstanceOption, JobArgument, JsonOption, choose_job, reach
from hansa.contract.errors import HansaError, InputError

if TYPE_CHECKING:
    from hansa.cli.control_client import Control
    from hansa.cli.instance import MemberFolder
    from hansa.contract.jobs import JobPlan
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
    changes = [*(settings or []), *([f"rounds={rounds}"] if rounds else [])]
    # A control elsewhere says nothing of a scenario's job, unless its instance is named too.
    remote = control is not None and instance is None
    plan = _plan(name, file, changes, pins or [], instance, remote=remote)
    with reach(control, instance, "write") as desk:
        known = desk.jobs() if if_none else []
        if not known and start is not None:
            from hansa.cli.starting import read_start, submit_from

            begun, sentence = submit_from(desk, plan, read_start(start))
            _say(begun, as_json)
            if not as_json:
                typer.echo(sentence)
            return
        _say(known[-1] if known else desk.submit(plan), as_json)


@app.command("list")
def list_jobs(
    control: ControlOption = None, instance: InstanceOption = None, as_json: JsonOption = False
) -> None:
    """All jobs, the newest last."""
    from hansa.cli.listing import print_json, print_table, shown_time

    with reach(control, instance) as desk:
        jobs = desk.jobs()
    if as_json:
        print_json(jobs)
        return
    rows = (
        (it.job[:8], it.name, it.status, f"{it.round} of {it.plan.rounds}", shown_time(it.created), it.reason)
        for it in jobs
    )
    columns = ("job", "name", "status", "rounds", "submitted", "reason")
    print_table(columns, rows, nothing="no job yet; submit one with: hansa jobs submit")


@app.command()
def show(
    job: JobArgument = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """One job: how far it is, and why it is where it is."""
    from hansa.cli.listing import print_facts, print_json, shown_numbers, shown_time

    with reach(control, instance) as desk:
        it = choose_job(desk, job)
    if as_json:
        print_json(it)
        return
    plan = it.plan
    print_facts(
        (
            ("job", it.job),
            ("name", it.name),
            ("status", it.status + (f" ({it.wanted} asked for)" if it.wanted != "run" else "")),
            ("reason", it.reason),
            ("rounds", f"{it.round} of {plan.rounds}, {it.attempt} attempts"),
            ("rule", f"{plan.rule.name}, {plan.steps} steps at home" if plan.steps > 1 else plan.rule.name),
            ("pinned", shown_numbers(plan.pinned)),
            ("charter", it.charter),
            ("submitted", shown_time(it.created)),
            ("changed", shown_time(it.updated)),
            ("held by", it.holder),
        )
    )


@app.command()
def stop(
    job: JobArgument = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a job after the attempt under way; `resume` goes on from its last round."""
    with reach(control, instance, "write") as desk:
        _say(desk.stop(_unfinished(desk, job)), as_json)


@app.command()
def pause(
    job: JobArgument = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pause a job after the attempt under way."""
    with reach(control, instance, "write") as desk:
        _say(desk.pause(_unfinished(desk, job)), as_json)


@app.command()
def resume(
    job: JobArgument = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a paused, stopped or failed job, from its last round."""
    with reach(control, instance, "write") as desk:
        _say(desk.resume(_unfinished(desk, job, ("paused", "stopped", "failed"))), as_json)


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Why; kept in the event log.")],
    job: JobArgument = None,
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
    from hansa.cli.starting import read_start
    from hansa.clients.starting import import_start
    from hansa.contract.charter import Charter
    from hansa.contract.typed import read_toml

    member = choose_member(org, folder, instance)
    read = read_start(file)
    if read.personal:
        raise InputError(
            f"{file}: holds an organisation's own version, fitted without noise, which is not to leave it; "
            "have it written anew with: hansa jobs export --federated"
        )
    charter = read_toml(member.charter, Charter)
    if read.start.contract != charter.task.features.digest:
        raise InputError(
            f"{file}: the model was trained under another feature contract ({read.start.contract[:8]}, the "
            f"charter's is {charter.task.features.digest[:8]}): its columns mean others"
        )
    path = import_start(member.folder, read.start, read.weights)
    typer.echo(
        f"{path}: the model of job {read.start.job[:8]}, {read.start.parameters} weights, "
        f"SHA-256 {read.start.weights}; a job whose plan names that digest may start from it here"
    )


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
    from hansa.cli.listing import print_json
    from hansa.contract.typed import write_atomically

    if out.suffix in (".safetensors", ".json"):
        raise InputError(f"--out {out}: expected a folder; the files get their names from the job")
    if org is not None or folder is not None:
        from hansa.cli.instance import choose_member
        from hansa.cli.personal_export import export_personal

        member = choose_member(org, folder, instance)
        said = export_personal(member, job, out, force=force, as_json=as_json, federated=federated)
        typer.echo(said)
        return
    with reach(control, instance) as desk:
        found = choose_job(desk, job)
        release = desk.release(found.job)
        tensors = desk.release_tensors(found.job)
    paths = [out / f"{release.name}{suffix}" for suffix in (".safetensors", ".json")]
    for path in paths:
        if path.exists() and not force:
            raise InputError(f"{path}: is there already; --force replaces it")
    try:
        write_atomically(paths[0], tensors)
        write_atomically(paths[1], release.model_dump_json(indent=2).encode() + b"\n")
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror})") from None
    if as_json:
        print_json(release)
    else:
        typer.echo(
            f"{paths[0]}: model of round {release.round}, {release.parameters} parameters; see {paths[1]}"
        )


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
    from hansa.cli.listing import print_json, print_table, shown_time
    from hansa.server.replies import KnobChange

    with reach(control, instance, "write" if settings else "read") as desk:
        found = choose_job(desk, job)
        if settings:
            states = desk.set_knobs(found.job, KnobChange(values=_numbers("--set", settings), reason=reason))
        else:
            states = desk.knobs(found.job)
    if as_json:
        print_json(states)
        return
    rows = (
        (
            it.name,
            f"{it.value:g}",
            f"{it.low:g} to {it.high:g}",
            _yes(it.pinned),
            it.set_by,
            shown_time(it.at),
            it.reason,
        )
        for it in states
    )
    columns = ("knob", "value", "range", "pinned", "set by", "at", "reason")
    print_table(columns, rows, nothing="the charter opens no knob")


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
    from hansa.cli.agent_client import command_agent
    from hansa.cli.budgets_decide import approved, who_decides
    from hansa.cli.instance import choose_member

    if max_epsilon is not None and not 0 < max_epsilon <= 100:
        raise InputError(f"--max-epsilon {max_epsilon:g}: expected a number above 0, at most 100")
    member = choose_member(org, folder, instance)
    job = _whole_id(member, job)
    answer = command_agent(
        member, "approve", job=job, grant=grant, max_epsilon=max_epsilon, by=who_decides(by)
    )
    does = "takes no further part" if answer.get("used_up") else "takes part"
    why = ", which took as much already" if answer.get("used_up") else ""
    typer.echo(f"{member.config.name} {does} in job {job}{why}; {approved(answer)}")
    if start := answer.get("start"):
        typer.echo(
            f"it starts from the model of job {start['job']}, SHA-256 of its weights {start['weights']}"
        )


def _unfinished(desk: Control, job: str | None, rather: Sequence[str] = ("running",)) -> str:
    found = choose_job(desk, job, rather)
    if found.status == "finished":
        raise HansaError(f"job {found.job[:8]} is finished; a new one starts with: hansa jobs submit")
    return found.job


def _whole_id(member: MemberFolder, beginning: str) -> str:
    """The one job of the agent that begins so; what the agent does not know is left for it to refuse."""
    from hansa.cli.agent_client import command_agent

    known = [it["job"] for it in command_agent(member, "jobs")["jobs"]]
    found = [it for it in known if it.startswith(beginning)]
    if beginning in known or not found:
        return beginning
    if len(found) > 1:
        raise InputError(f"job {beginning}: {len(found)} jobs begin so: {', '.join(found)}")
    return str(found[0])


def _plan(
    name: str | None,
    file: Path | None,
    changes: list[str],
    pins: list[str],
    instance: Path | None,
    *,
    remote: bool,
) -> JobPlan:
    from hansa.cli.instance import find_instance
    from hansa.cli.overrides import override_job
    from hansa.contract.charter import Charter, Mechanism, Mode, PrivacyPlan
    from hansa.contract.plan import check_mechanism, check_privacy, check_rule, make_plan
    from hansa.contract.scenario import ScenarioJob
    from hansa.contract.typed import read_toml

    mode: Mode = "clear"
    mechanism: Mechanism = "gradient"
    privacy = PrivacyPlan()
    pinned = _numbers("--pin", pins)
    if file is not None:
        job, origin = read_toml(file, ScenarioJob), file
        name = name or file.stem
    elif remote:
        job, origin = ScenarioJob(), Path("job")
    else:
        found = find_instance(instance)
        job, origin = found.job, found.folder
        name = name or found.facts.name
        # The charter lies with control; where it is not at hand control checks the rule alone.
        if found.charter.exists():
            charter = read_toml(found.charter, Charter)
            mode, privacy = charter.protection.mode, charter.privacy
            mechanism = charter.training.mechanism
    plan = make_plan(name or "job", override_job(job, changes, origin))
    check_rule(plan, mode)
    check_privacy(plan, privacy)
    check_mechanism(plan, mechanism)
    return plan.model_copy(update={"pinned": pinned}) if pinned else plan


def _numbers(option: str, settings: list[str]) -> dict[str, float]:
    found = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        try:
            found[name.strip()] = float(text)
        except ValueError:
            separator = ""
        if not separator:
            raise InputError(f"{option} {setting}: expected KNOB=NUMBER, e.g. {option} server_rate=0.1")
    return found


def _say(job: JobRecord, as_json: bool) -> None:
    from hansa.cli.listing import print_json

    if as_json:
        print_json(job)
        return
    asked = {
        "pause": "; it pauses after the attempt under way",
        "stop": "; it stops after the attempt under way",
    }
    more = asked.get(job.wanted, "") if job.status in ("queued", "running") else ""
    typer.echo(f"job {job.job} ({job.name}) is {job.status}, round {job.round} of {job.plan.rounds}{more}")


def _yes(value: bool) -> str:
    return "yes" if value else ""
