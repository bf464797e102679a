"""SuperLink, executor and nodes as real processes with TLS and node keys, for tests of the engine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.serde import run_from_proto
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

from hansa.cli.certificates import issue_authority, issue_server
from hansa.server.runs import start_run

SECRET = b"s" * 32


class Engine:
    """Processes in one folder; `stop` ends them and says which of their children are left."""

    def __init__(self, folder: Path, members: int = 2) -> None:
        self.folder = folder
        self.inner, self.fleet = (f"127.0.0.1:{free_port()}" for _ in range(2))
        authority = issue_authority("test", datetime.now(UTC))
        issued = issue_server(authority, ["localhost", "127.0.0.1"], datetime.now(UTC))
        self.ca = self._file("ca.crt", authority.certificate)
        self.certificate = self._file("server.crt", issued.certificate)
        self.key = self._file("server.key", issued.key)
        self.secret = self._file("secret", SECRET)
        self.members = [self.new_key(f"member-{number}") for number in range(members)]
        public = [{"name": it.stem, "public_key": it.with_suffix(".pub").read_text()} for it in self.members]
        self.nodes = self._file("nodes.json", json.dumps(public).encode())
        self._beats: list[HeartbeatSender] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def new_key(self, name: str) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        self._file(f"{name}.pub", public)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        return self._file(f"{name}.key", private)

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        home = self.folder / f"home-{name}"
        home.mkdir(exist_ok=True)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "FLWR_HOME": str(home), "PATH": path}
        with (self.folder / f"{name}.log").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                command, env=environment, cwd=home, stdout=output, stderr=output
            )
        return self.processes[name]

    def start_superlink(self, *options: str) -> subprocess.Popen[bytes]:
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        process = self.start(
            "superlink",
            *(sys.executable, "-m", "hansa.server.superlink", "--inner", self.inner, "--fleet", self.fleet),
            *("--certificate", str(self.certificate), "--key", str(self.key), "--ca", str(self.ca)),
            *("--nodes", str(self.nodes), "--superexec-secret", str(self.secret), "--any-app"),
            *("--ready-file", str(ready), *options),
        )
        until(ready.exists, process=process)
        return process

    def start_node(self, key: Path, *options: str, ca: Path | None = None) -> subprocess.Popen[bytes]:
        return self.start(
            f"node-{key.stem}",
            *(sys.executable, "-m", "hansa.clients.node", "--server", self.fleet, "--key", str(key)),
            *("--ca", str(ca or self.ca), "--work-socket", str(self.work_socket(key)), *options),
        )

    def start_executor(self) -> subprocess.Popen[bytes]:
        return self.start(
            "executor",
            *(sys.executable, "-m", "hansa.server.executor"),
            *("--address", self.inner, "--secret", str(self.secret)),
        )

    def work_socket(self, key: Path) -> Path:
        return self.folder / f"{key.stem}.sock"

    def grid(self, fab: bytes | None = None) -> HttpGrid:
        """Be the ServerApp: start a run, take its task as an executor would, and open its grid."""
        start_run(self.inner, fab=fab)
        interceptors: list[Any] = [
            RuntimeVersionHttpInterceptor(component_name="SuperExec"),
            SuperExecAuthHttpInterceptor(
                master_secret=SECRET, protected_methods=["/flwr.proto.Runtime/AcquireTask"]
            ),
        ]
        with RuntimeHttpClient.from_server_address(self.inner, True, None, interceptors) as executor:
            token = executor.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-serverapp"])).token
        grid = HttpGrid(self.inner, insecure=True, token=token)
        given = grid._runtime_client.PullTaskInput(PullTaskInputRequest())
        TaskIdentity.task_id = given.task_id
        TaskIdentity.run_id = given.run.run_id
        TaskIdentity.node_id = given.context.node_id
        grid.set_run(run_from_proto(given.run))
        # A task that is silent for a minute is given up, and its token with it.
        beats = HeartbeatSender(make_task_heartbeat_fn_http(grid._runtime_client))
        beats.start()
        self._beats.append(beats)
        return grid

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> list[int]:
        """End everything; returns process ids that outlived their parent."""
        for beats in self._beats:
            beats.stop()
        children = []
        for process in self.processes.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                children += psutil.Process(process.pid).children(recursive=True)
        for process in reversed(self.processes.values()):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        _, alive = psutil.wait_procs(children, timeout=8)
        for it in alive:
            it.kill()
        return [it.pid for it in alive]

    def _file(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path


@contextlib.contextmanager
def engine(folder: Path, members: int = 2) -> Iterator[Engine]:
    it = Engine(folder, members)
    try:
        yield it
    finally:
        left = it.stop()
    assert left == []


def until(
    condition: Callable[[], Any], patience: float = 60.0, process: subprocess.Popen[bytes] | None = None
) -> Any:
    give_up = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < give_up, "waited in vain"
        assert process is None or process.poll() is None, "the process ended"
        time.sleep(0.02)
    return found


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return str(sock.getsockname()[1])
