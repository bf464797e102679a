"""Following a job through control: what changed since the last look, until it is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hansa.cli.control_client import Control
from hansa.cli.results import RoundLine
from hansa.cli.starting import StartFile, submit_from
from hansa.contract.errors import ConnectionFailed
from hansa.contract.jobs import JobPlan
from hansa.server.records import EventRecord, JobRecord, RoundRecord

LOOK_EVERY_S = 0.25
OVER = ("finished", "failed", "stopped", "paused")


@dataclass
class Followed:
    """A job as it is known so far."""

    job: JobRecord
    rounds: dict[int, RoundRecord] = field(default_factory=dict)
    events: list[EventRecord] = field(default_factory=list)
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    # Why the last look did not work; empty where it did.
    problem: str = ""

    @property
    def over(self) -> bool:
        """Nothing more will come of it by itself."""
        return self.job.status in OVER

    @property
    def lines(self) -> list[RoundLine]:
        """Applied rounds, in order."""
        return [
            RoundLine(number, record.seconds, record.active, record.metrics)
            for number, record in sorted(self.rounds.items())
        ]


def start_job(control: Control, plan: JobPlan, start: StartFile | None = None) -> tuple[JobRecord, str]:
    """Submit a job, unless an unfinished one is there that it would wait behind: then that one, and a sentence.

    A job that somebody paused stays so: another one is submitted, and the sentence says which.
    """
    known = control.jobs()
    for job in known:
        if job.status in ("queued", "running") and job.wanted == "run":
            return job, (
                f"going on with job {job.job[:8]}, which stands at round {job.round} of {job.plan.rounds}; "
                "no new job is submitted"
            )
    begun, sentence = (control.submit(plan), "") if start is None else submit_from(control, plan, start)
    paused = [it for it in known if it.status == "paused"]
    if paused:
        job = paused[-1]
        beside = (
            f"job {begun.job[:8]} is a new one; job {job.job[:8]} stays paused at round {job.round} of "
            f"{job.plan.rounds}, go on with it: hansa jobs resume {job.job[:8]}"
        )
        sentence = f"{sentence}; {beside}" if sentence else beside
    return begun, sentence


def follow(
    control: Control,
    job: JobRecord,
    *,
    wait: Callable[[float], bool],
    seen: Callable[[Followed], None],
    check: Callable[[], None] = lambda: None,
) -> Followed:
    """Look at a job until it is over or `wait` says that somebody interrupted.

    Parameters
    ----------
    wait : sleeps for seconds; True ends the following
    seen : called after each look
    check : may raise to end the following, e.g. because a process gave up
    """
    followed = Followed(job)
    while True:
        check()
        try:
            look(control, followed)
            followed.problem = ""
        except ConnectionFailed as error:
            # Control may be starting again; the job does not depend on it being looked at.
            followed.problem = str(error)
        seen(followed)
        if (followed.over and not followed.problem) or wait(LOOK_EVERY_S):
            return followed


def look(control: Control, followed: Followed) -> None:
    """Ask control for what is new."""
    # The job first: when it is over, all that follows is complete.
    followed.job = control.job(followed.job.job)
    # A job that went back has other rounds from there on.
    followed.rounds = {it: record for it, record in followed.rounds.items() if it <= followed.job.round}
    # The newest known round is asked for again: its figures come with the next attempt.
    newest = max(followed.rounds, default=0)
    for record in control.rounds(followed.job.job, after=max(0, newest - 1)):
        followed.rounds[record.round] = record
    last = followed.events[-1].id if followed.events else 0
    followed.events += control.events(after=last)
    members = control.members()
    followed.present = tuple(it.name for it in members if it.present)
    followed.absent = tuple(it.name for it in members if not it.present)
