"""`docker compose` with scaling: executors are containers that come with the jobs and go once their runs are done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
PORT = 19481
PROJECT = "hansa-scaling"
# No members are needed: a job without a cohort waits for one, in an executor.
SERVICES = ("superlink", "control", "executor", "sidecar", "docker-gate")

pytestmark = [
    pytest.mark.compose,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("docker") is None, reason="needs Docker"),
]


def compose(*arguments: str, check: bool = True) -> str:
    """One `docker compose` command in a project of this test's own, with an override that looks every second."""
    files = ("--file", "docker-compose.yml", "--env-file", "deploy/compose/scaling.env")
    done = subprocess.run(
        ["docker", "compose", "--project-name", PROJECT, *files, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "HANSA_CONTROL_PORT": str(PORT),
            "HANSA_SCALER": "/instance/sidecar/fast.toml",
            "HANSA_EXECUTORS": "3",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def inside(service: str, program: str) -> str:
    """The output of a Python program inside a container."""
    return compose("exec", "-T", service, "python3", "-c", program).strip()


def executors() -> dict[str, str]:
    """Status of the service's containers by name, stopped ones, too."""
    lines = subprocess.run(
        [
            *("docker", "ps", "--all", "--format", "{{.Names}} {{.State}}"),
            *("--filter", f"label=com.docker.compose.project={PROJECT}"),
            *("--filter", "label=com.docker.compose.service=executor"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return dict(line.split() for line in lines)  # type: ignore[misc]


def until(condition: Callable[[], Any], patience: float = 60.0) -> Any:
    deadline = time.monotonic() + patience
    while not (found := condition()):
        logs = compose("logs", "--no-color", "--tail", "15", "sidecar", "docker-gate", "executor")
        assert time.monotonic() < deadline, logs
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def control() -> Iterator[httpx.Client]:
    """The consortium's side with scaling; a client of control that may write."""
    compose("down", "--volumes", "--remove-orphans", check=False)
    try:
        fast = (ROOT / "tests" / "e2e" / "scaler_fast.toml").read_text()
        compose("up", "--build", "--detach", *SERVICES[:-2])
        # Where the sidecar will look for it; that volume is its own.
        write = f"open('/instance/sidecar/fast.toml', 'w').write({fast!r})"
        run = ("run", "--rm", "--no-deps", "-T", "--entrypoint", "python3", "sidecar", "-c")
        compose(*run, write)
        compose("up", "--detach", *SERVICES)
        token = json.loads(inside("control", "print(open('/instance/control/tokens.json').read())"))["write"]
        with httpx.Client(
            base_url=f"http://127.0.0.1:{PORT}", headers={"Authorization": f"Bearer {token}"}, trust_env=False
        ) as client:
            yield client
    finally:
        compose("down", "--volumes", "--remove-orphans", check=False)


def submit() -> None:
    """One more job, as the operator submits it."""
    compose(
        "run",
        "--rm",
        "--no-deps",
        "-T",
        "--entrypoint",
        "hansa",
        "job",
        "jobs",
        "submit",
        "--instance",
        "/instance",
    )


def running(control: httpx.Client) -> list[str]:
    """Jobs that run in an executor, in the order of submission."""
    return [it["job"] for it in control.get("/v1/jobs").json() if it["status"] == "running"]


def server_apps(container: str) -> int:
    """Processes of a container besides the executor itself."""
    done = subprocess.run(
        ["docker", "top", container, "-o", "pid"], capture_output=True, text=True, check=True
    )
    return len(done.stdout.splitlines()) - 2


def restarts(container: str) -> int:
    done = subprocess.run(
        ["docker", "inspect", "--format", "{{.RestartCount}}", container],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_executors_come_with_jobs_and_leave_after_their_runs(control: httpx.Client) -> None:
    own, second = f"{PROJECT}-executor-1", f"{PROJECT}-executor-2"
    submit()
    until(lambda: len(running(control)) == 1)
    assert executors() == {own: "running"}
    submit()
    # The second job waits, until the scaler has had another container made for it.
    until(lambda: executors() == {own: "running", second: "running"})
    first_job, second_job = until(lambda: len(found := running(control)) == 2 and found)
    assert (server_apps(own), server_apps(second)) == (1, 1)
    status = compose(
        "exec", "-T", "sidecar", "hansa", "scaler", "status", "--state", "/instance/sidecar/scaler", "--json"
    )
    [service] = json.loads(status)
    assert (service["service"], service["wanted"], service["demand"]) == ("executor", 2, 2.0)
    # One job fewer: the newer executor is told to leave, and its run goes on.
    assert control.post(f"/v1/jobs/{first_job}/stop").status_code == 200
    until(lambda: control.get("/v1/scaling/newest").json()[0]["leaving"] == 1)
    time.sleep(3.0)
    assert running(control) == [second_job]
    assert executors() == {own: "running", second: "running"}
    assert server_apps(second) == 1
    # Its run is over: it ends by itself, is not started again, and its container is removed.
    assert control.post(f"/v1/jobs/{second_job}/stop").status_code == 200
    until(lambda: executors() == {own: "running"})
    assert restarts(own) == 0
    entries = control.get("/v1/scaling").json()
    # What containers use comes through the gate, too.
    assert any(it["cpu"] is not None and 0.0 < it["memory"] < 1.0 for it in entries)
    did = [it["did"] for it in entries]
    assert did.count("scaled") == 2
    assert "failed" not in did


def test_the_sidecar_has_no_way_to_docker_but_the_gate(control: httpx.Client) -> None:
    mounts = {}
    for service in ("sidecar", "docker-gate"):
        container = compose("ps", "--quiet", service).strip()
        done = subprocess.run(
            ["docker", "inspect", "--format", "{{json .Mounts}}", container], capture_output=True, check=True
        )
        mounts[service] = [it["Source"] for it in json.loads(done.stdout)]
    assert [name for name, sources in mounts.items() if "/var/run/docker.sock" in sources] == ["docker-gate"]
    assert inside("docker-gate", "import socket; print([n for _, n in socket.if_nameindex()])") == "['lo']"
    foreign = compose("ps", "--quiet", "control").strip()
    program = (
        "import json, pathlib\n"
        "from hansa.sidecar.actuators.unix_http import ask\n"
        "gate = pathlib.Path('/instance/gate/gate.sock')\n"
        f"tries = [('GET', '/info'), ('POST', '/containers/{foreign}/stop?t=1'), ('DELETE', '/containers/{foreign}'),\n"
        f"    ('GET', '/containers/{foreign}/json'), ('POST', '/containers/{foreign}/exec'), ('GET', '/images/json'),\n"
        "    ('POST', '/containers/create?service=control'), ('POST', '/volumes/create')]\n"
        "print([ask(gate, *it)[0] for it in tries])"
    )
    assert inside("sidecar", program) == str([403] * 8)
    assert control.get("/v1/health").json()["status"] == "ok"


def test_the_gate_allows_no_more_containers_than_it_was_told(control: httpx.Client) -> None:
    program = (
        "import pathlib\n"
        "from hansa.sidecar.actuators.unix_http import ask\n"
        "gate = pathlib.Path('/instance/gate/gate.sock')\n"
        "made = [ask(gate, 'POST', '/containers/create?service=executor') for _ in range(3)]\n"
        "print([it[0] for it in made])\n"
        "for status, it in made:\n"
        "    if status == 201: ask(gate, 'DELETE', '/containers/' + it['Id'])\n"
    )
    # Meanwhile the scaler looks: what is not up is no replica.
    assert inside("sidecar", program) == "[201, 201, 409]"
