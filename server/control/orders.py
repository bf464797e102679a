"""What the operator's key signs: requests that fit the charter, the job and its open attempt, nothing else.

Pure functions over facts; each check either returns or raises `Conflict` with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from hansa.contract.charter import Charter
from hansa.contract.messages import (
    MAX_HEADER_BYTES,
    SERVED,
    AgreeRequest,
    CloseRequest,
    HelloRequest,
    JobRequest,
    Order,
    RequestHeader,
    SegmentHeader,
    TrainRequest,
    UnmaskRequest,
    WitnessRequest,
)
from hansa.contract.typed import canonical_json, explain
from hansa.server.control.problems import Conflict
from hansa.server.records import AttemptRecord, JobRecord

_LONGEST_NONCE = 200
# Which arrays may stand behind which request.
_SEGMENTS = {"attempt": {"weights", "released"}, "close": {"released"}}


@dataclass(frozen=True)
class Facts:
    """What the checks are made against."""

    charter: Charter
    charter_hash: str
    job: JobRecord
    attempt: AttemptRecord | None


def parse_header(content: bytes) -> RequestHeader:
    """A header as the agent will read it; only its canonical bytes are signed."""
    if len(content) > MAX_HEADER_BYTES:
        raise Conflict(f"a header of {len(content)} bytes is above the limit of {MAX_HEADER_BYTES}")
    try:
        header = RequestHeader.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise Conflict(f"not a request's header: {explain(error)}") from None
    if canonical_json(header) != content:
        raise Conflict("the header is not in its canonical form")
    return header


def check_request(header: RequestHeader, facts: Facts) -> None:
    """Whether the operator says this to a member now."""
    if header.charter != facts.charter_hash:
        raise Conflict(f"the request is under charter {header.charter[:12]}…, not {facts.charter_hash[:12]}…")
    if facts.job.charter != facts.charter_hash:
        raise Conflict(f"job {facts.job.job} was submitted under another charter; submit a new job")
    body = header.body
    strange = {it.name for it in header.segments} - _SEGMENTS.get(body.type, set())
    if strange:
        raise Conflict(f"a request '{body.type}' carries no segment '{min(strange)}'")
    if isinstance(body, WitnessRequest):
        raise Conflict(f"mode '{facts.charter.protection.mode}' has no witnesses")
    if not isinstance(body, HelloRequest):
        _check_job(body, facts.job)
    match body:
        case HelloRequest():
            _check_hello(body)
        case JobRequest():
            if body.plan != facts.job.plan:
                raise Conflict(f"the plan is not the one that was submitted as job {facts.job.job}")
        case TrainRequest():
            _check_attempt(body, header.segments, facts)
        case AgreeRequest() | UnmaskRequest():
            _check_active(body, facts)
        case CloseRequest():
            _check_close(body, facts.job)


def _check_job(
    body: JobRequest | TrainRequest | AgreeRequest | UnmaskRequest | CloseRequest, job: JobRecord
) -> None:
    match body:
        case JobRequest():
            named = body.plan.job
        case TrainRequest():
            named = body.order.job
        case _:
            named = body.job
    if named != job.job:
        raise Conflict(f"the request is about job {named}, signatures were asked for job {job.job}")
    if job.status in ("stopped", "failed") and not isinstance(body, CloseRequest):
        raise Conflict(f"job {job.job} is {job.status}; nothing more is asked of members in its name")


def _check_hello(body: HelloRequest) -> None:
    if body.protocols != SERVED:
        raise Conflict(f"hello names protocols {list(body.protocols)}; this server speaks {list(SERVED)}")
    if len(body.nonce) > _LONGEST_NONCE:
        raise Conflict("hello carries a nonce that is too long")


def _check_attempt(body: TrainRequest, segments: Sequence[SegmentHeader], facts: Facts) -> None:
    order, attempt = body.order, _open(body.order.attempt, facts)
    if body.proof or order.prekeys:
        raise Conflict(f"mode '{facts.charter.protection.mode}' has no prekeys or proofs")
    if order.arrays != {it.name: it.sha256 for it in segments}:
        raise Conflict(f"the arrays of attempt {order.attempt} are not those that its order names")
    asked = (order.kind, order.base, order.cohort, order.left_out, order.knobs)
    if asked != (attempt.kind, attempt.base, attempt.cohort, attempt.left_out, attempt.knobs):
        raise Conflict(f"the order of attempt {order.attempt} is not the one in the store")
    _check_cohort(order, facts.charter)
    _check_knobs(order, facts)
    if order.kind == "train" and order.evaluate and order.base % facts.charter.metrics.every:
        raise Conflict(f"the charter has the model evaluated every {facts.charter.metrics.every} rounds only")
    for member in facts.charter.members:
        if member.name not in order.cohort and not order.left_out.get(member.name, "").strip():
            raise Conflict(f"{member.name} is left out without a reason")


def _check_cohort(order: Order, charter: Charter) -> None:
    members = {member.name: member for member in charter.members}
    for name in (*order.cohort, *order.left_out):
        if name not in members:
            raise Conflict(f"'{name}' is not a member of the charter")
    if len(set(order.cohort)) != len(order.cohort) or set(order.cohort) & set(order.left_out):
        raise Conflict(f"attempt {order.attempt} names a member twice")
    controllers = charter.controllers(order.cohort)
    if len(controllers) < charter.minimum_cohort:
        raise Conflict(
            f"a cohort of {len(controllers)} controllers is below the charter's minimum of {charter.minimum_cohort}"
        )


def _check_knobs(order: Order, facts: Facts) -> None:
    for name, value in order.knobs.items():
        bounds = facts.charter.knobs.get(name)
        if bounds is None or not bounds.low <= value <= bounds.high:
            raise Conflict(f"knob {name} = {value:g} is outside what the charter allows")
    for name, value in facts.job.plan.pinned.items():
        if order.knobs.get(name) != value:
            raise Conflict(f"knob {name} is pinned to {value:g} in this job")


def _check_active(body: AgreeRequest | UnmaskRequest, facts: Facts) -> None:
    attempt, charter = _open(body.attempt, facts), facts.charter
    if not set(body.active) <= set(attempt.cohort) or len(set(body.active)) != len(body.active):
        raise Conflict(f"the active set of attempt {body.attempt} is not a part of its cohort")
    controllers = charter.controllers(body.active)
    if len(controllers) < charter.least_active:
        raise Conflict(
            f"an active set of {len(controllers)} controllers is below the least of {charter.least_active}"
        )
    if attempt.active is not None and attempt.active != body.active:
        raise Conflict(
            f"another active set of attempt {body.attempt} was signed before; there is one for each attempt"
        )


def _check_close(body: CloseRequest, job: JobRecord) -> None:
    over = job.status in ("finished", "stopped") or job.wanted == "stop" or job.round >= job.plan.rounds
    if not over:
        raise Conflict(
            f"job {job.job} is {job.status} at round {job.round} of {job.plan.rounds}; it is not over"
        )
    if body.rounds != job.round:
        raise Conflict(f"close names {body.rounds} rounds; the job has {job.round}")


def _open(number: int, facts: Facts) -> AttemptRecord:
    if facts.attempt is None:
        raise Conflict(f"job {facts.job.job} has no open attempt; attempt {number} is not signed")
    if facts.attempt.attempt != number:
        raise Conflict(f"attempt {number} is not open; attempt {facts.attempt.attempt} is")
    return facts.attempt
