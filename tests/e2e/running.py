"""A federation of real processes for tests: started by `hansa up --detach`, looked at from outside."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

HANSA = Path(sys.executable).with_name("hansa")


def hansa(*arguments: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [str(HANSA), *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )


def last_object(output: str) -> dict[str, Any]:
    """The JSON object on the last line."""
    found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return found


@dataclass(frozen=True)
class RunningFederation:
    """One instance that runs detached."""

    cwd: Path
    instance: Path

    def status(self) -> dict[str, Any]:
        return last_object(hansa("status", "--json", "--instance", str(self.instance), cwd=self.cwd).stdout)

    def pid(self, process: str) -> int:
        """The process id of one of the supervisor's children, which may be about to start again."""

        def found() -> int | None:
            entries = {entry["name"]: entry for entry in self.status()["processes"]}
            pid: int | None = entries[process]["pid"]
            return pid

        return int(until(found, 20))

    def server_app(self) -> int:
        """The process id of the ServerApp, which the executor started."""
        children = until(lambda: psutil.Process(self.pid("executor")).children(), 20)
        return int(children[0].pid)

    def kill(self, process: str) -> None:
        """SIGKILL, as a crash would."""
        os.kill(self.server_app() if process == "serverapp" else self.pid(process), signal.SIGKILL)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the store holds."""
        path = self.instance / "store" / "store.sqlite"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10) as store:
            return store.execute(query).fetchall()

    @property
    def round(self) -> int:
        return int(self.rows("SELECT coalesce(max(round), 0) FROM rounds")[0][0])

    @property
    def job_status(self) -> str:
        return str(self.rows("SELECT status FROM jobs")[0][0])

    def reach(self, number: int, patience: float = 60) -> None:
        """Wait until that round is applied."""
        until(lambda: self.round >= number, patience)


@contextmanager
def running(cwd: Path, *arguments: str) -> Iterator[RunningFederation]:
    """`hansa up --detach ...`, and `hansa down` at the end whatever happens."""
    started = hansa("up", "--detach", "--json", *arguments, cwd=cwd)
    assert started.returncode == 0, started.stderr
    instance = cwd / last_object(started.stdout)["instance"]
    try:
        yield RunningFederation(cwd, instance)
    finally:
        stopped = hansa("down", "--instance", str(instance), cwd=cwd)
    assert stopped.returncode == 0, stopped.stderr
    remaining = left_behind(instance)
    assert not remaining, remaining


def left_behind(instance: Path) -> list[str]:
    """Command lines of processes that still name the instance."""
    lines = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(instance.resolve()) in line and process.pid != os.getpid():
            lines.append(f"{process.pid} {process.status()} {line}")
    return lines


def until(condition: Callable[[], Any], patience: float) -> Any:
    """Wait for something to be true; fails the test when it does not become so."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {patience:g} s")
