"""What a run says in its log before it begins."""

from __future__ import annotations

import logging

from hansa.contract.charter import Charter
from hansa.contract.jobs import JobPlan

log = logging.getLogger("hansa.strategy")


def announce(plan: JobPlan, charter: Charter, number: int) -> None:
    """Log what a job sets out to do.

    Parameters
    ----------
    number : the round that it starts from
    """
    protection = charter.protection
    log.info(
        "job %s: %d rounds of %s by %s, mode %s, %d members, at least %d in a cohort; starts from round %d",
        plan.job,
        plan.rounds,
        charter.task.model.name,
        plan.rule.name,
        protection.mode,
        len(charter.members),
        charter.minimum_cohort,
        number,
    )
    if protection.blind:
        log.info("mode he: the model is held by the members; this server sees neither it nor the sums")
