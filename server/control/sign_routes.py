"""`POST /v1/sign`: the operator's signature, for requests that fit charter, job and open attempt."""

from __future__ import annotations

import binascii
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from hansa.contract.blind_messages import ApplyRequest
from hansa.contract.keys import from_text, to_text
from hansa.contract.messages import AgreeRequest, RequestHeader, TrainRequest, UnmaskRequest
from hansa.contract.plan import make_plan
from hansa.contract.scenario import ScenarioJob
from hansa.contract.typed import Frozen, read_toml
from hansa.contract.wire import signed_part
from hansa.server.control.access import may_sign
from hansa.server.control.desk import ControlDesk, Desk
from hansa.server.control.orders import Facts, check_request, parse_header
from hansa.server.control.problems import RESPONSES, Conflict, NotThere

router = APIRouter(prefix="/v1", tags=["sign"], dependencies=[Depends(may_sign)], responses=RESPONSES)


class SignRequest(Frozen):
    """Headers of requests of one job, each the canonical JSON in base64."""

    job: str
    headers: Annotated[list[str], Field(min_length=1, max_length=1000)]


class Signatures(Frozen):
    """64 bytes of Ed25519 in base64 for each header, in the same order."""

    signatures: list[str]


class JobName(Frozen):
    """A job's id."""

    job: str


@router.post("/sign", summary="Sign requests to members")
def sign(request: SignRequest, desk: Desk) -> Signatures:
    """Sign each header, or none: one that does not fit the charter, the job and its open attempt refuses all."""
    job = desk.store.jobs.find(request.job)
    if job is None:
        raise NotThere(f"there is no job '{request.job}'")
    contents = [_decode(text) for text in request.headers]
    headers = [parse_header(content) for content in contents]
    history = desk.store.history
    facts = Facts(
        desk.charter,
        desk.charter_hash,
        job,
        history.open_attempt(job.job),
        history.summed_attempt(job.job),
        tag=history.tag(job.job),
    )
    for header in headers:
        check_request(header, facts)
    for header in headers:
        _settle_order(header, desk)
        _settle_active(header, desk)
    return Signatures(signatures=[to_text(desk.key.sign(signed_part(content))) for content in contents])


@router.get("/next-job", summary="The job that waits longest")
def next_job(desk: Desk) -> JobName:
    """For a run that was started without naming a job."""
    for job in desk.store.jobs.unfinished():
        if job.wanted == "run" and job.status in ("queued", "running"):
            return JobName(job=job.job)
    if desk.own_job is not None:
        plan = make_plan(desk.charter.name, read_toml(desk.own_job, ScenarioJob))
        return JobName(job=desk.submit(plan).job)
    raise NotThere("no job is waiting; submit one with: hansa jobs submit")


def _settle_order(header: RequestHeader, desk: ControlDesk) -> None:
    """Bind the attempt to this order, arrays included: every member is sent the same one."""
    if not isinstance(header.body, TrainRequest | ApplyRequest):
        return
    if isinstance(header.body, TrainRequest) and header.body.pending is not None:
        _settle_order_of(header.body.pending, desk)
    _settle_order_of(header.body, desk)


def _settle_order_of(body: TrainRequest | ApplyRequest, desk: ControlDesk) -> None:
    order, signed = body.order, desk.store.signed
    if isinstance(body, ApplyRequest):
        # Of an order whose sum is to be applied every word was checked when members were asked to train on it.
        settled = signed.settled_order(order.job, order.attempt)
    else:
        settled = signed.order(order.job, order.attempt, order.digest)
    if settled is None:
        raise Conflict(f"attempt {order.attempt} is not open any more, or no member was asked to train in it")
    if settled != order.digest:
        raise Conflict(
            f"another order of attempt {order.attempt} was signed before; there is one for each attempt"
        )


def _settle_active(header: RequestHeader, desk: ControlDesk) -> None:
    match header.body:
        case AgreeRequest(job=job, attempt=number, active=active):
            pass
        case UnmaskRequest(job=job, attempt=number, active=active):
            pass
        case _:
            return
    settled = desk.store.signed.active_set(job, number, active)
    if settled is None:
        raise Conflict(f"attempt {number} is not open any more")
    if settled != active:
        raise Conflict(
            f"another active set of attempt {number} was signed before; there is one for each attempt"
        )


def _decode(text: str) -> bytes:
    try:
        return from_text(text)
    except (binascii.Error, ValueError):
        raise Conflict("a header is not valid base64") from None
