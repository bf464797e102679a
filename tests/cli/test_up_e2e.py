"""Supervisors of real processes: in the background, killed, given wrong input, one for each organisation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_side import still_running, write_scenario

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

HANSA = [sys.executable, "-P", "-m", "hansa.cli"]


class Machine:
    """A directory to run commands in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        errors = (self.folder / "stderr").open("w")
        return subprocess.Popen(
            [*HANSA, *arguments], cwd=self.folder, stdout=subprocess.PIPE, stderr=errors, text=True
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        output = process.communicate(timeout=240)[0]
        return process.returncode, output

    @property
    def errors(self) -> str:
        return (self.folder / "stderr").read_text()

    def wait_for(self, text: str, process: subprocess.Popen[str], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.errors:
            assert process.poll() is None, self.errors
            assert time.monotonic() < deadline, self.errors
            time.sleep(0.02)

    def nothing_left(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while still_running(self.folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        return still_running(self.folder) == []


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    write_scenario(tmp_path / "scenario")
    yield Machine(tmp_path)
    assert still_running(tmp_path) == []


def test_two_members_are_warned_that_nothing_is_hidden(machine: Machine) -> None:
    write_scenario(machine.folder / "pair", ("a", "b"))
    code, _ = machine.run("up", "pair", "--rounds", "1")
    assert code == 0, machine.errors
    assert "warning: two members: each can subtract its own update" in machine.errors


def test_nothing_outlives_it_when_it_is_killed(machine: Machine) -> None:
    process = machine.start("up", "scenario", "--rounds", "5000", "--json")
    machine.wait_for("round 2:", process)
    process.kill()
    process.communicate()
    assert machine.nothing_left(10)


def test_detached_it_runs_on_until_down(machine: Machine) -> None:
    assert machine.run("up", "scenario", "--detach", "--rounds", "5000")[0] == 0, machine.errors
    code, output = machine.run("status", "--json")
    found = json.loads(output)
    assert code == 0
    assert found["running"]
    names = {
        "superlink",
        "control",
        "sidecar",
        "executor",
        *(f"{role}-{it}" for role in ("agent", "node") for it in "abc"),
    }
    assert {it["name"] for it in found["processes"] if it["state"] == "ready"} == names
    assert found["jobs"][0]["status"] in ("queued", "running")
    assert set(found["isolated"]) == {"a", "b", "c"}
    assert machine.run("up", "scenario")[0] == 2
    assert "runs already; stop it with: hansa down" in machine.errors
    code, output = machine.run("down")
    assert (code, "stopped" in output) == (0, True)
    assert still_running(machine.folder) == []
    assert not json.loads(machine.run("status", "--json")[1])["running"]


def test_interrupted_before_it_is_ready_nothing_stays_and_without_a_job_nothing_is_submitted(
    machine: Machine,
) -> None:
    log = machine.folder / ".hansa/tiny/logs/supervisor.log"
    process = machine.start("up", "scenario", "--detach", "--rounds", "5000")
    while not log.exists():
        assert process.poll() is None, machine.errors
        time.sleep(0.01)
    # Its supervisor lives and has written no record yet.
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert (process.returncode, still_running(machine.folder)) == (130, [])
    assert machine.errors.splitlines()[-1] == "stopped before all processes were ready; none of them runs"
    code, output = machine.run("up", "--no-job")
    assert (code, "nothing is trained or charged" in output) == (0, True), machine.errors
    found = json.loads(machine.run("status", "--json")[1])
    assert (found["jobs"], {it["state"] for it in found["processes"]}) == ([], {"ready"})
    assert machine.run("down")[0] == 0


def test_down_cleans_up_after_a_supervisor_that_was_killed(machine: Machine) -> None:
    assert machine.run("up", "scenario", "--detach", "--rounds", "5000")[0] == 0, machine.errors
    record = json.loads((machine.folder / ".hansa/tiny/run/up.json").read_text())
    os.kill(record["supervisor"], signal.SIGKILL)
    assert machine.run("down")[0] == 0
    assert still_running(machine.folder) == []


def test_wrong_records_are_said_in_one_sentence_before_anything_is_made(machine: Machine) -> None:
    table = machine.folder / "scenario" / "b.csv"
    table.write_text(table.read_text().replace("age,ward,y", "age,ward,target"))
    assert machine.run("up", "scenario")[0] == 2
    last = machine.errors.strip().splitlines()[-1]
    assert last.startswith("hansa: scenario/b.csv: column 'y' is missing")
    assert "Traceback" not in machine.errors
    assert not (machine.folder / ".hansa").exists()


def test_organisations_join_a_server_each_under_its_own_supervisor(machine: Machine) -> None:
    from hansa.cli.addresses import free_addresses

    at = free_addresses()
    where = ("--fleet", at.fleet, "--superlink", at.superlink, "--control", at.control)
    assert machine.run("provision", "scenario", "--out", "made", *where)[0] == 0, machine.errors
    server = machine.start("server", "start", "--instance", "made")
    machine.wait_for("server runs", server)
    clients = [machine.start("client", "start", "--instance", "made", "--org", name) for name in "ab"]
    try:
        for client in clients:
            machine.wait_for("agent and node run", client)
        assert machine.run("client", "status", "--instance", "made", "--org", "a", "--json")[0] == 0
        assert machine.run("client", "start", "--instance", "made", "--org", "a")[0] == 2
        assert "'a' runs already" in machine.errors
        assert machine.run("server", "start", "--instance", "made")[0] == 2
        assert "something listens there already" in machine.errors
    finally:
        for process in (*clients, server):
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


def test_a_node_whose_key_is_not_registered_says_so(machine: Machine) -> None:
    from hansa.cli.addresses import free_addresses
    from hansa.contract.keys import generate_node_key

    at = free_addresses()
    where = ("--fleet", at.fleet, "--superlink", at.superlink, "--control", at.control)
    assert machine.run("provision", "scenario", "--out", "made", *where)[0] == 0, machine.errors
    server = machine.start("server", "start", "--instance", "made")
    try:
        machine.wait_for("server runs", server)
        generate_node_key(machine.folder / "made" / "members" / "a" / "node" / "node.key")
        client = machine.start("client", "start", "--instance", "made", "--org", "a", "--logs", "logs")
        client.communicate(timeout=60)
        assert client.returncode == 2
        assert "node-a" in machine.errors
        assert "regist" in machine.errors
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
