"""Jobs and their knobs on the screen."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from hansa.cli.listing import print_facts, print_json, print_table, shown_numbers, shown_time
from hansa.server.records import JobRecord
from hansa.server.replies import KnobState


def say_job(job: JobRecord, *, as_json: bool, already: bool = False) -> None:
    """Where a job stands, in one line; `already` where nothing had to be asked of it."""
    if as_json:
        print_json(job)
        return
    asked = {
        "pause": "; it pauses after the attempt under way",
        "stop": "; it stops after the attempt under way",
    }
    more = asked.get(job.wanted, "") if job.status in ("queued", "running") else ""
    state = f"{job.status} already" if already else job.status
    typer.echo(f"job {job.job} ({job.name}) is {state}, round {job.round} of {job.plan.rounds}{more}")


def print_jobs(jobs: Sequence[JobRecord]) -> None:
    """All jobs, one a row."""
    rows = (
        (it.job[:8], it.name, it.status, f"{it.round} of {it.plan.rounds}", shown_time(it.created), it.reason)
        for it in jobs
    )
    columns = ("job", "name", "status", "rounds", "submitted", "reason")
    print_table(columns, rows, nothing="no job yet; submit one with: hansa jobs submit")


def idle_sentences(jobs: Sequence[JobRecord]) -> list[str]:
    """What becomes of the jobs of an instance that was started without a new one."""
    said = []
    for it in jobs:
        stands = f"job {it.job[:8]} ({it.name}), round {it.round} of {it.plan.rounds}"
        if it.status in ("queued", "running"):
            said.append(f"{stands}, goes on, and is charged; hold it with: hansa jobs pause {it.job[:8]}")
        elif it.status != "finished":
            said.append(f"{stands}, stays {it.status}; go on with it: hansa jobs resume {it.job[:8]}")
    if not any(it.status in ("queued", "running") for it in jobs):
        finished = sum(it.status == "finished" for it in jobs)
        said.append(f"no job is submitted: nothing is trained or charged (finished jobs: {finished})")
    return said


def print_job(it: JobRecord) -> None:
    """What is known of one job."""
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


def print_knobs(states: Sequence[KnobState]) -> None:
    """A job's hyper-parameters, one a row."""
    rows = (
        (
            it.name,
            f"{it.value:g}",
            f"{it.low:g} to {it.high:g}",
            "yes" if it.pinned else "",
            it.set_by,
            shown_time(it.at),
            it.reason,
        )
        for it in states
    )
    columns = ("knob", "value", "range", "pinned", "set by", "at", "reason")
    print_table(columns, rows, nothing="the charter opens no knob")
