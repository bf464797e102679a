"""What has happened: rounds, attempts, metrics, events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from hansa.server.control.access import may_read
from hansa.server.control.desk import Desk
from hansa.server.control.problems import RESPONSES, NotThere
from hansa.server.records import AttemptRecord, DecisionRecord, EventRecord, MetricRecord, RoundRecord
from hansa.server.replies import KeptRound

router = APIRouter(prefix="/v1", dependencies=[Depends(may_read)], responses=RESPONSES)

After = Annotated[int, Query(ge=0, description="Only those with a number above this")]
Limit = Annotated[int, Query(ge=1, le=10_000)]


@router.get("/jobs/{job}/rounds", tags=["rounds"], summary="Rounds of a job, the newest last")
def list_rounds(job: str, desk: Desk, after: After = 0, limit: Limit = 1000) -> list[RoundRecord]:
    """Each with who took part, and the figures of the model it led to once they are known."""
    return desk.store.history.rounds(desk.job(job).job, after=after, limit=limit)


@router.get("/jobs/{job}/rounds/{number}", tags=["rounds"], summary="One round")
def show_round(job: str, number: int, desk: Desk) -> RoundRecord:
    """One applied train attempt."""
    found = desk.store.history.round(desk.job(job).job, number)
    if found is None:
        raise NotThere(f"job {job} has no round {number}")
    return found


@router.get("/jobs/{job}/attempts", tags=["rounds"], summary="Attempts of a job, the newest last")
def list_attempts(job: str, desk: Desk, after: After = 0, limit: Limit = 1000) -> list[AttemptRecord]:
    """Open, applied and failed ones alike."""
    return desk.store.history.attempts(desk.job(job).job, after=after, limit=limit)


@router.get("/jobs/{job}/metrics", tags=["rounds"], summary="Released figures of a job's models")
def list_metrics(
    job: str,
    desk: Desk,
    after: Annotated[int, Query(ge=-1, description="Only models of rounds above this")] = -1,
    name: str | None = None,
    limit: Limit = 10_000,
) -> list[MetricRecord]:
    """`round` is the model that was measured; 0 is the initial one."""
    return desk.store.history.metrics(desk.job(job).job, after=after, name=name, limit=limit)


@router.get("/jobs/{job}/decisions", tags=["decisions"], summary="What was decided about a job, and why")
def list_decisions(job: str, desk: Desk, after: After = 0, limit: Limit = 1000) -> list[DecisionRecord]:
    """By probes and the sidecar, each with the figures it was made from; the newest last."""
    return desk.store.decisions.of(desk.job(job).job, after=after, limit=limit)


@router.get("/jobs/{job}/kept", tags=["rounds"], summary="Rounds that a job can go back to")
def list_kept(job: str, desk: Desk) -> list[KeptRound]:
    """Those whose states are kept, the newest last."""
    kept = desk.store.jobs.kept(desk.job(job).job)
    return [KeptRound(round=number, best=best) for number, best in sorted(kept.items())]


@router.get("/events", tags=["events"], summary="The event log, the newest last")
def list_events(
    desk: Desk, after: After = 0, job: str | None = None, limit: Limit = 1000
) -> list[EventRecord]:
    """Ask again with `after` set to the last id seen."""
    return desk.store.history.events(after=after, job=None if job is None else desk.job(job).job, limit=limit)
