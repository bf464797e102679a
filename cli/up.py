"""`hansa up`: a whole federation on this machine, as real processes, from one command."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.contract.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from hansa.cli.demo import Demo
    from hansa.cli.demo_run import DemoRun
    from hansa.cli.interrupts import Interruption
    from hansa.cli.starting import StartFile
    from hansa.contract.charter import Charter

app = typer.Typer(add_completion=False)


@app.command()
def up(
    scenario: Annotated[
        str | None,
        typer.Argument(
            help="A scenario's name or folder; default consortium. Its instance is .hansa/NAME, by the `name` in "
            "its scenario.toml.",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds, instead of the scenario's.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the scenario, e.g. model=mlp, steps=1."),
    ] = None,
    instance: Annotated[
        Path | None,
        typer.Option(
            help="Folder of an instance to go on with, or to make; default .hansa/NAME of the scenario."
        ),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Go on with .hansa/NAME of the last run instead of replacing it."),
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave it running in the background; see status and down.")
    ] = False,
    no_job: Annotated[
        bool,
        typer.Option(
            "--no-job",
            help="Start everything in the background and submit no job; implies --keep and --detach.",
        ),
    ] = False,
    executors: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Jobs side by side at most; executors come with them. Default 1, or as kept.",
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Start from a model that 'hansa jobs export' wrote."),
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
        read = _start(start)
        if no_job:
            _check_no_job(changes, start)
            instance = instance if scenario or instance else _found()
        demo = prepare(scenario, instance=instance, settings=changes, keep=keep or no_job)
        if demo.replaced:
            print(
                f"replacing {demo.instance.folder} of an earlier run; --keep goes on with it", file=sys.stderr
            )
        charter = verify_charter(demo.instance.charter, demo.instance.signatures).charter
        if read is not None:
            demo = replace(demo, start=read)
        for warning in warnings_of(charter):
            print(f"warning: {warning}", file=sys.stderr)
        if executors is not None:
            from hansa.cli.executors import set_executors

            set_executors(demo.instance, executors)
        if interruption.requested:
            raise SystemExit(interruption.exit_code)
        run = _idle if no_job else _detached if detach else _attached
        code = run(demo, charter, console, interruption, as_json=as_json)
    raise SystemExit(code)


def _check_no_job(changes: list[str], start: Path | None) -> None:
    if changes or start is not None:
        raise InputError("--no-job submits no job: leave out --rounds, --set and --from")


def _found() -> Path | None:
    """The instance that other commands mean; None where none was made yet."""
    from hansa.cli.instance import any_instance, find_instance

    return find_instance().folder if any_instance() else None


def _start(path: Path | None) -> StartFile | None:
    """The file of `--from`, before anything is made or replaced."""
    if path is None:
        return None
    from hansa.cli.starting import read_start

    return read_start(path)


def _attached(
    demo: Demo, charter: Charter, console: Console, interruption: Interruption, *, as_json: bool
) -> int:
    from hansa.cli.demo_run import run_demo
    from hansa.cli.progress import progress_on

    titles = {member.name: member.title for member in charter.members}
    facts = demo.instance.facts
    with progress_on(console, facts.title or facts.name, titles) as progress:
        done = run_demo(demo, charter, progress, interruption)
    if done.followed is None:
        return _not_started(interruption)
    if not done.over:
        job = done.followed.job
        stands = f"stopped at round {job.round} of {job.plan.rounds}"
        print(f"{stands}; go on with it: hansa up --instance {demo.instance.folder}", file=sys.stderr)
        return interruption.exit_code
    return _show(demo, charter, done, console, as_json=as_json)


def _detached(
    demo: Demo, charter: Charter, console: Console, interruption: Interruption, *, as_json: bool
) -> int:
    from hansa.cli.background import start_in_background
    from hansa.cli.control_client import Control
    from hansa.cli.demo_run import forget_scores
    from hansa.cli.follow import start_job
    from hansa.cli.status import page_sentence
    from hansa.contract.shown import privacy_sentence, protection_sentence

    instance = demo.instance
    forget_scores(demo)
    if not start_in_background(instance, interruption):
        return _not_started(interruption)
    with Control.of(instance, "write") as control:
        job, sentence = start_job(control, demo.plan, demo.start)
    if as_json:
        facts = {"status": job.status, "job": job.job, "instance": str(instance.folder)}
        print(json.dumps({**facts, "control": instance.control_url}), flush=True)
        return 0
    console.print(f"{len(charter.members)} members run in the background, control at {instance.control_url}")
    for said in (protection_sentence(charter), privacy_sentence(charter)):
        console.print(said, markup=False, highlight=False)
    console.print(sentence or f"job {job.job[:8]} is submitted", markup=False, highlight=False)
    console.print(page_sentence(instance), markup=False, highlight=False, soft_wrap=True)
    console.print("see: hansa status, hansa rounds watch; stop it with: hansa down")
    return 0


def _idle(
    demo: Demo, charter: Charter, console: Console, interruption: Interruption, *, as_json: bool
) -> int:
    from hansa.cli.background import start_in_background
    from hansa.cli.control_client import Control
    from hansa.cli.jobs_shown import idle_sentences
    from hansa.cli.status import page_sentence

    instance = demo.instance
    if not start_in_background(instance, interruption):
        return _not_started(interruption)
    with Control.of(instance) as control:
        jobs = control.jobs()
    if as_json:
        found = [{"job": it.job, "status": it.status} for it in jobs]
        facts = {"jobs": found, "instance": str(instance.folder), "control": instance.control_url}
        print(json.dumps(facts), flush=True)
        return 0
    console.print(f"{len(charter.members)} members run in the background, control at {instance.control_url}")
    for said in (*idle_sentences(jobs), page_sentence(instance)):
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    console.print(f"stop it with: hansa down --instance {instance.folder}", markup=False, highlight=False)
    return 0


def _not_started(interruption: Interruption) -> int:
    print("stopped before all processes were ready; none of them runs", file=sys.stderr)
    return interruption.exit_code


def _show(demo: Demo, charter: Charter, done: DemoRun, console: Console, *, as_json: bool) -> int:
    """Print the result; 0 where the job finished."""
    from hansa.cli.budgets_shown import budget_sentence
    from hansa.cli.results import local_table, result_object, rounds_table

    assert done.followed is not None
    job, local, model = done.followed.job, done.local or {}, done.model
    if as_json:
        more: dict[str, Any] = {"job": job.job, "reason": job.reason, "instance": str(demo.instance.folder)}
        more["model"] = str(model) if model else ""
        more["budgets"] = [vars(it) for it in done.budgets]
        found = result_object(job.status, done.followed.lines, released=done.released, local=local, more=more)
        print(json.dumps(found), flush=True)
    else:
        if done.followed.lines:
            console.print(rounds_table(done.followed.lines, width=console.width, last=10))
        else:
            console.print("no round was applied")
        if local:
            console.print(local_table(local, {member.name: member.title for member in charter.members}))
            console.print("read from the members' own folders on this machine; the server does not see these")
        for line in done.budgets:
            console.print(budget_sentence(line), markup=False, highlight=False, soft_wrap=True)
        if model:
            console.print(f"released model: {model}", markup=False, highlight=False, soft_wrap=True)
        elif done.finished and charter.protection.blind:
            console.print(
                "the model is held by the members; one of them exports it: "
                f"hansa jobs export --org {charter.members[0].name}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    if not done.finished:
        print(f"hansa: job {job.job[:8]} is {job.status}: {job.reason or 'see its events'}", file=sys.stderr)
        return 1
    return 0
