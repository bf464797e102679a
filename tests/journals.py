"""Both journals behind one face, and attempts to feed them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hansa.contract.jobs import AttemptKind, AttemptResult, JobPlan, MetricValue, Participation
from hansa.contract.messages import Charged, GrantState, Head, Receipt
from hansa.server.store import Store, open_store
from hansa.strategies.memory_journal import MemoryJob, MemoryJournal
from hansa.strategies.ports import Journal

MEMBERS = ("alpha", "beta", "gamma")
DEFAULTS = {"client_rate": 0.5, "dropout": 0.1}
POSTGRES = os.environ.get("HANSA_TEST_POSTGRES", "")


@dataclass
class Bench:
    """One job, `claim`, which takes its lease anew, and the way back."""

    plan: JobPlan
    claim: Callable[[str], Journal]
    roll_back: Callable[[int | None], object]
    # Whether a round's state is kept.
    keeps: Callable[[int], bool]
    store: Store | None = None


def plan(*, job: str | None = None, rounds: int = 5, pinned: dict[str, float] | None = None) -> JobPlan:
    return JobPlan(job=job or uuid.uuid4().hex, name="demo", rounds=rounds, pinned=pinned or {})


@contextmanager
def store_bench(url: str, **changes: object) -> Iterator[Bench]:
    store = open_store(url)
    made = plan(**changes)  # type: ignore[arg-type]
    store.jobs.submit(made, "0" * 64, DEFAULTS)
    try:
        yield Bench(
            made,
            lambda holder: store.claim(made.job, holder),
            lambda to: store.jobs.roll_back(made.job, to, by="tuner", reason="it diverged"),
            lambda number: store.history.checkpoint(made.job, number) is not None,
            store,
        )
    finally:
        store.close()


@contextmanager
def bench(kind: str, folder: Path, **changes: object) -> Iterator[Bench]:
    """A fresh job in a journal of that kind: memory, sqlite or postgresql."""
    if kind == "memory":
        made = plan(**changes)  # type: ignore[arg-type]
        job = MemoryJob(made, dict(DEFAULTS))
        yield Bench(
            made,
            lambda holder: MemoryJournal(job),
            lambda to: job.roll_back(to, by="tuner", reason="it diverged"),
            lambda number: number in job.states,
        )
    else:
        url = POSTGRES if kind == "postgresql" else f"sqlite:///{folder}/store.sqlite"
        with store_bench(url, **changes) as made_bench:
            yield made_bench


def state(number: int, size: int = 8) -> dict[str, np.ndarray]:
    return {"round": np.array([number]), "weights": np.full(size, float(number)) / 3}


def open_one(journal: Journal, kind: AttemptKind = "train", base: int | None = None) -> int:
    start = journal.progress().round if base is None else base
    return journal.open_attempt(
        kind, base=start, cohort=MEMBERS, left_out={"delta": "held"}, knobs=journal.knobs()
    )


def result(
    journal: Journal,
    attempt: int,
    *,
    status: str = "applied",
    kind: AttemptKind = "train",
    base: int | None = None,
    metrics: dict[str, MetricValue] | None = None,
) -> AttemptResult:
    newest = journal.progress().round
    return AttemptResult(
        job=journal.plan.job,
        attempt=attempt,
        kind=kind,
        status=status,  # type: ignore[arg-type]
        base=newest if base is None else base,
        round=newest + 1 if status == "applied" else None,
        cohort=MEMBERS,
        active=MEMBERS[:2],
        left_out={"delta": "held"},
        participation=tuple(
            Participation(member=name, outcome="replied", seconds=0.25, bytes_up=100, bytes_down=200)
            for name in MEMBERS
        ),
        knobs=journal.knobs(),
        metrics=metrics or {},
        seconds=0.5,
        reason="" if status != "failed" else "too few",
    )


def apply_round(journal: Journal, metrics: dict[str, MetricValue] | None = None) -> int:
    """One whole round; returns its number."""
    attempt = open_one(journal)
    done = result(journal, attempt, metrics=metrics)
    assert done.round is not None
    journal.commit(done, state(done.round))
    return done.round


def signed(
    sequence: int | None,
    mark: str = "e",
    *,
    amount: float = 2.0,
    training: float = 0.5,
    grant: str = "spring",
    **charge: object,
) -> Receipt:
    """A receipt as a member's ledger of so many rows would give it, for one training charge."""
    charged = {"purpose": "train", "noise_multiplier": 10.0, "count": 10, "amount": 0.1, **charge}
    state = GrantState(
        grant=grant,
        data_set="patients",
        currency="gdp",
        epsilon=8.0,
        delta=1e-5,
        amount=amount,
        training=training,
        holdout=0.25,
    )
    if sequence is None:
        return Receipt()
    return Receipt(
        charges=(Charged.model_validate({"grant": grant, **charged}),),
        grants=(state,),
        head=Head(sequence=sequence, hash=mark * 64),
        signature="s" * 88,
    )
