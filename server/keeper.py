"""Keeps jobs alive: every job that is wanted and not over has a Flower run, a new one when the last has died.

A job outlives its runs. What is decided here comes from the store alone, so control can be killed at any
moment: the worst is a second run for a job, and the lease makes the first one stop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from hansa.contract.bounded import BoundedDict
from hansa.contract.errors import ConnectionFailed, HansaError
from hansa.contract.jobs import JobStatus
from hansa.contract.logs import about
from hansa.server.records import JobRecord, RunRecord
from hansa.server.store import Store
from hansa.strategies.journal_laws import wanted_sentence

log = logging.getLogger("hansa.keeper")

RunStatus = Literal["pending", "running", "finished", "failed", "unknown"]

LOOK_EVERY_S = 0.5
# A run that ended this soon, without a new round, achieved nothing.
_QUICK = timedelta(seconds=30)
# So many of them in a row, and the job is paused with the reason.
QUICK_FAILURES = 5
_FIRST_WAIT = timedelta(seconds=1)
_LONGEST_WAIT = timedelta(seconds=30)
# A holder of a job's lease that has not said for so long that it lives is taken for dead. Flower itself notices
# after a minute; a holder that was only asleep finds its lease gone and writes nothing more.
_SILENT = timedelta(seconds=6)
# A ServerApp that runs for so long without having claimed its job died on the way there.
_UNCLAIMED = timedelta(seconds=15)
# A run that is to pause or stop may finish its attempt for so long.
_GRACE = timedelta(seconds=60)
_MOST_UNCLAIMED = 1000


class Runs(Protocol):
    """Flower's runs. Each call raises `ConnectionFailed` while the SuperLink does not answer."""

    def start(self, job: str) -> str:
        """Start a run that works on the job; its id."""
        ...

    def status(self, run: str) -> RunStatus:
        """Where the run stands; `unknown` where this SuperLink has never heard of it."""
        ...

    def stop(self, run: str) -> None:
        """End the run, if it has not ended."""
        ...


