"""The whole project's round, five members, empty work: what `round_overhead.py` calls ours.

An instance of the consortium with 40 synthetic records a member is provisioned in a folder of its own and
runs under the project's supervisor: SuperLink with its lane, control, executor, five nodes, five agents. The
ServerApp is `hansa.server.app`: every order is signed by control, every attempt and round is written to the
store, every agent checks what it is asked, trains and evaluates on its few records, and signs its answer.
The charter's seconds_floor is 0 (PROTOCOL section 6: only in benchmarks of empty work).

A round's time is the time between two commits in the store, so nothing is left out of it.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from hansa.cli.addresses import free_addresses
from hansa.cli.control_client import Control
from hansa.cli.federation import START_S, check_given_up, federation_specs, record_path, supervised
from hansa.cli.instance import Instance
from hansa.cli.overrides import override
from hansa.cli.processes import ProcessSpec, Supervisor
from hansa.cli.provisioning import provision
from hansa.contract.errors import HansaError
from hansa.contract.features import FeatureContract
from hansa.contract.library import scenario_folder
from hansa.contract.plan import make_plan
from hansa.contract.scenario import Scenario, read_scenario
from hansa.contract.signatures import verify_charter
from hansa.contract.sources import SyntheticSource
from hansa.server.store import Store, open_store
from hansa.server.store.jobs import OVER

RECORDS = 40
# Rounds before the first that is counted: connections, caches, lazy imports.
WARM = 5
_LOOK_EVERY_S = 0.25
_DEADLINE_S = 300.0


@dataclass(frozen=True)
class ProjectFigures:
    """Seconds of every round; CPU seconds a round and resident MiB of a process by its role."""

    rounds: list[float]
    cpu_s: Mapping[str, float]
    memory_mib: Mapping[str, float]
    floor_s: float
    # Processes runnable on this machine, mean of the last minute, at the end of the measurement.
    load: float

    @property
    def round_s(self) -> float:
        """The median."""
        return statistics.median(self.rounds)

    @property
    def server_cpu_s(self) -> float:
        """CPU a round of everything at the server: SuperLink, control and ServerApp."""
        return sum(self.cpu_s[role] for role in ("superlink", "control", "serverapp"))


@contextmanager
def federation(folder: Path, rounds: int) -> Iterator[tuple[Instance, Supervisor]]:
    """A running federation of small members, in `folder`."""
    origin = scenario_folder("consortium")
    described, features = read_scenario(origin)
    changed = override(small(described), [f"rounds={rounds}", "steps=1", "metrics.seconds_floor=0"])
    with running(folder, changed, features, origin) as found:
        yield found


@contextmanager
def running(
    folder: Path,
    scenario: Scenario,
    features: FeatureContract,
    origin: Path,
    replaced: Callable[[ProcessSpec], ProcessSpec] = lambda it: it,
) -> Iterator[tuple[Instance, Supervisor]]:
    """A scenario's federation as `hansa up` runs it, in `folder`.

    Parameters
    ----------
    origin : the scenario's folder
    replaced : what is started in place of a process
    """
    instance = provision(
        scenario, features, origin=origin, out=folder / "instance", addresses=free_addresses()
    )
    with supervised(
        record_path(instance.folder, "up"),
        str(instance.folder),
        [replaced(it) for it in federation_specs(instance)],
        logs=instance.logs,
        report=lambda sentence: print(sentence, file=sys.stderr),
    ) as supervisor:
        supervisor.wait_ready(START_S)
        yield instance, supervisor


def small(scenario: Scenario) -> Scenario:
    """The scenario with so few records that a member has nothing to do."""
    members = []
    for member in scenario.members:
        assert isinstance(member.data, SyntheticSource)
        data = member.data.model_copy(update={"rows": RECORDS})
        members.append(member.model_copy(update={"records": RECORDS, "data": data}))
    return scenario.model_copy(update={"members": tuple(members)})


def measure(
    folder: Path, rounds: int, during: Callable[[Supervisor], None] = lambda _: None
) -> ProjectFigures:
    """Run a job, and look at the store for its rounds and at the kernel for what they cost.

    Parameters
    ----------
    during : called once while rounds are counted; a profiler's place
    """
    # The job must not end while it is looked at.
    with (
        federation(folder, WARM + 10 * rounds) as (instance, supervisor),
        Control.of(instance, "write") as control,
    ):
        job = control.submit(make_plan(instance.facts.name, instance.job)).job
        store = open_store(instance.server_config.store, instance.server)
        floor_s = verify_charter(instance.charter, instance.signatures).charter.metrics.seconds_floor

        def reached(number: int) -> int:
            return wait_for(number, store, job, supervisor)

        first = reached(WARM)
        before = _cpu(supervisor)
        during(supervisor)
        last = reached(first + rounds)
        after = _cpu(supervisor)
        memory = _memory(supervisor)
        control.stop(job)
        applied = [
            it.applied.timestamp() for it in store.history.rounds(job, after=first - 1, limit=rounds + 1)
        ]
        store.close()
        wait_for_end(control, job)
    return ProjectFigures(
        rounds=[later - earlier for earlier, later in itertools.pairwise(applied)],
        cpu_s={role: (after[role] - before[role]) / (last - first) for role in after},
        memory_mib=memory,
        floor_s=floor_s,
        load=os.getloadavg()[0],
    )


def wait_for(
    number: int, store: Store, job: str, supervisor: Supervisor, *, deadline_s: float = _DEADLINE_S
) -> int:
    """The newest round once it is at least `number`.

    Raises
    ------
    HansaError : the job or a process ended, or it took longer than that
    """
    give_up = time.monotonic() + deadline_s
    while time.monotonic() < give_up:
        found = store.jobs.find(job)
        if found is not None and found.round >= number:
            return found.round
        if found is not None and found.status in (*OVER, "paused"):
            raise HansaError(f"the job is {found.status} at round {found.round}: {found.reason}")
        check_given_up(supervisor)
        time.sleep(_LOOK_EVERY_S)
    raise HansaError(f"round {number} did not come within {deadline_s:g} s")


def wait_for_end(control: Control, job: str) -> None:
    """Until the job is over, ten seconds at most."""
    for _ in range(40):
        if control.job(job).status in OVER:
            return
        time.sleep(_LOOK_EVERY_S)


def _processes(supervisor: Supervisor) -> Iterator[tuple[str, psutil.Process]]:
    """Every process with its role; all agents have one role, and all nodes."""
    for it in supervisor.processes:
        if it.pid is None:
            raise HansaError(f"{it.name} does not run: {it.sentence}")
        process = psutil.Process(it.pid)
        yield it.name.partition("-")[0], process
        if it.name == "executor":
            yield from (("serverapp", child) for child in process.children(recursive=True))


def _cpu(supervisor: Supervisor) -> dict[str, float]:
    """CPU seconds so far of one process of each role."""
    return _mean_by_role(supervisor, lambda it: sum(it.cpu_times()[:2]))


def _memory(supervisor: Supervisor) -> dict[str, float]:
    return _mean_by_role(supervisor, lambda it: it.memory_info().rss / 2**20)


def _mean_by_role(supervisor: Supervisor, figure: Callable[[psutil.Process], float]) -> dict[str, float]:
    found = defaultdict(list)
    for role, process in _processes(supervisor):
        found[role].append(figure(process))
    return {role: statistics.fmean(values) for role, values in found.items()}
