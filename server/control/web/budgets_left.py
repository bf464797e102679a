"""How long grants would last, by the server's mirror: rounds that the rest pays for at what a job's rounds took."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from hansa.server.control.web.messages import BudgetShown
from hansa.server.records import BudgetRecord, JobRecord, SpendingRecord

# Beyond this a number of rounds says nothing.
_MOST_ROUNDS = 1e9
# What is planned evenly adds up to the whole; the last rounding must not cost a round.
_ROUNDING = 1e-9


def budgets_shown(
    grants: Iterable[BudgetRecord],
    spendings: Iterable[SpendingRecord],
    job: JobRecord | None,
    apart: Collection[str] = (),
) -> list[BudgetShown]:
    """Every grant, by member and name.

    Parameters
    ----------
    spendings : those of `job`
    apart : members that take no part, whose grants are not counted on
    """
    taken = {(it.member, it.grant): it for it in spendings}
    lines = [_line(it, taken.get((it.member, it.grant)), job, it.member in apart) for it in grants]
    return sorted(lines, key=lambda it: (it.member, it.grant))


def rounds_left(grant: BudgetRecord, taken: SpendingRecord, rounds: int) -> int | None:
    """Rounds that the rest of a grant pays for; None where what one costs is not known.

    A grant keeps two sums, and the larger counts: whichever of training and measuring is full first ends it.
    Training costs what it cost last; measuring what it cost in the mean of the job's `rounds`.
    """
    ends = []
    if taken.round_cost > 0:
        ends.append((grant.amount - grant.training) / taken.round_cost)
    if taken.holdout > 0 and rounds > 0:
        ends.append((grant.amount - grant.holdout) / (taken.holdout / rounds))
    if not ends or min(ends) > _MOST_ROUNDS:
        return None
    return max(0, int(min(ends) * (1 + _ROUNDING)))


def _line(
    grant: BudgetRecord, taken: SpendingRecord | None, job: JobRecord | None, apart: bool
) -> BudgetShown:
    left = None
    if taken is not None and job is not None and not apart:
        left = rounds_left(grant, taken, job.round)
    spent = max(taken.training, taken.holdout) if taken is not None else 0.0
    return BudgetShown(
        member=grant.member,
        grant=grant.grant,
        data_set=grant.data_set,
        currency=grant.currency,
        epsilon=grant.epsilon,
        delta=grant.delta,
        epsilon_spent=grant.epsilon_spent,
        percent_left=grant.percent_left,
        percent_job=min(100.0, 100.0 * spent / grant.amount),
        rounds_left=left,
        last_round=job.round + left if left is not None and job is not None else None,
        at=grant.at.timestamp(),
    )