class Keeper:
    """Looks at every job that is not over, and does the next thing for it.

    Parameters
    ----------
    parallel : jobs that may run at a time; the others wait in the order of submission
    """

    def __init__(
        self,
        store: Store,
        runs: Runs,
        *,
        parallel: int = 1,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._runs = runs
        self._parallel = parallel
        self._now = now
        self._reachable = True
        # When each unclaimed run was first seen at work; a run may wait long for an executor before that.
        self._at_work: BoundedDict[str, datetime] = BoundedDict(_MOST_UNCLAIMED)

    def run(self, ended: threading.Event) -> None:
        """Look again and again until `ended` is set."""
        while not ended.wait(LOOK_EVERY_S):
            try:
                self.look()
            except Exception:
                # The keeper must outlive whatever one look ran into: a full disk, a store that is away.
                log.exception("the keeper could not look after the jobs; trying again")

    def look(self) -> None:
        """Do what is due now, for every job."""
        try:
            self._end_runs_of_jobs_that_are_over()
            room = self._parallel
            for job in self._store.jobs.unfinished():
                with about(job=job.job):
                    room -= self._look_after(job, room)
        except ConnectionFailed as error:
            if self._reachable:
                log.warning("%s; jobs wait until it is back", error)
            self._reachable = False
            return
        self._reachable = True

    def _look_after(self, job: JobRecord, room: int) -> bool:
        """Whether the job takes up one of the places."""
        run = self._live_run(job)
        if job.wanted != "run":
            at_work = run is not None and job.holder == holder_of(run.run)
            if not at_work or self._now() - job.updated > _GRACE:
                self._settle(job, run)
                return False
            return True
        if run is not None:
            return job.status != "paused"
        if job.status == "paused" or room <= 0:
            return False
        self._start_if_due(self._store.jobs.get(job.job))
        return True

    def _live_run(self, job: JobRecord) -> RunRecord | None:
        newest = next(iter(self._store.runs.of(job.job, limit=1)), None)
        if newest is None or newest.ended is not None:
            return None
        status = self._runs.status(newest.run)
        if status in ("pending", "running"):
            if not self._is_silent(job, newest, status):
                return newest
            status = "failed"
            self._runs.stop(newest.run)
        self._store.runs.ended(newest, status)
        log.info("run %s of job %s is over: %s", newest.run, job.job, status)
        return None

    def _is_silent(self, job: JobRecord, run: RunRecord, status: RunStatus) -> bool:
        """Whether the process behind a run that Flower takes to be alive has died."""
        now = self._now()
        if job.holder == holder_of(run.run):
            self._at_work.pop(run.run, None)
            return now - job.renewed >= _SILENT
        if status != "running":
            return False
        return now - self._at_work.setdefault(run.run, now) >= _UNCLAIMED

    def _start_if_due(self, job: JobRecord) -> None:
        # Read anew: the run that has just ended may have been the one that finished the job.
        if job.status not in ("queued", "running") or job.wanted != "run":
            return
        runs = self._store.runs.of(job.job, limit=QUICK_FAILURES)
        failures = quick_failures(runs, since=job.queued)
        if failures >= QUICK_FAILURES:
            reason = f"{failures} runs in a row ended without a new round; the last: {self._last_words(job)}"
            log.error("job %s is paused: %s", job.job, reason)
            self._store.jobs.settle(job.job, "paused", reason, "keeper")
            return
        if runs and runs[0].ended is not None and self._now() < runs[0].ended + wait_after(failures):
            return
        try:
            run = self._runs.start(job.job)
        except ConnectionFailed:
            raise
        except HansaError as error:
            self._store.jobs.settle(job.job, "paused", f"no run could be started: {error}", "keeper")
            log.error("job %s is paused: no run could be started: %s", job.job, error)
            return
        self._store.runs.started(job.job, run)
        log.info("run %s works on job %s, from round %d on", run, job.job, job.round)

    def _settle(self, job: JobRecord, run: RunRecord | None) -> None:
        status: JobStatus = "stopped" if job.wanted == "stop" else "paused"
        if run is not None:
            self._runs.stop(run.run)
            self._store.runs.ended(run, "stopped")
        if self._store.jobs.get(job.job).status not in (status, "finished"):
            reason = wanted_sentence(status, job.wanted_by, job.wanted_reason)
            self._store.jobs.settle(job.job, status, reason, "keeper", wanted=job.wanted)

    def _end_runs_of_jobs_that_are_over(self) -> None:
        for run in self._store.runs.live_of_jobs_over():
            status = self._runs.status(run.run)
            if status not in ("pending", "running"):
                self._store.runs.ended(run, status)

    def _last_words(self, job: JobRecord) -> str:
        said = [it.sentence for it in self._store.history.newest_events(job.job, kind="run-failed", limit=1)]
        return said[0] if said else "it left no reason; see the ServerApp's log"


def holder_of(run: str) -> str:
    """The name under which a run holds its job's lease."""
    return f"run {run}"


def quick_failures(runs: Sequence[RunRecord], *, since: datetime) -> int:
    """How many of the newest runs in a row (newest first) ended soon and without a new round."""
    count = 0
    for run in runs:
        if run.started < since or run.ended is None or run.outcome == "unknown":
            break
        if run.ended - run.started > _QUICK or (run.round_after or 0) > run.round_before:
            break
        count += 1
    return count


def wait_after(failures: int) -> timedelta:
    """How long to wait before the next run, after so many quick failures: none, 1, 2, 4 … 30 s."""
    if failures == 0:
        return timedelta(0)
    return min(_FIRST_WAIT * int(2 ** (failures - 1)), _LONGEST_WAIT)


def keep(keeper: Keeper) -> Callable[[], None]:
    """Run a keeper in a thread of its own; the answer ends it and waits for its last look."""
    ended = threading.Event()
    thread = threading.Thread(target=keeper.run, args=(ended,), name="keeper", daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join(timeout=10)

    return end
