"""Jobs that a member was asked to take part in: what it says yes to, and what it takes no part in any more."""

from __future__ import annotations

from collections.abc import Mapping

from hansa.clients.attempt_log import AttemptLog
from hansa.clients.budget import Budget
from hansa.clients.checks import check_knobs
from hansa.contract.charter import Charter
from hansa.contract.errors import InputError, RefusalError
from hansa.contract.jobs import AttemptKind, JobPlan
from hansa.contract.messages import Order
from hansa.contract.plan import check_mechanism, check_rule


def propose(
    plan: JobPlan,
    attempts: AttemptLog,
    charter: Charter,
    budget: Budget | None = None,
    *,
    limited: bool = False,
) -> dict[str, float]:
    """Note a job and approve it where the charter has that done automatically; returns its noise by segment.

    Parameters
    ----------
    limited : the newest order of the job was refused for its unfinished attempts, with all proofs that it brought

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
    if budget is None:
        return {}
    noise = budget.noise(plan.job)
    _check_next(plan, attempts, budget, limited)
    return noise


def _check_next(plan: JobPlan, attempts: AttemptLog, budget: Budget, limited: bool) -> None:
    """Refuse a job whose next attempt would not be paid: the operator asks again, and no attempt is spoilt meanwhile.

    Once there were as many attempts as the plan has, an evaluation may be all that is left. Of how many did not
    finish an order says more than is known here: it brings the proofs of those that did.
    """
    with budget.ledger.held() as book:
        job = book.jobs[plan.job]
        assert job.approval is not None
        noise, charged = budget.noise_of(book, job.approval), job.charged
        newest = attempts.newest(plan.job)
        number = max([0 if newest is None else newest.attempt, *charged]) + 1
        kinds: list[AttemptKind] = ["train"]
        if len(charged) >= plan.rounds + int(plan.check):
            kinds.append("evaluate")
        refused = [_refusal(plan, kind, number, budget, noise) for kind in kinds]
    if not limited and any(it is not None and it.code == "attempt-limit" for it in refused):
        return
    if all(refused) and refused[0] is not None:
        raise refused[0]


def _refusal(
    plan: JobPlan, kind: AttemptKind, number: int, budget: Budget, noise: Mapping[str, float]
) -> RefusalError | None:
    """What an attempt with this member's own noise would be refused with."""
    order = Order(job=plan.job, attempt=number, kind=kind, base=0, cohort=("me",), noise=dict(noise))
    try:
        budget.check(plan, order)
    except RefusalError as refusal:
        return refusal
    return None


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
