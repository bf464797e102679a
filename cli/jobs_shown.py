"""Jobs and their knobs on the screen."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from hansa.cli.listing import print_facts, print_json, print_table, shown_numbers, shown_time
from hansa.server.records import JobRecord
from hansa.server.replies import KnobState


def say_job(job: JobRecord, *, as_json: bool) -> None:
    """Where a job stands, in one line."""
    if as_json:
        print_json(job)
        return
    asked = {
        "pause": "; it pauses after the attempt under way",
        "stop": "; it stops after the attempt under way",
    }
    more = asked.get(job.wanted, "") if job.status in ("queued", "running") else ""
    typer.echo(f"job {job.job} ({job.name}) is {job.status}, round {job.round} of {job.plan.rounds}{more}")


def print_jobs(jobs: Sequence[JobRecord]) -> None:
    """All jobs, one a row."""
    rows = (
        (it.job[:8], it.name, it.status, f"{it.round} of {it.plan.rounds}", shown_time(it.created), it.reason)
        for it in jobs
    )
    columns = ("job", "name", "status", "rounds", "submitted", "reason")
    print_table(columns, rows, nothing="no job yet; submit one with: hansa jobs submit")


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
