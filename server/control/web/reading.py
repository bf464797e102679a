"""What the page shows, read from the store: small states as they are, and logs above a cursor."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from hansa import __version__
from hansa.contract.shown import privacy_sentence, protection_sentence, protection_warnings
from hansa.server.control.desk import ControlDesk
from hansa.server.control.steering_routes import list_knobs, list_members, show_charter
from hansa.server.control.web.budgets_left import budgets_shown
from hansa.server.control.web.messages import (
    AttemptShown,
    FigureShown,
    JobListed,
    JobShown,
    Opening,
    Part,
    RoundShown,
)
from hansa.server.records import AttemptRecord, JobRecord, MetricRecord, QueueRecord, RoundRecord
from hansa.server.tokens import Scope

# The newest so many are told to a page that opens; all of them are in the store and its API.
MOST_ROUNDS, MOST_EVENTS, MOST_DECISIONS, MOST_SCALING, MOST_JOBS = 2000, 200, 100, 600, 50
_NEWEST_ATTEMPTS = 6
_MOST_FIGURES = 20 * MOST_ROUNDS
_CURSOR = re.compile(r"([0-9a-f]{32})?\.(\d{1,18})\.(\d{1,18})\.(\d{1,18})\.(\d{1,18})")


@dataclass(frozen=True)
class Cursor:
    """How far a page has come: its job, and the newest attempt, event, decision and scaling decision it knows."""

    job: str = ""
    attempt: int = 0
    event: int = 0
    decision: int = 0
    scaling: int = 0

    def __str__(self) -> str:
        return f"{self.job}.{self.attempt}.{self.event}.{self.decision}.{self.scaling}"

    @classmethod
    def parse(cls, text: str | None) -> Cursor | None:
        """A cursor as a page sent it back; None for anything else."""
        found = _CURSOR.fullmatch(text or "")
        return None if found is None else cls(found[1] or "", *(int(it) for it in found.groups()[1:]))


def opening(desk: ControlDesk, scope: Scope) -> Opening:
    """What does not change while control runs."""
    return Opening(
        scope=scope,
        version=__version__,
        charter=show_charter(desk),
        protection=protection_sentence(desk.charter),
        privacy=privacy_sentence(desk.charter),
        warnings=protection_warnings(desk.charter),
    )


def followed(jobs: list[JobRecord], job: str | None) -> JobRecord | None:
    """The job of that id; without one the job that runs, or the newest."""
    if job is not None:
        return next((it for it in jobs if it.job == job), None)
    running = (it for it in reversed(jobs) if it.status == "running")
    return next(running, jobs[-1] if jobs else None)


def read_jobs(desk: ControlDesk, job: str | None) -> tuple[list[JobRecord], JobRecord | None]:
    """The newest jobs, and the one that is followed."""
    jobs = desk.store.jobs.all(limit=MOST_JOBS)
    found = followed(jobs, job)
    return jobs, desk.store.jobs.find(job) if found is None and job is not None else found


def read_states(desk: ControlDesk, jobs: list[JobRecord], job: JobRecord | None) -> dict[str, Any]:
    """The small parts of a page, by their names in `PageChange`: those that are told whole."""
    store = desk.store
    waiting, running = store.jobs.queue()
    members = list_members(desk)
    states: dict[str, Any] = {
        "jobs": [_name(it) for it in jobs],
        "members": members,
        "queue": QueueRecord(waiting=waiting, running=running),
        "processes": desk.processes.all(),
        "job": None,
        "newest": 0,
        "attempts": [],
        "knobs": [],
    }
    spendings = []
    if job is not None:
        spendings = store.budgets.spendings(job=job.job)
        newest = store.history.attempts(job.job, after=max(0, job.attempt - _NEWEST_ATTEMPTS))
        states |= {
            "job": _job(job),
            "newest": job.round,
            "attempts": [_attempt(it) for it in newest],
            "knobs": list_knobs(job.job, desk),
        }
    apart = {it.name for it in members if it.apart}
    states["budgets"] = budgets_shown(store.budgets.grants(), spendings, job, apart)
    return states


def read_logs(desk: ControlDesk, job: JobRecord | None, after: Cursor) -> tuple[dict[str, Any], Cursor]:
    """What is above a cursor, by name in `PageChange`, and the cursor after it; at most the newest of each."""
    store, found = desk.store, after
    logs: dict[str, Any] = {}
    if job is not None:
        history = store.history
        first = max(0, job.round - MOST_ROUNDS)
        # Before the rounds are read, so that none of an attempt that ends meanwhile is passed.
        settled = history.settled_attempt(job.job)
        rounds = history.rounds(job.job, after=first, above_attempt=after.attempt, limit=MOST_ROUNDS)
        figures = history.metrics(job.job, after=first - 1, above_attempt=after.attempt, limit=_MOST_FIGURES)
        decisions = store.decisions.newest(job.job, after=after.decision, limit=MOST_DECISIONS)
        logs |= {
            "rounds": [_round(it) for it in rounds],
            "figures": [_figure(it) for it in figures],
            "decisions": decisions,
        }
        seen = max((it.attempt for it in rounds), default=0)
        seen = max(seen, max((it.attempt for it in figures), default=0))
        found = replace(
            found,
            job=job.job,
            attempt=max(after.attempt, min(settled, seen)),
            decision=decisions[-1].id if decisions else after.decision,
        )
    first_event = max(after.event, store.history.newest_event() - MOST_EVENTS)
    logs["events"] = store.history.events(after=first_event, limit=MOST_EVENTS)
    newest = max((it.id for it in store.scaling.newest()), default=0)
    first_scaling = max(after.scaling, newest - MOST_SCALING)
    logs["scaling"] = store.scaling.of(after=first_scaling, limit=MOST_SCALING)
    for name in ("event", "scaling"):
        entries = logs["events" if name == "event" else name]
        if entries:
            found = replace(found, **{name: entries[-1].id})
    return {name: entries for name, entries in logs.items() if entries}, found


def _name(job: JobRecord) -> JobListed:
    return JobListed(job=job.job, name=job.name, status=job.status, round=job.round, rounds=job.plan.rounds)


def _job(job: JobRecord) -> JobShown:
    same = {name: getattr(job, name) for name in JobShown.model_fields if name != "created"}
    return JobShown(**same, created=job.created.timestamp())


def _attempt(it: AttemptRecord) -> AttemptShown:
    return AttemptShown(
        attempt=it.attempt,
        kind=it.kind,
        status=it.status,
        base=it.base,
        cohort=len(it.cohort),
        reason=it.reason,
        opened=it.opened.timestamp(),
        seconds=it.seconds,
    )


def _round(it: RoundRecord) -> RoundShown:
    return RoundShown(
        round=it.round,
        attempt=it.attempt,
        applied=it.applied.timestamp(),
        seconds=it.seconds,
        members={part.member: Part(outcome=part.outcome, seconds=part.seconds) for part in it.participation},
        left_out=it.left_out,
    )


def _figure(it: MetricRecord) -> FigureShown:
    return FigureShown(round=it.round, name=it.name, value=it.value, error=it.error)
