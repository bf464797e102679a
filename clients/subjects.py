"""What a request is about: for the lines of the log, and for the record of what leaves."""

from __future__ import annotations

from hansa.contract.blind_messages import ApplyRequest
from hansa.contract.messages import JobRequest, Request, TrainRequest


def subject_of(body: Request) -> dict[str, str | int | None]:
    """What lines about a request are about."""
    order = getattr(body, "order", None)
    if order is not None:
        return {"job": order.job, "attempt": order.attempt, "round": order.base}
    plan = getattr(body, "plan", None)
    job = plan.job if plan is not None else getattr(body, "job", None)
    return {"job": job, "attempt": getattr(body, "attempt", None)}


def concerns_of(body: Request) -> tuple[str, int, str]:
    """Job, attempt and digest of the order that a request is about; empty and 0 where it is about none."""
    if isinstance(body, TrainRequest | ApplyRequest):
        return body.order.job, body.order.attempt, body.order.digest
    if isinstance(body, JobRequest):
        return body.plan.job, 0, ""
    return getattr(body, "job", ""), getattr(body, "attempt", 0), ""
