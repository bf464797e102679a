"""What control shows Prometheus: jobs, rounds, members, the mirror of their budgets, events by kind."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import pairwise
from typing import get_args

from hansa.contract.charter import Charter
from hansa.contract.errors import REFUSAL_CODES
from hansa.contract.exposition import OTHER, Distribution, Family, Figure, Histogram, Labels, Shown, one
from hansa.contract.jobs import JobStatus
from hansa.server.control.desk import ControlDesk

log = logging.getLogger("hansa.metrics")

# Rounds of seconds to minutes.
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
_LIVE = 50

JOBS = Family("hansa_jobs", "gauge", "Jobs by status.", ("status",))
QUEUE = Family("hansa_queue_jobs", "gauge", "Jobs that are wanted to run, waiting or running.", ("state",))
JOB_ROUND = Family(
    "hansa_job_round", "gauge", "Newest applied round of a job that is not over.", ("job",), _LIVE
)
JOB_ROUNDS = Family("hansa_job_planned_rounds", "gauge", "Rounds that a job is to have.", ("job",), _LIVE)
JOB_RUNS = Family("hansa_job_running", "gauge", "1 while a job runs, 0 while it waits.", ("job",), _LIVE)
JOB_MOVED = Family(
    "hansa_job_progress_timestamp_seconds",
    "gauge",
    "When a job that is not over last had a round applied, or was queued, seconds since the epoch.",
    ("job",),
    _LIVE,
)
ATTEMPTS = Family(
    "hansa_attempts_total", "counter", "Attempts by kind and what became of them.", ("kind", "status")
)
ROUND = Family(
    "hansa_round_seconds", "histogram", "From an attempt's opening to its applied sum.", (), 1, _BUCKETS
)
PARTICIPATIONS = Family(
    "hansa_participations_total", "counter", "Answers of members in attempts, by outcome.", ("outcome",)
)
REFUSALS = Family("hansa_refusals_total", "counter", "Refusals of members in attempts, by code.", ("code",))
BYTES = Family(
    "hansa_attempt_bytes_total", "counter", "Bytes exchanged with members in attempts.", ("direction",)
)
EVENTS = Family("hansa_events_total", "counter", "Lines of the event log by kind.", ("kind",), 100)
RECEIPTS = Family("hansa_receipts_total", "counter", "Receipts of members that are kept.")
FORKS = Family("hansa_ledger_forks_total", "counter", "Ledgers of members that were seen to fork.")
PRESENT = Family("hansa_member_present", "gauge", "1 while a member is connected.", ("member",), 1000)
HELD = Family("hansa_member_held", "gauge", "1 while a member is held out of selection.", ("member",), 1000)
SEEN = Family(
    "hansa_member_seen_timestamp_seconds", "gauge", "When a member was last heard of.", ("member",), 1000
)
LEFT = Family(
    "hansa_budget_left_ratio",
    "gauge",
    "Share of a grant that is left by the member's newest receipt; its own ledger decides.",
    ("member", "grant"),
    1000,
)
CHARTER = Family("hansa_charter_expiry_timestamp_seconds", "gauge", "When the charter runs out.")
STORE = Family("hansa_store_up", "gauge", "1 while the store answers.")
MEMORY = Family(
    "hansa_process_memory_bytes",
    "gauge",
    "Memory of a process as the sidecar read it last.",
    ("process",),
    64,
)
ALARM = Family(
    "hansa_process_memory_alarm", "gauge", "1 while the sidecar finds that wrong.", ("process",), 64
)


def control_figures(desk: ControlDesk) -> list[Shown]:
    """Everything, now. Where the store does not answer `hansa_store_up` is 0 and its figures are absent."""
    shown = [one(CHARTER, desk.charter.expires.timestamp()), *_processes(desk)]
    try:
        return [*shown, one(STORE, 1), *_stored(desk), *_members(desk), *_budgets(desk)]
    except Exception:
        log.exception("figures of the store could not be read: hansa_store_up is 0")
        return [*shown, one(STORE, 0)]


def _stored(desk: ControlDesk) -> list[Shown]:
    jobs = desk.store.jobs.unfinished()[-_LIVE:]
    found = desk.store.figures.read(_BUCKETS, tuple(it.job for it in jobs))
    waiting, running = desk.store.jobs.queue()
    steps = [0, *found.round_seconds]
    counts = [float(after - before) for before, after in pairwise(steps)]
    moved: dict[Labels, float] = {
        (it.job,): max(found.newest_round.get(it.job, 0.0), it.queued.timestamp()) for it in jobs
    }
    return [
        Figure(JOBS, {(name,): float(found.jobs.get(name, 0)) for name in get_args(JobStatus)}),
        Figure(QUEUE, {("waiting",): float(waiting), ("running",): float(running)}),
        Figure(JOB_ROUND, {(it.job,): float(it.round) for it in jobs}),
        Figure(JOB_ROUNDS, {(it.job,): float(it.plan.rounds) for it in jobs}),
        Figure(JOB_RUNS, {(it.job,): float(it.status == "running") for it in jobs}),
        Figure(JOB_MOVED, moved),
        Figure(ATTEMPTS, {key: float(count) for key, count in found.attempts.items()}),
        Histogram(ROUND, {(): Distribution(counts, found.round_seconds_sum)}),
        _by_name(PARTICIPATIONS, found.participations),
        _by_name(REFUSALS, _known(found.refusals)),
        Figure(BYTES, {("up",): float(found.bytes_up), ("down",): float(found.bytes_down)}),
        _by_name(EVENTS, found.events),
        one(RECEIPTS, found.receipts),
        one(FORKS, found.events.get("ledger-fork", 0)),
    ]


def _known(codes: Mapping[str, int]) -> dict[str, int]:
    """Codes of the protocol; what else a member wrote is `other`."""
    found: dict[str, int] = {}
    for code, count in codes.items():
        name = code if code in REFUSAL_CODES else OTHER
        found[name] = found.get(name, 0) + count
    return found


def _members(desk: ControlDesk) -> list[Shown]:
    names, known = _names(desk.charter), {it.name: it for it in desk.store.members.all()}
    seen: dict[Labels, float] = {
        (name,): it.seen.timestamp() for name, it in known.items() if name in names and it.seen
    }
    present: dict[Labels, float] = {(name,): float(name in known and known[name].present) for name in names}
    held: dict[Labels, float] = {
        (name,): float(name in known and known[name].held is not None) for name in names
    }
    return [Figure(PRESENT, present), Figure(HELD, held), Figure(SEEN, seen)]


def _budgets(desk: ControlDesk) -> list[Shown]:
    names = _names(desk.charter)
    grants: dict[Labels, float] = {
        (it.member, it.grant): it.percent_left / 100.0
        for it in desk.store.budgets.grants()
        if it.member in names
    }
    return [Figure(LEFT, grants)]


def _processes(desk: ControlDesk) -> list[Shown]:
    found = desk.processes.all()
    return [
        Figure(MEMORY, {(it.process,): float(it.resident) for it in found}),
        Figure(ALARM, {(it.process,): float(bool(it.alarm)) for it in found}),
    ]


def _names(charter: Charter) -> list[str]:
    return [it.name for it in charter.members]


def _by_name(family: Family, counts: Mapping[str, int]) -> Figure:
    return Figure(family, {(name,): float(count) for name, count in counts.items()})
