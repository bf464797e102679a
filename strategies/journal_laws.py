"""The laws every journal keeps, over SQL or in memory: what an attempt's result may look like.

An attempt is opened once, closed once and by its own facts; a round is the next number and has its state. A job
goes back to a round whose state is kept: the rounds above it are gone, their attempts stay and their charges, too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from hansa.contract.errors import HansaError, InputError
from hansa.contract.jobs import AttemptKind, AttemptResult, AttemptStatus, JobStatus
from hansa.contract.typed import clipped
from hansa.strategies.ports import Arrays

# So many of the newest states a journal keeps, beside that of the best evaluated round.
KEPT = 8
# Figures by which one model is better than another, first found counts; True where higher is better.
_BETTER = (("log_loss", False), ("rmse", False), ("auc", True), ("accuracy", True))


@dataclass(frozen=True)
class OpenedAttempt:
    """An attempt as it was opened, and where it stands."""

    attempt: int
    kind: AttemptKind
    status: AttemptStatus
    base: int
    cohort: tuple[str, ...]


def check_opening(base: int, cohort: Sequence[str], newest_round: int) -> None:
    """Raise `ValueError` for a base that is not there, or a cohort that is empty or names one twice."""
    if not 0 <= base <= newest_round:
        raise ValueError(f"base {base} is not a round of this job; the newest is {newest_round}")
    if not cohort or len(set(cohort)) != len(cohort):
        raise ValueError(f"a cohort names each member once and at least one, not {list(cohort)}")


def check_result(
    result: AttemptResult, state: Arrays | None, *, job: str, opened: OpenedAttempt | None, newest_round: int
) -> None:
    """Raise `ValueError` unless this result may close that attempt.

    Parameters
    ----------
    state : the state the attempt led to; present exactly where a round was applied, or a contract check was
        evaluated, which is what round 0 then starts from
    opened : the attempt of that number, None where there is none
    newest_round : the job's newest applied round
    """
    number = result.attempt
    if result.job != job:
        raise ValueError(f"attempt {number} belongs to job {result.job}, this journal to {job}")
    if opened is None:
        raise ValueError(f"attempt {number} was never opened")
    if opened.status not in ("open", "summed"):
        raise ValueError(f"attempt {number} is already {opened.status}")
    if result.status in ("open", "summed", "abandoned", "undone"):
        raise ValueError(f"attempt {number} cannot be closed as '{result.status}'")
    if (result.kind, result.base, result.cohort) != (opened.kind, opened.base, opened.cohort):
        raise ValueError(f"attempt {number} was opened with another kind, base or cohort")
    if not set(result.active) <= set(result.cohort):
        raise ValueError(f"attempt {number}: active members outside the cohort")
    members = [part.member for part in result.participation]
    if len(set(members)) != len(members) or not set(members) <= set(result.cohort):
        raise ValueError(f"attempt {number}: participation names each member of the cohort at most once")
    applied = result.status == "applied"
    checked = result.kind == "statistics" and result.status == "evaluated"
    if applied != (result.round is not None) or (applied or checked) != (state is not None):
        raise ValueError(f"attempt {number}: a round, its state and the status 'applied' come together")
    if checked and newest_round:
        raise ValueError(f"attempt {number}: a contract check comes before round 1, not after {newest_round}")
    if applied and result.kind != "train":
        raise ValueError(f"attempt {number}: only a train attempt becomes a round")
    if applied and result.round != newest_round + 1:
        raise ValueError(f"attempt {number}: round {result.round} does not follow round {newest_round}")


def check_tried(tried: AttemptResult, opened: OpenedAttempt | None, *, base: int) -> None:
    """Raise `ValueError` unless a probe from that base may try the step of this attempt, whose sum is known."""
    number = tried.attempt
    if opened is None or opened.status not in ("open", "summed"):
        raise ValueError(f"attempt {number} is not under way; nothing of it is tried")
    if (tried.status, tried.kind, opened.kind) != ("summed", "train", "train") or not tried.active:
        raise ValueError(f"attempt {number} has no step to try")
    if (tried.base, tried.cohort, base) != (opened.base, opened.cohort, opened.base):
        raise ValueError(f"attempt {number} was opened with another base or cohort than its probe has")


def check_probe(train: AttemptResult, probe: AttemptResult) -> None:
    """Raise `ValueError` unless these are a step and the evaluation that tried it."""
    if (train.kind, probe.kind, probe.status) != ("train", "evaluate", "evaluated"):
        raise ValueError("a probe is an evaluation of a train attempt's step")
    if probe.base != train.base or probe.attempt <= train.attempt:
        raise ValueError(f"attempt {probe.attempt} did not try the step of attempt {train.attempt}")
    if train.status != "applied":
        raise ValueError(
            f"attempt {probe.attempt} tried the step of attempt {train.attempt}, which was not applied"
        )


def check_receipts(attempt: int, members: Iterable[str], opened: OpenedAttempt | None) -> None:
    """Raise `ValueError` for receipts of an attempt that was never opened, or of members it did not ask."""
    if opened is None:
        raise ValueError(f"attempt {attempt} was never opened")
    if strangers := sorted(set(members) - set(opened.cohort)):
        raise ValueError(f"attempt {attempt}: a receipt of {strangers[0]}, who is not in the cohort")


def check_rollback(job: str, status: JobStatus) -> None:
    """Raise `HansaError` for a job that a run may be working on, or that is finished."""
    if status == "finished":
        raise HansaError(f"job {job} is finished; its rounds are not undone any more")
    if status in ("queued", "running"):
        raise HansaError(
            f"job {job} is {status}, and a run may be working on it; pause it first with: hansa jobs pause"
        )


def rollback_target(asked: int | None, *, newest: int, kept: Collection[int], best: int | None) -> int:
    """The round that a job goes back to: the one asked for, else the best evaluated one.

    Parameters
    ----------
    newest : the job's newest round
    kept : rounds whose states are kept
    best : the best evaluated one of them; None where none was evaluated

    Raises
    ------
    InputError : it is not kept, or is not before the newest one; says which are
    """
    earlier = sorted(number for number in kept if number < newest)
    wanted = best if asked is None else asked
    if wanted in earlier:
        return wanted
    wrong = "no round that is kept was evaluated" if wanted is None else f"round {wanted} is not kept"
    if wanted == newest:
        wrong = f"round {wanted} is the newest one" + (" and the best" if asked is None else "")
    which = f"round {' or '.join(map(str, earlier))}" if earlier else "no round"
    raise InputError(f"{wrong}: the job is at round {newest} and can go back to {which}")


def undone_sentence(to: int, reason: str) -> str:
    """Why an attempt counts no more."""
    return f"the job went back to round {to}: {reason}"


def rollback_sentence(by: str, newest: int, to: int, reason: str) -> str:
    """What the event log says of it."""
    return f"{by} took the job back from round {newest} to round {to}; charges stay: {reason}"


def wanted_sentence(status: JobStatus, by: str, reason: str) -> str:
    """Why a job is paused or stopped that somebody asked to be."""
    who = "the operator" if by == "operator" else by
    return clipped(f"{status} by {who}" + (f": {reason}" if reason else ""))


def fork_sentence(member: str, sequence: int) -> str:
    """What is said of a member whose ledger has two hashes for one row (PROTOCOL section 7)."""
    return (
        f"ledger-fork: {member} signed two hashes for row {sequence} of its ledger; "
        "one of the two ledgers is a copy: 'hansa budgets verify' at the organisation says which"
    )


def goodness(metrics: dict[str, float]) -> float | None:
    """One number that is higher for a better model; None where no known figure is there."""
    for name, higher in _BETTER:
        if name in metrics:
            return metrics[name] if higher else -metrics[name]
    return None


def best_round(figures: Mapping[int, dict[str, float]]) -> int | None:
    """Of rounds with their figures the best evaluated one, the latest of equals; None where none was evaluated."""
    found = {number: goodness(it) for number, it in figures.items() if it}
    return max(found, key=lambda it: (-math.inf if found[it] is None else found[it], it), default=None)
