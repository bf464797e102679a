"""How long a grant would last: whichever of its two sums is full first ends it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from federation import JOB, make_plan

from hansa.server.control.web.budgets_left import budgets_shown, rounds_left
from hansa.server.records import BudgetRecord, JobRecord, SpendingRecord

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def grant(training: float, holdout: float, **fields: Any) -> BudgetRecord:
    left = 1.0 - max(training, holdout)
    document = {
        **{"id": 1, "member": "a", "grant": "first", "data_set": "records", "currency": "gdp", "order": None},
        **{"epsilon": 3.0, "delta": 1e-5, "amount": 1.0, "training": training, "holdout": holdout},
        **{"remaining": left, "percent_left": 100 * left, "epsilon_spent": 1.0, "job": JOB, "attempt": 1},
        **{"sequence": 1, "at": NOW},
    }
    return BudgetRecord.model_validate({**document, **fields})


def spending(training: float, holdout: float, round_cost: float) -> SpendingRecord:
    return SpendingRecord(
        id=1, member="a", job=JOB, grant="first", training=training, holdout=holdout, charges=2,
        round_cost=round_cost,
    )  # fmt: skip


def job(number: int) -> JobRecord:
    return JobRecord(
        job=JOB, name="test", status="running", reason="", wanted="run", charter="c" * 64, plan=make_plan(),
        round=number, attempt=number, created=NOW, updated=NOW, queued=NOW, holder="", epoch=1, renewed=NOW,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("training", "holdout", "round_cost", "rounds", "left"),
    [
        (0.2, 0.0, 0.1, 2, 8),
        # Measuring took 0.5 in two rounds: two more are all.
        (0.2, 0.5, 0.1, 2, 2),
        (0.0, 0.0, 0.0, 0, None),
        (1.0, 0.1, 0.1, 3, 0),
        (0.5, 0.0, 1e-12, 1, None),
    ],
)
def test_rounds_that_the_rest_pays_for(
    training: float, holdout: float, round_cost: float, rounds: int, left: int | None
) -> None:
    taken = spending(training, holdout, round_cost)
    assert rounds_left(grant(training, holdout), taken, rounds) == left


def test_the_last_round_is_counted_on_from_the_jobs_newest() -> None:
    (line,) = budgets_shown([grant(0.3, 0.0)], [spending(0.2, 0.0, 0.1)], job(2))
    assert (line.rounds_left, line.last_round) == (7, 9)
    assert line.percent_left == pytest.approx(70)
    assert line.percent_job == pytest.approx(20)


def test_a_grant_that_the_job_was_not_paid_from_is_shown_without_an_end() -> None:
    (line,) = budgets_shown([grant(0.3, 0.0)], [], job(2))
    assert (line.rounds_left, line.last_round, line.percent_job) == (None, None, 0.0)
