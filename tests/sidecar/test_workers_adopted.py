"""Whoever comes after a crash finds the worker itself, not what the worker started: that carries its mark, too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hansa.sidecar.actuators.processes import Processes
from hansa.sidecar.actuators.workers import MARK, Worker

# Starts another in a session of its own, with its own parent or with none that is left, and works on.
PARENT = """
import pathlib, subprocess, sys, time
time.sleep(0.05)
command = [sys.executable, "-c", "import os, sys, time; print(os.getpid(), flush=True); time.sleep(60)"]
if sys.argv[1] == "orphan":
    between = f"import subprocess; subprocess.Popen({command!r}, start_new_session=True)"
    subprocess.run([sys.executable, "-c", between], check=True)
else:
    subprocess.Popen(command, start_new_session=True)
time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["child", "orphan"])
def test_a_session_that_a_worker_started_is_not_taken_for_it(tmp_path: Path, kind: str) -> None:
    (tmp_path / "w.workers.json").write_text(json.dumps([Worker("w-a", 0, 0.0).as_json()]))
    argv = [sys.executable, "-c", PARENT, kind]
    started = subprocess.Popen(
        argv, env={**os.environ, MARK: "w-a"}, start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    child = int(started.stdout.readline())
    try:
        if kind == "orphan":
            # Until the one in between has ended.
            time.sleep(0.3)
        actuator = Processes("w", argv, tmp_path)
        assert [it.pid for it in actuator._workers] == [started.pid]
        actuator.close()
    finally:
        os.kill(child, signal.SIGKILL)
        started.kill()
        started.communicate()
