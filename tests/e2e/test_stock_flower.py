"""The same federation on stock Flower: its SuperLink, its SuperNodes, `flwr run`. Slower, and it works.

And the reverse: Flower's own tools used against the federation by somebody who is not the operator.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from engine import free_port
from running import hansa, running, until

from hansa.cli.instance import Instance
from hansa.contract.keys import from_text
from hansa.contract.scenario import MemberConfig
from hansa.contract.signatures import read_charter
from hansa.contract.typed import read_toml
from hansa.contract.wire import check_signature, reply_header, unpack

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


class Started:
    """Processes that a test started, ended with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_HOME": str(folder / "flower"),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }

    def start(self, name: str, *command: object, **environment: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [str(part) for part in command],
                    env={**self.environment, **environment},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, 15)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    it = Started(tmp_path)
    yield it
    it.stop()


def connection(started: Started, name: str, address: str, ca: Path | None) -> None:
    """A connection in Flower's own configuration file."""
    home = Path(started.environment["FLWR_HOME"])
    home.mkdir(exist_ok=True)
    trust = f'root-certificates = "{ca}"' if ca else "insecure = true"
    (home / "config.toml").write_text(f'[superlink.{name}]\naddress = "{address}"\n{trust}\n')


def flwr_run(started: Started, app: Path, name: str) -> subprocess.CompletedProcess[str]:
    """`flwr run APP NAME`."""
    return subprocess.run(
        [str(BIN / "flwr"), "run", str(app), name],
        env=started.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_flwr_run_trains_on_a_stock_superlink_with_stock_supernodes(started: Started, tmp_path: Path) -> None:
    address, control = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    made = hansa(
        *("provision", "hospitals", "--out", "made", "--superlink", address, "--fleet", address),
        *("--control", control, "--set", "rounds=1", "--set", "privacy.fewest_rounds=1"),
        *("--set", "deadline_s=120", "--set", "reask_s=60"),
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stderr
    instance = Instance(tmp_path / "made")
    config = instance.control_config_path
    started.start("control", sys.executable, "-m", "hansa.server.control", "--config", config, "--no-keeper")
    server = instance.server
    started.start(
        "superlink",
        *(BIN / "flower-superlink", "--host", "127.0.0.1", "--port", address.rpartition(":")[2]),
        *("--ssl-certfile", server / "server.crt", "--ssl-keyfile", server / "server.key"),
        *("--ssl-ca-certfile", server / "ca.crt", "--enable-supernode-auth"),
        "--disable-runtime-dependency-installation",
        HANSA_SERVER_CONFIG=str(instance.server_config_path),
    )
    connection(started, "stock", address, server / "ca.crt")
    for name in instance.members:
        member = instance.member(name)
        started.start(f"agent-{name}", sys.executable, "-m", "hansa.clients.agent", "--folder", member.folder)
        register = [
            str(BIN / "flwr"),
            "supernode",
            "register",
            str(member.node_public),
            "stock",
            "--name",
            name,
        ]
        until(
            lambda command=register: (
                subprocess.run(command, env=started.environment, capture_output=True, check=False).returncode
                == 0
            ),
            60,
        )
        socket = member.folder / read_toml(member.config_path, MemberConfig).work_socket
        started.start(
            f"node-{name}",
            *(BIN / "flower-supernode", "--root-certificates", member.node_ca, "--superlink", address),
            *("--auth-supernode-private-key", member.node_key, "--port", free_port()),
            *("--node-config", f"work-socket='{socket}'"),
        )
    submitted = flwr_run(started, ROOT, "stock")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    found = until(lambda: finished(tmp_path, control, instance), 400)
    assert found["round"] == 1


def finished(cwd: Path, control: str, instance: Instance) -> dict[str, Any] | None:
    """The one job, once it has finished."""
    listed = hansa(
        "jobs",
        "list",
        "--json",
        "--control",
        f"http://{control}",
        "--instance",
        str(instance.folder),
        cwd=cwd,
    )
    jobs: list[dict[str, Any]] = json.loads(listed.stdout) if listed.returncode == 0 else []
    return jobs[0] if jobs and jobs[0]["status"] == "finished" else None


ROGUE = """
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    content = RecordDict({"hansa": ConfigRecord({"payload": b"HANSA" + bytes(300)})})
    replies = grid.send_and_receive([Message(content, node, "train") for node in grid.get_node_ids()], timeout=20)
    answers = [bytes(reply.content["hansa"]["payload"]) for reply in replies]
    print("ANSWERS", len(answers), sum(b'"code":"' in answer for answer in answers), flush=True)
"""


def rogue_app(folder: Path, source: str = ROGUE, config: str = "") -> Path:
    """A Flower app of somebody else's."""
    folder.mkdir()
    (folder / "rogue.py").write_text(source)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "rogue"\nversion = "1.0.0"\nlicense = "Apache-2.0"\n'
        '[tool.flwr.app]\npublisher = "somebody"\n'
        '[tool.flwr.app.components]\nserverapp = "rogue:app"\nclientapp = "rogue:app"\n'
        f"[tool.flwr.app.config]\n{config}"
    )
    return folder


def test_a_rogue_run_from_inside_the_operators_network_is_not_started(
    started: Started, tmp_path: Path
) -> None:
    app = rogue_app(tmp_path / "rogue")
    with running(tmp_path, "--rounds", "100000", "--set", "noise=none") as federation:
        federation.reach(2)
        address = tomllib.loads((federation.instance / "server" / "server.toml").read_text())["superlink"]
        connection(started, "inner", address, None)
        submitted = flwr_run(started, app, "inner")
        assert submitted.returncode != 0
        assert "ANSWERS" not in "".join(path.read_text() for path in (federation.instance / "logs").glob("*"))
        federation.reach(federation.round + 3)


# Everything about these requests is right, charter and job and members, but whose signature they carry.
FORGER = """
import json
from pathlib import Path

from flwr.app import Message
from flwr.serverapp import ServerApp

from hansa.contract.content import unwrap, wrap
from hansa.contract.jobs import JobPlan
from hansa.contract.keys import SigningKey
from hansa.contract.messages import HelloRequest, JobRequest, Order, RequestHeader, TrainRequest
from hansa.contract.signatures import read_charter
from hansa.contract.wire import digest, pack, seal

app = ServerApp()

@app.main()
def main(grid, context):
    config = context.run_config
    charter, charter_hash = read_charter(Path(config["charter"]))
    plan = JobPlan(job="ab" * 16, name="forged", rounds=1)
    order = Order(
        job=plan.job, attempt=1, kind="train", base=0, cohort=tuple(it.name for it in charter.members)
    )
    bodies = {"hello": HelloRequest(nonce="n"), "job": JobRequest(plan=plan), "attempt": TrainRequest(order=order)}
    requests = {}
    for name, body in bodies.items():
        header = RequestHeader(charter=charter_hash, body=body)
        requests[f"{name}, foreign key"] = seal(header, {}, SigningKey.generate())
        requests[f"{name}, unsigned"] = pack(header, bytes(64), {})
    own = RequestHeader(charter=charter_hash, body=bodies["hello"])
    requests["the operator's own"] = seal(own, {}, SigningKey.load(Path(config["operator"])))
    found = []
    for name, request in requests.items():
        messages = [Message(wrap(request), node, "train") for node in grid.get_node_ids()]
        for reply in grid.send_and_receive(messages, timeout=60):
            found.append([name, digest(request), unwrap(reply.content).hex()])
    part = Path(config["out"] + ".part")
    part.write_text(json.dumps(found))
    part.rename(config["out"])
"""


def test_agents_obey_no_key_but_the_operators_even_where_a_rogue_server_app_runs(
    started: Started, tmp_path: Path
) -> None:
    inner, fleet, control = (f"127.0.0.1:{free_port()}" for _ in range(3))
    made = hansa(
        *("provision", "hospitals", "--out", "made", "--superlink", inner, "--fleet", fleet),
        *("--control", control),
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stderr
    instance, ready = Instance(tmp_path / "made"), tmp_path / "superlink.ready"
    server, python = instance.server, (sys.executable, "-m")
    started.start(
        "superlink",
        *(*python, "hansa.server.superlink", "--any-app", "--inner", inner, "--fleet", fleet),
        *("--certificate", server / "server.crt", "--key", server / "server.key", "--ca", server / "ca.crt"),
        *("--charter", instance.charter, "--superexec-secret", server / "superexec.secret"),
        *("--ready-file", ready),
    )
    until(ready.exists, 60)
    executor = ("--address", inner, "--secret", server / "superexec.secret")
    started.start("executor", *python, "hansa.server.executor", *executor)
    for name in instance.members:
        member = instance.member(name)
        started.start(f"agent-{name}", *python, "hansa.clients.agent", "--folder", member.folder)
        started.start(
            f"node-{name}",
            *(*python, "hansa.clients.node", "--server", fleet, "--key", member.node_key),
            *("--ca", member.node_ca, "--work-socket", member.folder / member.config.work_socket),
        )
    for name in instance.members:
        socket = instance.member(name).folder / instance.member(name).config.work_socket
        until(socket.exists, 60)
        until(lambda name=name: "online" in started.log(f"node-{name}"), 60)
    answers = tmp_path / "answers.json"
    config = {"charter": instance.charter, "operator": instance.control / "operator.key", "out": answers}
    app = rogue_app(
        tmp_path / "rogue", FORGER, "".join(f'{key} = "{path}"\n' for key, path in config.items())
    )
    connection(started, "inner", inner, None)
    submitted = flwr_run(started, app, "inner")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    until(answers.exists, 120)

    members = {it.name: it for it in read_charter(instance.charter)[0].members}
    said: dict[str, dict[str, str]] = {}
    for name, request, payload in json.loads(answers.read_text()):
        packed = unpack(bytes.fromhex(payload))
        reply = reply_header(packed)
        assert check_signature(packed, from_text(members[reply.sender].identity_key))
        assert reply.request == request
        said.setdefault(name, {})[reply.sender] = getattr(reply.body, "code", reply.body.type)
    # The way to every agent is open: what the operator signed is answered.
    assert said.pop("the operator's own") == dict.fromkeys(members, "hello")
    assert len(said) == 6
    assert said == dict.fromkeys(said, dict.fromkeys(members, "not-operator"))
    for name in members:
        path = instance.member(name).folder / "agent.sqlite"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as kept:
            assert kept.execute("SELECT count(*) FROM attempts").fetchone() == (0,)
            assert kept.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
