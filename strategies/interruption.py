"""A job that goes on no further in this run: paused or stopped, by the operator or for want of something."""

from __future__ import annotations

from typing import NoReturn

from hansa.contract.jobs import JobStatus
from hansa.strategies.journal_laws import wanted_sentence
from hansa.strategies.ports import Journal, Wanted


class JobInterrupted(Exception):
    """The job was paused or stopped; the journal says which and why."""


def interrupt(journal: Journal, status: JobStatus, reason: str, wanted: Wanted | None = None) -> NoReturn:
    """Write the status and why, and raise `JobInterrupted`.

    Parameters
    ----------
    wanted : what the operator asked for, where that is the reason
    """
    journal.set_status(status, reason, wanted=wanted)
    raise JobInterrupted(f"job {journal.plan.job} {status}: {reason}")


def obey(journal: Journal) -> None:
    """Interrupt the job where the operator wants that."""
    wanted = journal.wanted()
    if wanted == "pause":
        interrupt(journal, "paused", wanted_sentence("paused", *journal.wanted_by()), wanted)
    if wanted == "stop":
        interrupt(journal, "stopped", wanted_sentence("stopped", *journal.wanted_by()), wanted)
