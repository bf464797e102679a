"""`hansa up`: a whole federation on this machine, as real processes, from one command."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.contract.errors import HansaError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from hansa.cli.budgets_shown import GrantLine
    from hansa.cli.control_client import Control
    from hansa.cli.demo import Demo
    from hansa.cli.follow import Followed
    from hansa.cli.instance import MemberFolder
    from hansa.cli.interrupts import Interruption
    from hansa.cli.results import Figure
    from hansa.contract.charter import Charter

app = typer.Typer(add_completion=False)

# So long members' own versions may take after a job: their fits end with the agents.
_FITTED_S = 10.0


@app.command()
def up(
    scenario: Annotated[
        str | None,
        typer.Argument(help="A scenario's name or folder; default consortium.", show_default=False),
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds, instead of the scenario's.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the scenario, e.g. model=mlp, steps=1."),
    ] = None,
    instance: Annotated[
        Path | None,
        typer.Option(help="Folder of an instance to go on with, or to make; default .hansa/SCENARIO."),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Go on with .hansa/SCENARIO of the last run instead of replacing it."),
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave it running in the background; see status and down.")
    ] = False,
    executors: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Jobs side by side at most; executors come with them. Default 1, or as kept.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Run a whole federation on this machine: provision, start, train, show the result, stop."""
    from hansa.cli.interrupts import Interruption

    with Interruption() as interruption:
        from rich.console import Console

        from hansa.cli.demo import prepare, warnings_of
        from hansa.contract.signatures import verify_charter

        console = Console(stderr=as_json)
        changes = [*(settings or []), *([f"rounds={rounds}"] if rounds else [])]
        demo = prepare(scenario, instance=instance, settings=changes, keep=keep)
        if demo.replaced:
            print(
                f"replacing {demo.instance.folder} of an earlier run; --keep goes on with it", file=sys.stderr
            )
        charter = verify_charter(demo.instance.charter, demo.instance.signatures).charter
        for warning in warnings_of(charter):
            print(f"warning: {warning}", file=sys.stderr)
        if executors is not None:
            from hansa.cli.executors import set_executors

            set_executors(demo.instance, executors)
        if interruption.requested:
            raise SystemExit(interruption.exit_code)
        run = _detached if detach else _attached
        code = run(demo, charter, console, interruption, as_json=as_json)
    raise SystemExit(code)


def _attached(
    demo: Demo, charter: Charter, console: Console, interruption: Interruption, *, as_json: bool
) -> int:
    from hansa.cli.budgets_shown import mirror_lines
    from hansa.cli.control_client import Control
    from hansa.cli.federation import START_S, check_given_up, federation_specs, record_path, supervised
    from hansa.cli.follow import follow, start_job
    from hansa.cli.progress import progress_on
    from hansa.contract.shown import privacy_sentence, protection_sentence

    instance = demo.instance
    titles = {member.name: member.title for member in charter.members}
    _forget_scores(demo)
    with (
        progress_on(console, instance.facts.title or instance.facts.name, titles) as progress,
        supervised(
            record_path(instance.folder, "up"),
            str(instance.folder),
            federation_specs(instance),
            logs=instance.logs,
            report=progress.note,
        ) as supervisor,
    ):
        interruption.at_once = supervisor.hurry
        progress.note(f"{len(charter.members)} members, logs in {instance.logs}")
        progress.note(protection_sentence(charter))
        progress.note(privacy_sentence(charter))
        if not supervisor.wait_ready(START_S, lambda: interruption.requested):
            print("stopped before all processes were ready", file=sys.stderr)
            return interruption.exit_code
        with Control.of(instance, "write") as control:
            job, sentence = start_job(control, demo.plan)
            if sentence:
                progress.note(sentence)
            followed = follow(
                control,
                job,
                wait=interruption.wait,
                seen=progress.seen,
                check=lambda: check_given_up(supervisor),
            )
            if not followed.over:
                stands = f"stopped at round {followed.job.round} of {followed.job.plan.rounds}"
                print(f"{stands}; go on with it: hansa up --keep", file=sys.stderr)
                return interruption.exit_code
            model = _export(control, followed, charter, instance.folder / "model")
            budgets = mirror_lines(control.budgets(), control.spendings(), {})[0]
        members = [instance.member(name) for name in instance.members]
        # A label of several classes has no personal model.
        personal = followed.job.status == "finished" and charter.task.features.label.kind != "multiclass"
        late = late_fits(members, job.job, interruption.wait) if personal else []
        if late:
            print(
                f"warning: stopped before these fitted a version of their own: {', '.join(late)}",
                file=sys.stderr,
            )
    return _show(demo, charter, followed, console, model, budgets, as_json=as_json)


