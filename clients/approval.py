"""Jobs that a member was asked to take part in: what it says yes to, and what it takes no part in any more."""

from __future__ import annotations

from hansa.clients.attempt_log import AttemptLog
from hansa.clients.budget import Budget
from hansa.clients.checks import check_knobs
from hansa.contract.charter import Charter
from hansa.contract.errors import InputError, RefusalError
from hansa.contract.jobs import JobPlan
from hansa.contract.plan import check_mechanism, check_rule


def propose(
    plan: JobPlan, attempts: AttemptLog, charter: Charter, budget: Budget | None = None
) -> dict[str, float]:
    """Note a job and approve it where the charter has that done automatically; returns its noise by segment.

    Raises
    ------
    RefusalError : a plan outside the charter, another one than before, a job that is not approved, or that
        no grant pays for
    """
    check_knobs(plan.pinned, charter, None)
    try:
        check_rule(plan, charter.protection.mode)
    except InputError as error:
        raise RefusalError("mode-downgrade", str(error), {"rule": plan.rule.name}) from None
    try:
        check_mechanism(plan, charter.training.mechanism)
    except InputError as error:
        raise RefusalError("not-approved", str(error)) from None
    state = attempts.ask(plan)
    if attempts.plan(plan.job) != plan:
        raise RefusalError(
            "not-approved", "the operator shows another plan for a job that was proposed before"
        )
    if charter.approval == "automatic" and state in ("asked", "approved"):
        if budget is not None:
            budget.propose(plan)
        if state == "asked":
            attempts.set_state(plan.job, "approved", "the charter approves jobs automatically")
    approved(plan.job, attempts)
    return {} if budget is None else budget.noise(plan.job)


def check_known(job: str, attempts: AttemptLog) -> None:
    """Of a job that was never proposed, or that waits for this member's yes, nothing is answered."""
    if attempts.state(job) in ("", "asked"):
        approved(job, attempts)


def check_not_frozen(job: str, attempts: AttemptLog) -> None:
    """A member that froze a job signs nothing of it and gives no share, of earlier uploads neither."""
    if attempts.state(job) == "frozen":
        approved(job, attempts)


def approved(job: str, attempts: AttemptLog) -> JobPlan:
    """The plan of a job that this member takes part in; refused for every other job."""
    state, plan = attempts.state(job), attempts.plan(job)
    if plan is None or state == "":
        raise RefusalError("not-approved", "this job was never proposed to this member", {"job": job})
    if state == "asked":
        raise RefusalError(
            "not-approved",
            f"this member has not approved the job yet: hansa jobs approve {job}",
            {"job": job},
        )
    if state == "closed":
        raise RefusalError("not-approved", "the job is closed", {"job": job})
    if state == "frozen":
        raise RefusalError("grant-frozen", "this member froze the job", {"job": job})
    return plan
