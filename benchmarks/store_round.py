"""What the store adds to a round: every call that a round makes, on SQLite with each commit on disk.

    python benchmarks/store_round.py [--rounds 300] [--members 5] [--parameters 1000] [--url URL] [--json]

Expected on two cores: below 10 ms a round at 1,000 parameters, beside a plain fsync of the same folder.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hansa.contract.jobs import AttemptResult, JobPlan, MetricValue, Participation
from hansa.server.store import JobJournal, open_store
from hansa.strategies.apply import ModelState
from hansa.strategies.ports import MemberPresence

KNOBS = {"client_rate": 1.0, "server_rate": 0.5}
FIGURES = ("accuracy", "auc", "calibration", "log_loss")


def work(
    journal: JobJournal, number: int, names: tuple[str, ...], state: ModelState, timed: Callable[..., Any]
) -> None:
    """One round's calls, in a round's order."""
    timed("wanted", journal.wanted)
    timed("held", journal.held)
    timed("present", lambda: journal.present([MemberPresence(name, 1, True, 1, 0.0) for name in names]))
    knobs = timed("knobs", journal.knobs)
    opening = {"base": number - 1, "cohort": names, "left_out": {}, "knobs": knobs}
    attempt = timed("open_attempt", lambda: journal.open_attempt("train", **opening))
    result = AttemptResult(
        job=journal.plan.job,
        attempt=attempt,
        kind="train",
        status="applied",
        base=number - 1,
        round=number,
        cohort=names,
        active=names,
        participation=tuple(Participation(member=name, outcome="replied", seconds=0.1) for name in names),
        knobs=knobs,
        metrics={name: MetricValue(value=0.5, error=0.01) for name in FIGURES},
        seconds=0.1,
    )
    timed("commit", lambda: journal.commit(result, state.arrays()))


def measure(url: str, folder: Path, rounds: int, members: int, parameters: int) -> dict[str, Any]:
    """Medians in milliseconds."""
    store = open_store(url, folder)
    plan = JobPlan(job=uuid.uuid4().hex, name="benchmark", rounds=rounds)
    store.jobs.submit(plan, "0" * 64, KNOBS)
    journal = store.claim(plan.job, "benchmark")
    names = tuple(f"member-{number}" for number in range(members))
    state = ModelState.start(np.random.default_rng(0).normal(size=parameters))
    taken: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        found = call()
        taken[name].append((time.perf_counter() - began) * 1e3)
        return found

    for number in range(1, rounds + 1):
        timed("round", lambda number=number: work(journal, number, names, state, timed))
    store.close()
    return {f"{name}_ms": round(statistics.median(times), 3) for name, times in taken.items()}


def fsync_ms(folder: Path) -> float:
    """Median of writing a page and waiting until it is on disk."""
    taken = []
    with (folder / "page").open("wb") as file:
        for _ in range(100):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - began) * 1e3)
    return round(statistics.median(taken), 3)


def main() -> None:
    """Print the medians; with --json one object as the last line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--parameters", type=int, default=1000)
    parser.add_argument("--url", default="sqlite:///store.sqlite")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.url, Path(folder), options.rounds, options.members, options.parameters)
        found["fsync_ms"] = fsync_ms(Path(folder))
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<18}{value:>9.3f}")


if __name__ == "__main__":
    main()