def late_fits(
    members: Sequence[MemberFolder], job: str, wait: Callable[[float], bool], *, patience: float = _FITTED_S
) -> list[str]:
    """Wait for the members' own versions of a job's model; names of those that have the model alone after that.

    Parameters
    ----------
    wait : sleeps so long; whether somebody wants this to end
    """
    from hansa.clients.personal import personal_path

    deadline = time.monotonic() + patience
    while True:
        late = [
            it.folder.name
            for it in members
            if (it.folder / f"model-{job}.npz").exists() and not personal_path(it.folder, job).exists()
        ]
        if not late or time.monotonic() > deadline or wait(0.05):
            return late


def _detached(
    demo: Demo, charter: Charter, console: Console, interruption: Interruption, *, as_json: bool
) -> int:
    from hansa.cli.background import start_in_background
    from hansa.cli.control_client import Control
    from hansa.cli.follow import start_job
    from hansa.contract.shown import privacy_sentence, protection_sentence

    instance = demo.instance
    _forget_scores(demo)
    if not start_in_background(instance, interruption):
        return interruption.exit_code
    with Control.of(instance, "write") as control:
        job, sentence = start_job(control, demo.plan)
    if as_json:
        facts = {"status": job.status, "job": job.job, "instance": str(instance.folder)}
        print(json.dumps({**facts, "control": instance.control_url}), flush=True)
        return 0
    console.print(f"{len(charter.members)} members run in the background, control at {instance.control_url}")
    for said in (protection_sentence(charter), privacy_sentence(charter)):
        console.print(said, markup=False, highlight=False)
    console.print(sentence or f"job {job.job[:8]} is submitted", markup=False, highlight=False)
    console.print("see: hansa status, hansa rounds watch; stop it with: hansa down")
    return 0


def _export(control: Control, followed: Followed, charter: Charter, folder: Path) -> Path | None:
    """Write the released model while there is a control to ask; None where the server has none to give."""
    from hansa.contract.typed import write_atomically

    if followed.job.status != "finished" or charter.protection.mode == "he":
        return None
    try:
        release = control.release(followed.job.job)
        path = folder / f"{release.name}.safetensors"
        write_atomically(path, control.release_tensors(followed.job.job))
        write_atomically(path.with_suffix(".json"), release.model_dump_json(indent=2).encode() + b"\n")
    except (HansaError, OSError) as error:
        # The job is done and stays so; its model can be asked for again.
        print(f"warning: the released model was not written: {error}", file=sys.stderr)
        return None
    return path


def _show(
    demo: Demo,
    charter: Charter,
    followed: Followed,
    console: Console,
    model: Path | None,
    budgets: Sequence[GrantLine],
    *,
    as_json: bool,
) -> int:
    """Print the result; 0 where the job finished."""
    from hansa.cli.budgets_shown import budget_sentence
    from hansa.cli.results import local_table, result_object, rounds_table

    job = followed.job
    finished = job.status == "finished"
    local = _local(demo, charter) if finished else {}
    released = followed.lines[-1].metrics if followed.lines else {}
    if as_json:
        more: dict[str, Any] = {"job": job.job, "reason": job.reason, "instance": str(demo.instance.folder)}
        more["model"] = str(model) if model else ""
        more["budgets"] = [vars(it) for it in budgets]
        found = result_object(job.status, followed.lines, released=released, local=local, more=more)
        print(json.dumps(found), flush=True)
    else:
        console.print(rounds_table(followed.lines, last=10))
        if local:
            console.print(local_table(local, {member.name: member.title for member in charter.members}))
            console.print("read from the members' own folders on this machine; the server does not see these")
        for line in budgets:
            console.print(budget_sentence(line), markup=False, highlight=False, soft_wrap=True)
        if model:
            console.print(f"released model: {model}", markup=False, highlight=False, soft_wrap=True)
        elif finished and charter.protection.blind:
            console.print(
                "the model is held by the members; one of them exports it: "
                f"hansa jobs export --org {charter.members[0].name}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    if not finished:
        print(f"hansa: job {job.job[:8]} is {job.status}: {job.reason or 'see its events'}", file=sys.stderr)
        return 1
    return 0


def _local(demo: Demo, charter: Charter) -> dict[str, Figure]:
    """Exact figures, from the agents' own folders: this command owns them all."""
    from hansa.cli.results import exact_figures, read_held_out

    held_out = {}
    for name in demo.instance.members:
        try:
            held_out[name] = read_held_out(demo.instance.member(name).held_out)
        except InputError as error:
            print(f"warning: no exact figures of '{name}': {error}", file=sys.stderr)
    return exact_figures(held_out, charter.task.features.label)


def _forget_scores(demo: Demo) -> None:
    """What an earlier job left must not pass for the figures of this one."""
    for name in demo.instance.members:
        demo.instance.member(name).held_out.unlink(missing_ok=True)
