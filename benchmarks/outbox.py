"""What it costs a round that everything that leaves is written down first: one federation, with and without, in turns.

    python benchmarks/outbox.py [--scenario consortium] [--rounds 400] [--set KEY=VALUE] [--json]

A real federation as `hansa up` runs it (TLS, Flower, control, a sidecar, five nodes and five agents, each a process),
and one job of it. Of each two rounds one is with the outbox and one without, in an order that changes from pair to pair
(`outbox_agent.py`). A round is the time between two commits in the store, so nothing is left out of it.

    ratio           of a round with the outbox to one without: the median over pairs, with a 95 % interval (bootstrap
                    over pairs); of means beside it, which a single stall of the machine moves
    round_ms        the median round without
    entries         of a recorded round and member

Exit code 1 where an attempt is on record that was not to be, or the other way round.

A round that waits for its upload's public moment (metrics.seconds_floor, 0.05 s by default) hides there what the
upload's entry takes; `--set metrics.seconds_floor=0` leaves no such place.

Seen on two cores under a load of 11 to 20, rounds of 0.7 to 1.2 s: 1.005 (0.990 to 1.030) and 1.023 (0.987 to 1.054);
without a floor 1.051 (1.002 to 1.096). Aim: at most 1.05.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median

from outbox_agent import recorded
from project_round import WARM, running, wait_for, wait_for_end

from hansa.cli.control_client import Control
from hansa.cli.instance import Instance
from hansa.cli.overrides import override
from hansa.cli.processes import ProcessSpec
from hansa.clients.outbox import OUTBOX
from hansa.contract.errors import HansaError
from hansa.contract.library import scenario_folder
from hansa.contract.plan import make_plan
from hansa.contract.scenario import read_scenario
from hansa.server.records import RoundRecord
from hansa.server.store import Store, open_store

AGENT = Path(__file__).with_name("outbox_agent.py")
_DRAWS = 4000
_ENTRIES = "SELECT coalesce(json_extract(content, '$.attempt'), 0), kind FROM entries WHERE job = ?"


@dataclass(frozen=True)
class Pair:
    """Seconds of a round with the outbox, and of one beside it without."""

    recorded: float
    bare: float


@dataclass(frozen=True)
class Measured:
    """What one job gave.

    Attributes
    ----------
    entries : of a recorded attempt and member
    wrong : attempts of members that are on record and were not to be, or the other way round
    """

    pairs: list[Pair]
    entries: float
    wrong: list[str]


def half_recorded(spec: ProcessSpec) -> ProcessSpec:
    """An agent's process is this benchmark's; every other one is as it is."""
    if "hansa.clients.agent" not in spec.argv:
        return spec
    at = spec.argv.index("-m")
    return replace(spec, argv=(*spec.argv[:at], str(AGENT), *spec.argv[at + 2 :]))


def measure(name: str, settings: Sequence[str], rounds: int) -> Measured:
    """Run a federation and one job of it.

    Raises
    ------
    HansaError : the federation did not start, or the job ended before it had as many rounds
    """
    origin = scenario_folder(name)
    described, features = read_scenario(origin)
    scenario = override(described, [f"rounds={WARM + rounds + 2}", *settings])
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), scenario, features, origin, half_recorded) as (instance, supervisor),
        Control.of(instance, "write") as control,
    ):
        job = control.submit(make_plan(instance.facts.name, instance.job)).job
        store = open_store(instance.server_config.store, instance.server)
        with closing(store):
            wait_for(WARM + rounds, store, job, supervisor, deadline_s=3.0 * rounds + 120.0)
            control.stop(job)
            wait_for_end(control, job)
            made = list(all_rounds(store, job))
        entries, wrong = on_record(instance, job, {it.attempt for it in made})
    return Measured(list(paired(made)), entries, wrong)


def all_rounds(store: Store, job: str) -> Iterator[RoundRecord]:
    """Rounds from the warm ones' last on, oldest first."""
    after = WARM - 1
    while page := store.history.rounds(job, after=after):
        yield from page
        after = page[-1].round


def paired(made: Sequence[RoundRecord]) -> Iterator[Pair]:
    """Pairs of which neither round follows an attempt that came to nothing."""
    seconds = {
        it.attempt: (it.applied - before.applied).total_seconds()
        for before, it in itertools.pairwise(made)
        if it.attempt == before.attempt + 1
    }
    for attempt in seconds:
        if attempt % 2 == 0 and attempt + 1 in seconds:
            both = {recorded(it): seconds[it] for it in (attempt, attempt + 1)}
            yield Pair(both[True], both[False])


def on_record(instance: Instance, job: str, attempts: set[int]) -> tuple[float, list[str]]:
    """Entries of a recorded attempt and member, and what is not as `recorded` says."""
    count, wrong = 0, []
    for name in instance.members:
        path = instance.member(name).folder / OUTBOX
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as outbox:
            rows = [(int(at), kind) for at, kind in outbox.execute(_ENTRIES, (job,)) if at in attempts]
        uploads = {attempt for attempt, kind in rows if kind == "upload"}
        wrong += [f"{name}: attempt {it}" for it in sorted(attempts) if recorded(it) != (it in uploads)]
        count += len(rows)
    return count / len(instance.members) / sum(map(recorded, attempts)), wrong


def interval(pairs: Sequence[Pair], figure: Callable[[Sequence[Pair]], float]) -> tuple[float, float]:
    """95 % of what the figure is over pairs drawn anew."""
    draw = random.Random(1)
    found = sorted(figure(draw.choices(pairs, k=len(pairs))) for _ in range(_DRAWS))
    return found[int(0.025 * _DRAWS)], found[int(0.975 * _DRAWS)]


def of_pairs(pairs: Sequence[Pair]) -> float:
    """Median of the pairs' ratios."""
    return median(it.recorded / it.bare for it in pairs)


def of_means(pairs: Sequence[Pair]) -> float:
    """Ratio of the mean rounds."""
    return fmean(it.recorded for it in pairs) / fmean(it.bare for it in pairs)


def report(found: Measured) -> Mapping[str, object]:
    """What is printed."""
    pairs = found.pairs
    return {
        "ratio": of_pairs(pairs),
        "ratio_interval": interval(pairs, of_pairs),
        "ratio_of_means": of_means(pairs),
        "ratio_of_means_interval": interval(pairs, of_means),
        "round_ms": 1000 * median(it.bare for it in pairs),
        "pairs": len(pairs),
        "entries": found.entries,
        "load": os.getloadavg()[0],
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenario", default="consortium")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the scenario")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        found = measure(options.scenario, options.set, options.rounds)
    except HansaError as error:
        print(f"outbox: {error}", file=sys.stderr)
        return error.exit_code
    if found.wrong:
        print(f"on record is not what was to be: {'; '.join(found.wrong[:5])}", file=sys.stderr)
        return 1
    shown = report(found)
    print(json.dumps(shown) if options.json else "\n".join(_line(*it) for it in shown.items()))
    return 0


def _line(name: str, value: object) -> str:
    values = value if isinstance(value, tuple) else (value,)
    return f"{name:<26}{' to '.join(f'{it:.4g}' for it in values)}"


if __name__ == "__main__":
    sys.exit(main())
