"""Executors side by side as the scaler runs them: two runs at once, and none is ended by scaling down."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import tomli_w
from engine import Engine, engine, until
from flwr.cli.build import build_fab_from_files

from hansa.server.runs import RunState, run_status, start_run
from hansa.sidecar.actuators.processes import Processes

pytestmark = pytest.mark.e2e

# Says in which process it runs, and runs until it is told to end.
APP = """
import os, pathlib, time
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    sign = pathlib.Path(context.run_config["sign"])
    sign.with_suffix(".new").write_text(str(os.getpid()))
    sign.with_suffix(".new").replace(sign)
    while not sign.with_suffix(".end").exists(): time.sleep(0.05)
"""


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Engine]:
    with engine(tmp_path, members=0) as started:
        started.start_superlink()
        yield started


@contextmanager
def executors(it: Engine) -> Iterator[Processes]:
    """The scaler's actuator over real executors, each for one ServerApp at a time."""
    command = [sys.executable, "-m", "hansa.server.executor", "--address", it.inner]
    command += ["--secret", str(it.secret), "--capacity", "1", "--ready-file", "{ready}"]
    actuator = Processes("executor", command, it.folder / "workers", drain=signal.SIGUSR1, drain_s=600.0)
    try:
        yield actuator
    finally:
        for worker in actuator._workers:
            worker.signal(signal.SIGTERM)
        for process in actuator._own.values():
            process.wait(20)
        actuator.close()


class Run:
    """One run of the app above."""

    def __init__(self, it: Engine, name: str) -> None:
        self.it, self.sign = it, it.folder / name
        components = {"serverapp": "waits:app", "clientapp": "waits:app"}
        pyproject = {
            "project": {"name": "waits", "version": "1.0.0", "description": "-", "license": "Apache-2.0"},
            "tool": {
                "flwr": {
                    "app": {
                        "publisher": "hansa",
                        "components": components,
                        "config": {"sign": str(self.sign)},
                    }
                }
            },
        }
        files = {"pyproject.toml": tomli_w.dumps(pyproject).encode(), "waits.py": APP.encode()}
        self.id = start_run(it.inner, fab=build_fab_from_files(files)[0])

    @property
    def executor(self) -> int:
        """The process id of the executor that it runs in."""
        until(self.sign.exists)
        parent = psutil.Process(int(self.sign.read_text())).ppid()
        return int(parent)

    @property
    def state(self) -> RunState:
        found = run_status(self.it.inner, self.id)
        assert found is not None
        return found

    def end(self) -> None:
        self.sign.with_suffix(".end").touch()
        until(lambda: self.state.finished, 30)


def test_two_executors_run_two_jobs_side_by_side_and_one_runs_them_one_by_one(it: Engine) -> None:
    with executors(it) as actuator:
        actuator.scale(1)
        until(lambda: actuator.read().ready == 1)
        first = Run(it, "first")
        assert first.executor in {worker.pid for worker in actuator._workers}
        second = Run(it, "second")
        time.sleep(3.0)
        assert not second.sign.exists()
        actuator.scale(2)
        assert second.executor != first.executor
        assert {first.state.status, second.state.status} == {"running"}
        second.end()
        first.end()
        assert {first.state.sub_status, second.state.sub_status} == {"completed"}


def test_scaling_down_ends_no_run_and_its_executor_takes_no_other(it: Engine) -> None:
    with executors(it) as actuator:
        actuator.scale(2)
        until(lambda: actuator.read().ready == 2)
        runs = [Run(it, "first"), Run(it, "second")]
        places = [run.executor for run in runs]
        assert actuator.scale(1).leaving == 1
        [leaving] = [worker.pid for worker in actuator._workers if worker.leaving is not None]
        stays, goes = runs if places[1] == leaving else runs[::-1]
        time.sleep(3.0)
        assert actuator.read().leaving == 1
        assert goes.state.status == "running"
        # Work for another comes while one leaves: it waits for the one that stays.
        third = Run(it, "third")
        time.sleep(2.0)
        assert not third.sign.exists()
        goes.end()
        until(lambda: actuator.read().leaving == 0, 20)
        assert goes.state.sub_status == "completed"
        assert not third.sign.exists()
        stays.end()
        assert third.executor == places[runs.index(stays)]
        third.end()


def test_one_without_work_leaves_at_once_and_one_that_is_only_starting_does_too(it: Engine) -> None:
    with executors(it) as actuator:
        actuator.scale(1)
        until(lambda: actuator.read().ready == 1)
        actuator.scale(2)
        time.sleep(0.3)
        actuator.scale(0)
        began = time.monotonic()
        until(lambda: actuator.read().leaving == 0, 20)
        assert time.monotonic() - began < 10.0
        assert all(not psutil.pid_exists(pid) or pid == os.getpid() for pid in actuator._own)
