"""Jobs: submit, look at, pause, resume, stop, roll back; and the released model."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from hansa.contract.jobs import JobPlan
from hansa.server.control.access import may_read, may_write
from hansa.server.control.desk import Desk
from hansa.server.control.problems import RESPONSES
from hansa.server.control.release import describe, tensors
from hansa.server.records import JobRecord, RunRecord
from hansa.server.replies import OPERATOR, Release, Rollback, RolledBack

reading = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(may_read)], responses=RESPONSES)
writing = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(may_write)], responses=RESPONSES)


@reading.get("", summary="All jobs, the newest last")
def list_jobs(desk: Desk, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000) -> list[JobRecord]:
    """The newest `limit` jobs in the order of submission."""
    return desk.store.jobs.all(limit=limit)


@writing.post("", status_code=201, summary="Submit a job")
def submit(plan: JobPlan, desk: Desk) -> JobRecord:
    """Queue a job. The same plan sent again, after an answer that was lost, is the same job."""
    return desk.submit(plan)


@reading.get("/{job}", summary="One job")
def show(job: str, desk: Desk) -> JobRecord:
    """A job by its id, or by the beginning of it where only one begins so."""
    return desk.job(job)


@writing.post("/{job}/stop", summary="Stop a job")
def stop(job: str, desk: Desk) -> JobRecord:
    """The attempt under way is finished first; `resume` goes on from the last round."""
    return desk.store.jobs.want(desk.job(job).job, "stop", OPERATOR)


@writing.post("/{job}/pause", summary="Pause a job")
def pause(job: str, desk: Desk) -> JobRecord:
    """The attempt under way is finished first."""
    return desk.store.jobs.want(desk.job(job).job, "pause", OPERATOR)


@writing.post("/{job}/resume", summary="Resume a job from its last round")
def resume(job: str, desk: Desk) -> JobRecord:
    """Queue a paused, stopped or failed job again; nothing changes for one that runs."""
    return desk.store.jobs.want(desk.job(job).job, "run", OPERATOR)


@writing.post("/{job}/rollback", summary="Take a paused job back to an earlier round")
def roll_back(job: str, body: Rollback, desk: Desk) -> RolledBack:
    """The rounds after it are undone, what they cost members is not; `resume` goes on from there."""
    found, newest = desk.store.jobs.roll_back(desk.job(job).job, body.to, by=body.by, reason=body.reason)
    return RolledBack(job=found, from_round=newest)


@reading.get("/{job}/runs", summary="Flower's runs that worked on a job")
def list_runs(job: str, desk: Desk) -> list[RunRecord]:
    """The newest runs, the newest first."""
    return list(desk.store.runs.of(desk.job(job).job))


@reading.get("/{job}/model", summary="What the released model is")
def model(job: str, desk: Desk) -> Release:
    """The model's columns, label and figures; its weights are in `model.safetensors`."""
    return describe(desk, desk.job(job))


@reading.get(
    "/{job}/model.safetensors",
    summary="The released model's weights",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "safetensors"}},
)
def model_tensors(job: str, desk: Desk) -> Response:
    """A safetensors file with one tensor `weights`, f64[d]."""
    return Response(tensors(desk, desk.job(job)), media_type="application/octet-stream")
