"""Seconds from `kill -9` of a process to the next round, while a real federation trains.

    python benchmarks/recovery_times.py --times 5

Five organisations in mode he, TLS and node keys, under the supervisor of `hansa up`. After a kill two figures: until a
round is applied that began after it, and until one that the killed member took part in. Beside them the seconds a round
takes with nothing killed. Exit code 1 where a kill was not followed by a round within the patience.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

HANSA = (sys.executable, "-P", "-m", "hansa.cli")
MEMBER = "kontor-bank"
KILLED = ("sidecar", "control", "executor", "superlink", f"node-{MEMBER}", f"agent-{MEMBER}")
_LOOK_S = 0.02


class Federation:
    """One that runs in the background."""

    def __init__(self, folder: Path) -> None:
        self._instance = next(folder.glob(".hansa/*"))

    def pid(self, name: str) -> int:
        """Of a process that the supervisor has up."""
        return int(_until(lambda: self._pid(name), 60.0))

    def attempts(self) -> int:
        """Attempts that were opened."""
        return int(self._one("SELECT coalesce(max(attempt), 0) FROM attempts") or 0)

    def rounds(self, above: int) -> int:
        """Applied rounds of attempts above that number."""
        return int(self._one("SELECT count(*) FROM rounds WHERE attempt > ?", above) or 0)

    def took_part(self, above: int) -> int:
        """Applied rounds of attempts above that number in which the member's upload counted."""
        query = "SELECT count(*) FROM rounds JOIN attempts USING (job, attempt) WHERE attempt > ? AND active LIKE ?"
        return int(self._one(query, above, f'%"{MEMBER}"%') or 0)

    def seconds(self) -> float:
        """Of a round, median."""
        with closing(self._open()) as store:
            found = [row[0] for row in store.execute("SELECT seconds FROM attempts WHERE status = 'applied'")]
        return median(found)

    def _pid(self, name: str) -> int | None:
        for it in json.loads((self._instance / "run" / "up.json").read_text())["processes"]:
            if it["name"] == name and it["state"] == "ready":
                return int(it["pid"]) if it["pid"] else None
        return None

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{self._instance / 'store' / 'store.sqlite'}?mode=ro", uri=True, timeout=10
        )

    def _one(self, query: str, *values: Any) -> Any:
        with closing(self._open()) as store:
            return store.execute(query, values).fetchone()[0]


def _until(found: Callable[[], Any], patience: float) -> Any:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(_LOOK_S)
    raise TimeoutError(f"nothing within {patience:g} s")


def recovered(federation: Federation, name: str, patience: float) -> tuple[float, float]:
    """Kill one process; seconds to a round that began afterwards, and to one with the member in it."""
    # Killed in the middle of a round, and with all of them up.
    pids = [federation.pid(it) for it in KILLED]
    before = federation.attempts()
    _until(lambda: federation.rounds(before) >= 2, patience)
    before = federation.attempts()
    os.kill(pids[KILLED.index(name)], signal.SIGKILL)
    killed = time.monotonic()
    _until(lambda: federation.rounds(before) >= 1, patience)
    first = time.monotonic() - killed
    _until(lambda: federation.took_part(before) >= 1, patience)
    return first, time.monotonic() - killed


def main(argv: Sequence[str] | None = None) -> int:
    """Kill each so many times and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--patience", type=float, default=120.0)
    parser.add_argument("--process", action="append", choices=KILLED, help="only these; default: all")
    options = parser.parse_args(argv)
    late = 0
    with tempfile.TemporaryDirectory() as name:
        up = [*HANSA, "up", "--rounds", "2000", "--set", "steps=1", "--detach"]
        subprocess.run(up, cwd=name, check=True, stdout=subprocess.DEVNULL)
        try:
            federation = Federation(Path(name))
            _until(lambda: federation.rounds(0) >= 5, options.patience)
            print(f"a round, nothing killed: {federation.seconds():.2f} s")
            print(f"{'killed':20} {'next round, s':>16} {'worst':>7} {'member back, s':>16} {'worst':>7}")
            for process in options.process or KILLED:
                found = []
                for _ in range(options.times):
                    try:
                        found.append(recovered(federation, process, options.patience))
                    except TimeoutError as error:
                        print(f"{process}: {error}", file=sys.stderr)
                        late += 1
                if found:
                    first, back = zip(*found, strict=True)
                    print(
                        f"{process:20} {median(first):16.2f} {max(first):7.2f} {median(back):16.2f} {max(back):7.2f}",
                        flush=True,
                    )
        finally:
            subprocess.run([*HANSA, "down"], cwd=name, stdout=subprocess.DEVNULL)
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
