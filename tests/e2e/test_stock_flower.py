"""The same federation on stock Flower: its SuperLink, its SuperNodes, `flwr run`. Slower, and it works.

And the reverse: Flower's own tools used against the federation by somebody who is not the operator.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import free_port
from running import hansa, running, until

from hansa.cli.instance import Instance
from hansa.contract.scenario import MemberConfig
from hansa.contract.typed import read_toml

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

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
        *("--control", control, "--set", "rounds=1", "--set", "deadline_s=120", "--set", "reask_s=60"),
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
    import json

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


def rogue_app(folder: Path) -> Path:
    """A Flower app of somebody else's."""
    folder.mkdir()
    (folder / "rogue.py").write_text(ROGUE)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "rogue"\nversion = "1.0.0"\nlicense = "Apache-2.0"\n'
        '[tool.flwr.app]\npublisher = "somebody"\n'
        '[tool.flwr.app.components]\nserverapp = "rogue:app"\nclientapp = "rogue:app"\n'
    )
    return folder


def test_a_rogue_run_from_inside_the_operators_network_is_not_started(
    started: Started, tmp_path: Path
) -> None:
    app = rogue_app(tmp_path / "rogue")
    with running(tmp_path, "--rounds", "100000") as federation:
        federation.reach(2)
        address = tomllib.loads((federation.instance / "server" / "server.toml").read_text())["superlink"]
        connection(started, "inner", address, None)
        submitted = flwr_run(started, app, "inner")
        assert submitted.returncode != 0
        assert "ANSWERS" not in "".join(path.read_text() for path in (federation.instance / "logs").glob("*"))
        federation.reach(federation.round + 3)
