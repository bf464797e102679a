"""`hansa federated`: real processes in a folder of its own, figures in its summary, nothing left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_side import still_running, write_scenario

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

HANSA = [sys.executable, "-P", "-m", "hansa.cli"]


def test_every_organisation_trains_and_its_memory_is_known(tmp_path: Path) -> None:
    write_scenario(tmp_path / "scenario")
    done = subprocess.run(
        [*HANSA, "federated", "scenario", "--rounds", "2", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [part] = json.loads(done.stdout.splitlines()[-1])["parts"]
    assert (part["status"], part["headline"]["rounds"]) == ("done", 2)
    assert part["headline"]["organisations"] == 3
    assert len(part["result"]["rounds"]) == 2
    assert all(part["result"]["peak_bytes"][f"agent-{name}"] > 10_000_000 for name in "abc")
    assert (tmp_path / ".hansa/federated/instance.toml").exists()
    assert still_running(tmp_path) == []


def test_interrupted_it_says_so_and_leaves_nothing_running(tmp_path: Path) -> None:
    write_scenario(tmp_path / "scenario")
    process = subprocess.Popen(
        [*HANSA, "federated", "scenario", "--rounds", "5000", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "errors").open("w"),
        text=True,
    )
    deadline = time.monotonic() + 120
    while "round 1:" not in (tmp_path / "errors").read_text():
        assert time.monotonic() < deadline
        assert process.poll() is None, (tmp_path / "errors").read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    [part] = json.loads(output.splitlines()[-1])["parts"]
    assert part["status"] == "interrupted"
    assert part["result"]["rounds"]
    assert still_running(tmp_path) == []
