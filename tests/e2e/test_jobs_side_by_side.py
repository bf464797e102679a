"""`hansa up --executors`: a second job gets an executor of its own, which leaves after it and ends with the rest."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from running import RunningFederation, hansa, left_behind, running, until

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(300)]

# Training without noise charges nothing, so that no budget ends a job.
LONG = ("--rounds", "100000", "--set", "noise=none", "--executors", "2")


def workers(federation: RunningFederation) -> list[int]:
    """Process ids of executors that the sidecar started."""
    path = federation.instance / "sidecar" / "scaler" / "workers" / "executor.workers.json"
    return (
        [it["pid"] for it in json.loads(path.read_text()) if psutil.pid_exists(it["pid"])]
        if path.exists()
        else []
    )


def applied(federation: RunningFederation) -> dict[str, int]:
    """Newest round by job."""
    return {
        str(job): int(number)
        for job, number in federation.rows("SELECT job, max(round) FROM rounds GROUP BY job")
    }


def test_two_jobs_train_side_by_side_and_the_second_executor_comes_and_goes(tmp_path: Path) -> None:
    with running(tmp_path, *LONG) as federation:
        federation.reach(2)
        [first] = applied(federation)
        assert workers(federation) == []
        submitted = hansa("jobs", "submit", "--rounds", "100000", "--json", cwd=tmp_path)
        assert submitted.returncode == 0, submitted.stderr
        second = json.loads(submitted.stdout)["job"]
        until(lambda: second in applied(federation), 90)
        [worker] = workers(federation)
        # Each in an executor of its own, and both go on.
        supervised = federation.pid("executor")
        assert [len(psutil.Process(pid).children()) for pid in (supervised, worker)] == [1, 1]
        before = applied(federation)
        until(lambda: all(applied(federation)[job] > before[job] + 2 for job in (first, second)), 60)
        # The sidecar dies: its worker goes on, and the next sidecar adopts it.
        federation.kill("sidecar")
        time.sleep(1.0)
        before = applied(federation)
        until(lambda: applied(federation)[second] > before[second] + 2, 60)
        time.sleep(6.0)
        assert workers(federation) == [worker]
        # The first job is over: an executor is too many, and the second job is not cut off whichever goes.
        assert hansa("jobs", "stop", first, cwd=tmp_path).returncode == 0
        runs = federation.rows(f"SELECT count(*) FROM runs WHERE job = '{second}'")

        def leaving() -> bool:
            return bool(json.loads(hansa("scaler", "status", "--json", cwd=tmp_path).stdout)[0]["leaving"])

        until(leaving, 90)
        before = applied(federation)
        until(lambda: applied(federation)[second] > before[second] + 2, 60)
        assert federation.rows(f"SELECT count(*) FROM runs WHERE job = '{second}'") == runs == [(1,)]
        assert hansa("jobs", "stop", second, cwd=tmp_path).returncode == 0
        until(lambda: workers(federation) == [], 60)


@pytest.mark.long
def test_a_supervisor_that_is_killed_leaves_no_executor_for_long(tmp_path: Path) -> None:
    started = hansa("up", "--detach", "--json", *LONG, cwd=tmp_path)
    assert started.returncode == 0, started.stderr
    instance = tmp_path / json.loads(started.stdout.strip().splitlines()[-1])["instance"]
    federation = RunningFederation(tmp_path, instance)
    assert hansa("jobs", "submit", "--rounds", "100000", cwd=tmp_path).returncode == 0
    [worker] = until(lambda: workers(federation), 60)
    lines = {it.pid: " ".join(it.info["cmdline"] or []) for it in psutil.process_iter(["cmdline"])}
    supervisors = [
        pid for pid, line in lines.items() if "hansa.cli.background" in line and str(instance) in line
    ]
    assert len(supervisors) == 1
    for pid in supervisors:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(worker), 60)
    until(lambda: not left_behind(instance), 20)
