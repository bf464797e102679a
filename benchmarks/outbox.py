"""What it costs that everything that leaves is written down first: rounds with an outbox over rounds without.

    python benchmarks/outbox.py [--scenario consortium] [--rounds 20] [--pairs 5] [--json]

Whole jobs in one process, agents' records and outboxes on the disk, with noise and the scenario's mode; no TLS, no
Flower, no waiting for a public moment, so that a round is as short as it can be and the ratio as large. Pairs of runs
take turns; the ratio is the median over pairs. Beside it how long one entry took, of answers of all kinds.

    ratio             of a round; all members write one after another here, under one interpreter lock
    ratio_of_a_member what a member by itself adds to the round, as where each has its own process

Expected on two cores, five members, mode `he`: 1.10 and 1.02; 1 ms an entry here, 0.3 ms where nothing else runs. An
upload's entry is written while the upload waits for its public moment, which comes no later for it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from hansa.cli import simulation
from hansa.clients.leaving import Leaving
from hansa.clients.outbox import Outbox
from hansa.clients.protocol import Agent
from hansa.contract.jobs import JobPlan, ServerRule
from hansa.contract.library import scenario_folder
from hansa.contract.scenario import read_scenario


class Timed(Outbox):
    """An outbox that notes how long each entry took."""

    taken: list[float]

    def enter(self, leaving: Leaving, key: str = "") -> None:
        began = time.perf_counter()
        super().enter(leaving, key)
        self.taken.append(time.perf_counter() - began)


def run(federation: simulation.SimulatedFederation, rounds: int, taken: list[float] | None) -> float:
    """Seconds of one round; into `taken` the seconds of each entry, no outbox where it is None."""
    with tempfile.TemporaryDirectory() as folder:

        def agents() -> dict[str, Agent]:
            made = {
                name: federation.agent(name, Path(folder) / f"{name}.sqlite", Path(folder) / f"{name}.ledger")
                for name in federation.records
            }
            for name, agent in made.items():
                if taken is not None:
                    agent.outbox = outbox = Timed(Path(folder) / f"{name}.outbox")
                    outbox.taken = taken
            return made

        timed = replace(federation)
        object.__setattr__(timed, "agents", agents)
        plan = JobPlan(job="ab" * 16, name="outbox", rounds=rounds, rule=ServerRule())
        began = time.perf_counter()
        simulation.run(timed, plan)
        return (time.perf_counter() - began) / rounds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenario", default="consortium")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = scenario_folder(options.scenario)
    scenario, features = read_scenario(folder)
    scenario = scenario.model_copy(update={"approval": "automatic"})
    federation = simulation.federation(scenario, features, folder=folder)
    taken: list[float] = []
    pairs = []
    run(federation, 3, None)
    for _ in range(options.pairs):
        without, with_outbox = run(federation, options.rounds, None), run(federation, options.rounds, taken)
        pairs.append((without, with_outbox))
    found = {
        "mode": federation.charter.protection.mode,
        "ratio": median(more / less for less, more in pairs),
        "ratio_of_a_member": 1 + median((more / less - 1) / len(federation.records) for less, more in pairs),
        "round_ms": 1000 * median(less for less, _ in pairs),
        "entry_ms": 1000 * median(taken),
        "entries_a_round_and_member": len(taken) / options.pairs / options.rounds / len(federation.records),
    }
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<30}{value if isinstance(value, str) else f'{value:.4g}'}")


if __name__ == "__main__":
    main()
