"""Memory of every process over a long job, against the bounds that are promised. Exit code 1 where one is missed.

    python benchmarks/memory.py                     500 rounds of a real federation, 10,000 watched rounds
    python benchmarks/memory.py --rounds 50 --watched 500

Real processes: `hansa up` of five organisations in mode he, TLS and node keys; a reading a second of each. The sidecar
reads, after that, 10,000 rounds of a control that really listens, two figures each. Flat: the median of the last
quarter of readings is at most a twentieth above that of the second; what a process takes as it starts is no growth.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil

from hansa.sidecar.process_watch import BOUNDS

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

MIB = 1 << 20
HANSA = (sys.executable, "-P", "-m", "hansa.cli")
# Least growth that counts, MiB: a page cache of SQLite, one arena of the allocator.
_NOISE_MIB = 4.0
_FLAT = 1.05
# Readings from which on growth can be told.
_FEWEST = 12
# Beside an agent and a node of each organisation.
_CONSORTIUM = ("superlink", "control", "executor", "serverapp", "sidecar")


@dataclass
class Readings:
    """One process's memory over time, MiB; `bound` is None where nothing was promised."""

    name: str
    bound: float | None
    flat: bool = True
    values: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Median of the last quarter less that of the second, MiB; 0 where there are too few readings."""
        if len(self.values) < _FEWEST:
            return 0.0
        quarter = len(self.values) // 4
        return median(self.values[-quarter:]) - median(self.values[quarter : 2 * quarter])

    @property
    def missed(self) -> str:
        """What is wrong, or nothing."""
        if not self.values:
            return "was never seen"
        if self.bound is not None and max(self.values) > self.bound:
            return f"more than {self.bound:.0f} MiB"
        if self.flat and len(self.values) < _FEWEST:
            return f"too few readings: {len(self.values)} of {_FEWEST}"
        if self.flat and self.growth > max(_NOISE_MIB, (_FLAT - 1) * self.values[len(self.values) // 4]):
            return f"grew by {self.growth:.1f} MiB"
        return ""

    def line(self) -> str:
        """A row of the table."""
        if not self.values:
            return f"{self.name:28} {'':>8} {'':>8} {'':>8}  {self.missed}"
        bound = "" if self.bound is None else f"{self.bound:.0f}"
        return (
            f"{self.name:28} {self.values[0]:8.1f} {max(self.values):8.1f} {self.growth:8.1f} {bound:>7}  "
            f"{self.missed or 'held'}"
        )


def federation(rounds: int, folder: Path) -> tuple[list[Readings], str]:
    """Readings of a real federation's processes while it trains; and how far it came."""
    subprocess.run(
        [*HANSA, "up", "--rounds", str(rounds), "--set", "steps=1", "--detach"],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        found = expected(folder)
        while True:
            shown = subprocess.run(
                [*HANSA, "jobs", "list", "--json"], cwd=folder, capture_output=True, text=True
            )
            job = json.loads(shown.stdout)[-1]
            for _ in range(5):
                _look(folder, found)
                time.sleep(1.0)
            if job["status"] in ("finished", "stopped", "failed", "paused"):
                return list(found.values()), f"{job['status']} at round {job['round']} of {rounds}"
    finally:
        subprocess.run([*HANSA, "down"], cwd=folder, stdout=subprocess.DEVNULL)


def expected(folder: Path) -> dict[str, Readings]:
    """Every process that a federation has, by its organisations, with nothing read yet."""
    members = sorted(it.parent.name for it in folder.glob(".hansa/*/members/*/member.toml"))
    if not members:
        raise FileNotFoundError(f"{folder}: no organisation of a federation here")
    names = (*_CONSORTIUM, *(f"{role}-{it}" for it in members for role in ("agent", "node")))
    return {name: Readings(name, _bound(name)) for name in names}


def _look(folder: Path, found: dict[str, Readings]) -> None:
    record = json.loads(next(folder.glob(".hansa/*/run/up.json")).read_text())
    for it in record["processes"]:
        name, pid = it["name"], it["pid"]
        try:
            process = psutil.Process(pid)
            resident = process.memory_info().rss / MIB
            children = [child.memory_info().rss / MIB for child in process.children()]
        except psutil.NoSuchProcess:
            continue
        found.setdefault(name, Readings(name, _bound(name))).values.append(resident)
        if name == "executor" and children:
            # A run's own process ends with the run.
            found["serverapp"].values.append(max(children))


def _bound(name: str) -> float | None:
    if name.startswith("agent-"):
        return 400.0
    return BOUNDS[name] / MIB if name in BOUNDS else None


def sidecar(rounds: int, folder: Path) -> Readings:
    """Readings of a sidecar that looks at so many rounds, four figures each."""
    from desks import SECRETS
    from watched import loss_at, watched

    found = Readings(f"sidecar, {rounds} rounds", 60.0)
    with watched(folder) as job:
        argv = [sys.executable, "-m", "hansa.sidecar", "--control", job.url, "--state", str(folder / "state")]
        environment = {**os.environ, "HANSA_TOKEN": SECRETS["write"]}
        running = subprocess.Popen([*argv, "--every", "0.05"], env=environment)
        try:
            process = psutil.Process(running.pid)
            time.sleep(3.0)
            for number in range(rounds):
                job.train(loss_at(job.round))
                if number % max(1, rounds // 200) == 0:
                    found.values.append(process.memory_info().rss / MIB)
            time.sleep(2.0)
            found.values.append(process.memory_info().rss / MIB)
        finally:
            running.terminate()
            running.wait(10)
    return found


def help_page() -> Readings:
    """Most memory of `hansa --help`."""
    program = "import resource, runpy, sys\nsys.argv = ['hansa', '--help']\n"
    program += "try: runpy.run_module('hansa.cli', run_name='__main__')\n"
    program += (
        "except SystemExit: pass\nsys.stderr.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))"
    )
    found = Readings("hansa --help", 40.0, flat=False)
    for _ in range(3):
        # A process begins with what its parent held at the fork: started from a small one.
        done = subprocess.run(
            ["/bin/sh", "-c", '"$0" -c "$1"', sys.executable, program], capture_output=True, text=True
        )
        found.values.append(int(done.stderr.split()[-1]) / 1024)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, say what was missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--watched", type=int, default=10_000)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        readings = [help_page()]
        processes, came = federation(options.rounds, folder) if options.rounds else ([], "no federation")
        readings += processes
        if options.watched:
            (folder / "watched").mkdir()
            readings.append(sidecar(options.watched, folder / "watched"))
    print(f"federation: {came}")
    print(f"{'MiB':28} {'first':>8} {'most':>8} {'growth':>8} {'bound':>7}")
    for it in readings:
        print(it.line())
    missed = [it for it in readings if it.missed]
    if options.rounds and not came.startswith("finished"):
        print("the job did not finish", file=sys.stderr)
        return 1
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
