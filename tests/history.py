"""A job's history as a ServerApp would have written it: rounds with noised figures, and who took how long."""

from __future__ import annotations

import numpy as np

from hansa.contract.jobs import AttemptResult, JobPlan, MetricValue, Participation
from hansa.server.store import Store
from hansa.strategies.apply import ModelState


def fill(
    store: Store, plan: JobPlan, charter: str, members: list[str], *, rounds: int, first: int = 1
) -> None:
    """Rounds `first` to `rounds` of a job, which is submitted where it is not there yet; it runs then."""
    rng = np.random.default_rng(first)
    if store.jobs.find(plan.job) is None:
        store.jobs.submit(plan, charter, {"server_rate": 0.2, "client_rate": 1.0})
    journal = store.claim(plan.job, "run 1")
    journal.set_status("running")
    cohort = tuple(members)
    state = ModelState.start(np.zeros(3)).arrays()
    for number in range(first, rounds + 1):
        attempt = journal.open_attempt(
            "train", base=number - 1, cohort=cohort, left_out={}, knobs=journal.knobs()
        )
        learnt = 1 - np.exp(-number / 40)
        figures = {
            "auc": 0.5 + 0.35 * learnt,
            "log_loss": 0.69 - 0.4 * learnt,
            "accuracy": 0.9,
            "calibration": 0.05,
        }
        result = AttemptResult(
            job=plan.job,
            attempt=attempt,
            kind="train",
            status="applied",
            base=number - 1,
            round=number,
            cohort=cohort,
            active=cohort,
            participation=tuple(
                Participation(member=it, outcome="replied", seconds=float(rng.uniform(0.1, 0.4))) for it in cohort
            ),
            knobs=journal.knobs(),
            metrics={
                name: MetricValue(value=float(value + rng.normal(0, 0.02)), error=0.02)
                for name, value in figures.items()
            },
            seconds=0.5,
        )  # fmt: skip
        journal.commit(result, state)
