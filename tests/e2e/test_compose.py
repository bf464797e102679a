"""`docker compose up`: every organisation takes part in every round, and nobody reaches what is not theirs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
ORGANISATIONS = [
    member["name"]
    for member in tomllib.loads((ROOT / "configs" / "consortium" / "scenario.toml").read_text())["members"]
]
PORT = 19480

pytestmark = [
    pytest.mark.compose,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("docker") is None, reason="needs Docker"),
]


def compose(*arguments: str, check: bool = True) -> str:
    """One `docker compose` command in a project of this test's own."""
    done = subprocess.run(
        ["docker", "compose", "--project-name", "hansa-test", *arguments],
        cwd=ROOT,
        env={**os.environ, "HANSA_CONTROL_PORT": str(PORT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def inside(service: str, program: str) -> str:
    """The output of a Python program inside a container."""
    return compose("exec", "-T", service, "python3", "-c", program).strip()


@pytest.fixture(scope="module")
def federation() -> Iterator[httpx.Client]:
    """The whole composition, its job finished; a client of control with the read token."""
    compose("down", "--volumes", "--remove-orphans", check=False)
    try:
        compose("up", "--build", "--detach")
        token = json.loads(inside("control", "print(open('/instance/control/tokens.json').read())"))["read"]
        control = httpx.Client(
            base_url=f"http://127.0.0.1:{PORT}", headers={"Authorization": f"Bearer {token}"}, trust_env=False
        )
        deadline = time.monotonic() + 180
        while job(control)["status"] != "finished":
            assert time.monotonic() < deadline, compose("logs", "--no-color", "--tail", "20")
            time.sleep(1)
        yield control
    finally:
        compose("down", "--volumes", "--remove-orphans", check=False)


def job(control: httpx.Client) -> dict[str, Any]:
    """The one job, or an empty status while there is none."""
    jobs = control.get("/v1/jobs").json()
    return jobs[-1] if jobs else {"status": "none"}


def reach(host: str, port: int) -> str:
    """A program that prints whether a connection opens."""
    return (
        "import socket\n"
        f"try: socket.create_connection(({host!r}, {port}), 3); print('open')\n"
        "except OSError: print('closed')"
    )


def test_every_organisation_took_part_in_every_round(federation: httpx.Client) -> None:
    found = job(federation)
    rounds = federation.get(f"/v1/jobs/{found['job']}/rounds").json()
    assert [entry["round"] for entry in rounds] == [1, 2, 3]
    for entry in rounds:
        assert sorted(entry["active"]) == sorted(ORGANISATIONS)


def test_agents_have_no_network_and_say_so(federation: httpx.Client) -> None:
    for name in ORGANISATIONS:
        assert (
            inside(f"agent-{name}", "import socket; print([n for _, n in socket.if_nameindex()])") == "['lo']"
        )
    members = federation.get("/v1/members").json()
    assert sorted(member["name"] for member in members) == sorted(ORGANISATIONS)
    assert all(member["isolated"] for member in members)


def test_a_node_reaches_the_members_listener_and_neither_control_nor_runtime(
    federation: httpx.Client,
) -> None:
    node = f"node-{ORGANISATIONS[0]}"
    address = inside("superlink", "import socket; print(socket.gethostbyname('superlink-inner'))")
    assert inside(node, reach("superlink", 9443)) == "open"
    for host, port in (("superlink", 9440), (address, 9440), ("control", 9480), ("superlink-inner", 9440)):
        assert inside(node, reach(host, port)) == "closed", (host, port)
    # Control's and Runtime's paths do not exist on the listener that is open to members.
    program = (
        "import httpx, ssl\n"
        "trust = ssl.create_default_context(cafile='/node/ca.crt')\n"
        "with httpx.Client(base_url='https://superlink:9443', verify=trust, trust_env=False) as client:\n"
        "    paths = ['/v1/control/list-runs', '/v1/runtime/get-nodes', '/v1/fleet/../control/list-runs', '/docs']\n"
        "    print([client.post(path, content=b'').status_code for path in paths])"
    )
    assert inside(node, program) == "[404, 404, 404, 404]"


def test_containers_are_not_root_and_write_nowhere_but_in_their_volumes(federation: httpx.Client) -> None:
    program = (
        "import os\n"
        "print(os.getuid())\n"
        "try: open('/usr/written', 'w'); print('writable')\n"
        "except OSError: print('read-only')"
    )
    for service in (
        "superlink",
        "control",
        "executor",
        f"agent-{ORGANISATIONS[0]}",
        f"node-{ORGANISATIONS[0]}",
    ):
        assert inside(service, program).split() == ["10001", "read-only"], service


def test_a_node_holds_no_data_and_no_key_but_its_own(federation: httpx.Client) -> None:
    program = (
        "import os, stat\n"
        "print(sorted(os.path.join(d, f) for top in ('/node', '/work', '/member', '/instance/members') "
        "for d, _, fs in os.walk(top) for f in fs "
        "if os.path.getsize(os.path.join(d, f)) or stat.S_ISSOCK(os.stat(os.path.join(d, f)).st_mode)))"
    )
    found = inside(f"node-{ORGANISATIONS[0]}", program)
    # The agent's socket for rounds, and not the one for grants, unfreezing and export.
    assert found == "['/node/ca.crt', '/node/node.key', '/node/node.pub', '/work/work.sock']"


def test_from_a_node_nothing_is_granted_unfrozen_or_exported(federation: httpx.Client) -> None:
    """Neither by the command line nor by the words of admin.sock, said to the one socket that is there."""
    node = f"node-{ORGANISATIONS[0]}"
    program = (
        "import json, socket, struct\n"
        "for words in (dict(command='grant', name='x', epsilon=8, delta=1e-5), dict(command='unfreeze-grant', "
        "grant='first', by='x'), dict(command='recover', by='x'), dict(command='status')):\n"
        "    content = json.dumps(words).encode()\n"
        "    with socket.socket(socket.AF_UNIX) as it:\n"
        "        it.settimeout(20)\n"
        "        it.connect('/work/work.sock')\n"
        "        it.sendall(struct.pack('>I', len(content)) + content)\n"
        "        answer = b''\n"
        "        while part := it.recv(65536): answer += part\n"
        "    print(b'not Hansa' in answer or b'not a Hansa' in answer or b'too short' in answer, b'\"ok\"' in answer)\n"
    )
    assert inside(node, program).split("\n") == ["True False"] * 4
    for command in (
        "budgets grant x --epsilon 1 --expires 2999-01-01 --purpose p --legal-basis l --by me",
        "budgets unfreeze first",
        "jobs export --org kontor-bank",
    ):
        argv = ["hansa", *command.split()]
        program = (
            "import subprocess\n"
            f"done = subprocess.run({argv!r}, capture_output=True, text=True)\n"
            "print(done.returncode, 'Traceback' in done.stderr)"
        )
        code, traceback = inside(node, program).split()
        assert (code != "0", traceback) == (True, "False"), command


def test_neither_executor_nor_superlink_holds_the_operators_key(federation: httpx.Client) -> None:
    program = (
        "import glob; print(glob.glob('/instance/**/operator.key') + glob.glob('/server/**/operator.key'))"
    )
    for service in ("executor", "superlink"):
        assert inside(service, program) == "[]"
    assert inside("control", program) != "[]"


def test_the_job_is_submitted_without_any_key_and_without_the_token_that_signs(
    federation: httpx.Client,
) -> None:
    program = (
        "import json, os\n"
        "print(json.dumps({os.path.join(d, f): open(os.path.join(d, f)).read()"
        " for d, _, fs in os.walk('/instance') for f in fs}))"
    )
    # The container has ended by now: look into one like it.
    held = json.loads(
        compose("run", "--rm", "--no-deps", "-T", "--entrypoint", "python3", "job", "-c", program)
    )
    assert sorted(held) == [
        "/instance/instance.toml",
        "/instance/operator/job.toml",
        "/instance/operator/tokens.json",
    ]
    tokens = json.loads(inside("control", "print(open('/instance/control/tokens.json').read())"))
    assert json.loads(held["/instance/operator/tokens.json"]) == {
        scope: tokens[scope] for scope in ("read", "write")
    }


def test_a_killed_organisation_comes_back(federation: httpx.Client) -> None:
    name = ORGANISATIONS[1]
    container = compose("ps", "--quiet", f"agent-{name}").strip()
    subprocess.run(["docker", "kill", container], check=True, capture_output=True)
    subprocess.run(["docker", "start", container], check=True, capture_output=True)
    deadline = time.monotonic() + 60
    while "healthy" not in compose("ps", "--format", "{{.Status}}", f"agent-{name}"):
        assert time.monotonic() < deadline
        time.sleep(1)
