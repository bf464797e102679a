"""Jobs: submit, look at, pause, resume, stop, roll back; and the released model."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from hansa.contract.decisions import Decision
from hansa.contract.errors import InputError
from hansa.contract.jobs import JobPlan
from hansa.server.control.access import may_read, may_steer, may_write
from hansa.server.control.desk import ControlDesk, Desk
from hansa.server.control.problems import RESPONSES, Conflict
from hansa.server.control.release import describe, tensors
from hansa.server.control.submission import check_knob, read_plan
from hansa.server.records import DecisionRecord, JobRecord, RunRecord
from hansa.server.replies import (
    OPERATOR,
    Decided,
    JobText,
    Recovered,
    Release,
    Rollback,
    RolledBack,
    StartedJob,
    Wish,
)
from hansa.server.store.jobs import OVER
from hansa.strategies.audit_groups import MOST_ROUNDS

reading = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(may_read)], responses=RESPONSES)
writing = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(may_write)], responses=RESPONSES)
steering = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(may_steer)], responses=RESPONSES)

# A request without a body is the operator's.
_NOBODY_ELSE = Wish()


@reading.get("", summary="All jobs, the newest last")
def list_jobs(desk: Desk, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000) -> list[JobRecord]:
    """The newest `limit` jobs in the order of submission."""
    return desk.store.jobs.all(limit=limit)


@writing.post("", status_code=201, summary="Submit a job")
def submit(plan: JobPlan, desk: Desk) -> JobRecord:
    """Queue a job. The same plan sent again, after an answer that was lost, is the same job."""
    return desk.submit(plan)


@writing.post("/text", status_code=201, summary="Submit a job as it stands in a file")
def submit_text(body: JobText, desk: Desk) -> JobRecord:
    """TOML with the fields of a scenario's job, and its name and pins; without a name that of the job it is like."""
    like = None if body.like is None else desk.job(body.like)
    return desk.submit(read_plan(body.toml, like.name if like else desk.charter.name, desk.charter))


@writing.post("/started", status_code=201, summary="Submit a job that starts from a model")
def submit_started(body: StartedJob, desk: Desk) -> JobRecord:
    """Its weights come with the plan that names them, once; not in mode `he`, where members take their own."""
    return desk.submit(body.plan, body.array())


@reading.get("/{job}", summary="One job")
def show(job: str, desk: Desk) -> JobRecord:
    """A job by its id, or by the beginning of it where only one begins so."""
    return desk.job(job)


@writing.post("/{job}/stop", summary="Stop a job")
def stop(job: str, desk: Desk) -> JobRecord:
    """The attempt under way is finished first; `resume` goes on from the last round."""
    return desk.store.jobs.want(desk.job(job).job, "stop", OPERATOR)


@steering.post("/{job}/pause", summary="Pause a job")
def pause(job: str, desk: Desk, wish: Wish = _NOBODY_ELSE) -> JobRecord:
    """The attempt under way is finished first."""
    return desk.store.jobs.want(desk.job(job).job, "pause", wish.by, wish.reason, only_own=wish.only_own)


@writing.post("/{job}/resume", summary="Resume a job from its last round")
def resume(job: str, desk: Desk, wish: Wish = _NOBODY_ELSE) -> JobRecord:
    """Queue a paused, stopped or failed job again; nothing changes for one that runs."""
    return desk.resume(desk.job(job), wish.by, wish.reason, only_own=wish.only_own)


@writing.post("/{job}/rollback", summary="Take a paused job back to an earlier round")
def roll_back(job: str, body: Rollback, desk: Desk) -> RolledBack:
    """The rounds after it are undone, what they cost members is not; `resume` goes on from there."""
    found, newest = desk.store.jobs.roll_back(desk.job(job).job, body.to, by=body.by, reason=body.reason)
    return RolledBack(job=found, from_round=newest)


@steering.post("/{job}/decisions", tags=["decisions"], summary="Enter a decision, and set the knobs it names")
def decide(job: str, body: Decided, desk: Desk) -> DecisionRecord:
    """All or nothing. A key that is there already is not decided again: the answer is what was decided then."""
    found = desk.job(job)
    _check_decision(body.decision, desk)
    if found.status in OVER and body.decision.knobs:
        raise Conflict(f"job {found.job} is {found.status}; its knobs do nothing any more")
    return desk.store.decisions.keep(found.job, body.decision, expected=body.expected)


@steering.post("/{job}/recover", tags=["decisions"], summary="Take a running job back to a kept round")
def recover(job: str, body: Recovered, desk: Desk) -> JobRecord:
    """At the knobs that the decision names, at once and in one piece; the rounds after it are undone, not refunded."""
    _check_decision(body.decision, desk)
    return desk.store.jobs.recover(
        desk.job(job).job, body.to, undoes=body.undoes, decision=body.decision, expected=body.expected
    )


def _check_decision(decision: Decision, desk: ControlDesk) -> None:
    if decision.by == "probe":
        raise Conflict("what a probe found is entered by the run that had it made")
    for name, value in decision.knobs.items():
        check_knob(name, value, desk.charter, field=f"decision.knobs.{name}")
    if decision.by == "audit":
        first, last = decision.inputs.get("first"), decision.inputs.get("last")
        if not (isinstance(first, int) and isinstance(last, int) and 0 < first <= last < first + MOST_ROUNDS):
            raise InputError(
                f"field 'decision.inputs': an audit goes from round first to round last, at most {MOST_ROUNDS} of them"
            )


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
