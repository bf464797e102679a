"""What a round costs before any work is done: stock Flower and Hansa, side by side.

    python benchmarks/round_overhead.py [--rounds 30] [--stock-rounds 10] [--ours-only] [--json]

Five members, TLS, node authentication, empty work. Stock: `flower-superlink`, `flower-superexec`, five
`flower-supernode` and `grid.send_and_receive`. Ours: the whole project, as `hansa up` runs it, with
everything a round does (see `project_round.py`). Exchange: what of that is the way there and back, one
`Exchange.ask` over the lane to agents that answer at once.
Prints the median round of each and the ratio of stock to ours; with --json the last line is an object.

Expected on two cores with nothing else on them: stock 17-22 s, ours at most 0.3 s.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import ipaddress
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import project_round
import psutil
import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from flwr.cli.build import build_fab_from_files
from flwr.proto.control_pb2 import RegisterNodeRequest
from flwr.supercore.control.control_http_client import ControlHttpClient

from hansa.server.runs import run_status, start_run

MEMBERS = 5
HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
AGENT = """
import sys, threading
from hansa.contract.frames import serve_frames
serve_frames(sys.argv[1], lambda payload, peer: payload, 0o600)
threading.Event().wait()
"""


@dataclass(frozen=True)
class Figures:
    """Seconds: a median round, SuperLink CPU per round, submission to the ServerApp's first line.

    The last is that of a second run: everything is up, as when a job is submitted to a running server.
    """

    round_s: float
    server_cpu_s: float
    start_s: float
    rounds: list[float]


class Bench:
    """A folder of keys and the processes started in it; all are gone when the block is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._run_id = 0
        self._processes: list[subprocess.Popen[bytes]] = []
        self.ca, self.certificate, self.key = _certificates(folder)
        self.secret = folder / "secret"
        self.secret.write_bytes(os.urandom(32))
        self.node_keys = [_node_key(folder, f"member-{i}") for i in range(MEMBERS)]

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a process with a log and a Flower home of its own."""
        home = self.folder / f"home-{name}"
        home.mkdir()
        environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "FLWR_HOME": str(home)}
        environment |= {"FLWR_DISABLE_UPDATE_CHECK": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
        with (self.folder / f"{name}.log").open("wb") as output:
            process = subprocess.Popen(
                command, env=environment, cwd=home, stdout=output, stderr=output, start_new_session=True
            )
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """End everything, children of children included."""
        found = []
        for process in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for process in self._processes:
            process.terminate()
        _, alive = psutil.wait_procs(found, timeout=5)
        for it in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                it.kill()
        psutil.wait_procs(alive, timeout=5)

    def measure(
        self, address: str, superlink: int, ca: bytes | None, kind: str, rounds: int, size: int
    ) -> Figures:
        """Submit the app, wait for its figures; submit it again for the time a run takes to start."""
        process = psutil.Process(superlink)
        result = self._submit(address, ca, kind, rounds, size)
        self._wait_for(result / "started", address, ca)
        before = sum(process.cpu_times()[:2])
        self._wait_for(result / "result.json", address, ca)
        cpu = sum(process.cpu_times()[:2]) - before
        times = json.loads((result / "result.json").read_text())
        time.sleep(2.0)  # the first run's process goes
        submitted = time.time()
        again = self._submit(address, ca, kind, 1, size)
        self._wait_for(again / "result.json", address, ca)
        first_line = float((again / "first-line").read_text())
        return Figures(statistics.median(times), cpu / rounds, first_line - submitted, times)

    def _submit(self, address: str, ca: bytes | None, kind: str, rounds: int, size: int) -> Path:
        result = Path(tempfile.mkdtemp(prefix=f"result-{kind}-", dir=self.folder))
        config = {"result": str(result), "members": MEMBERS, "rounds": rounds, "kind": kind, "bytes": size}
        self._run_id = start_run(address, fab=_fab(config), ca=ca)
        return result

    def _wait_for(self, path: Path, address: str, ca: bytes | None) -> None:
        while not path.exists():
            self._must_run(address, self._run_id, ca)
            time.sleep(0.2)

    def _must_run(self, address: str, run_id: int, ca: bytes | None) -> None:
        state = run_status(address, run_id, ca=ca)
        if state is not None and state.finished and state.sub_status != "completed":
            raise SystemExit(f"the run failed: {state.details}; logs in {self.folder}")


def stock(bench: Bench, rounds: int) -> Figures:
    """Flower's own processes."""
    port = _free_port()
    address = f"127.0.0.1:{port}"
    superlink = bench.start(
        "stock-superlink",
        *(str(BIN / "flower-superlink"), "--host", "127.0.0.1", "--port", str(port)),
        *("--ssl-certfile", str(bench.certificate), "--ssl-keyfile", str(bench.key)),
        *("--ssl-ca-certfile", str(bench.ca), "--enable-supernode-auth", "--isolation", "process"),
        *("--superexec-auth-secret-file", str(bench.secret), "--disable-runtime-dependency-installation"),
    )
    _wait_for_port(port)
    ca = bench.ca.read_bytes()
    with ControlHttpClient.from_server_address(address, False, ca, interceptors=[]) as control:
        for key in bench.node_keys:
            pem = serialization.load_ssh_public_key(key.with_suffix(".pub").read_bytes()).public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            control.RegisterNode(RegisterNodeRequest(public_key=pem, name=key.stem))
    bench.start(
        "stock-superexec",
        *(str(BIN / "flower-superexec"), "--root-certificates", str(bench.ca)),
        *("--runtime-api-address", address, "--superexec-auth-secret-file", str(bench.secret)),
    )
    for key in bench.node_keys:
        bench.start(
            f"stock-{key.stem}",
            *(str(BIN / "flower-supernode"), "--root-certificates", str(bench.ca)),
            *("--superlink", address, "--auth-supernode-private-key", str(key)),
            *("--port", str(_free_port())),
        )
    return bench.measure(address, superlink.pid, ca, "stock", rounds, 1)


def exchange(bench: Bench, rounds: int, size: int) -> Figures:
    """The lane alone: no strategy, no control, no store, agents that answer with what they were sent."""
    inner, fleet = _free_port(), _free_port()
    nodes = bench.folder / "nodes.json"
    nodes.write_text(
        json.dumps(
            [{"name": it.stem, "public_key": it.with_suffix(".pub").read_text()} for it in bench.node_keys]
        )
    )
    ready = bench.folder / "ready"
    superlink = bench.start(
        "superlink",
        *(sys.executable, "-m", "hansa.server.superlink"),
        *("--inner", f"127.0.0.1:{inner}", "--fleet", f"127.0.0.1:{fleet}"),
        *("--certificate", str(bench.certificate), "--key", str(bench.key), "--ca", str(bench.ca)),
        *("--nodes", str(nodes), "--superexec-secret", str(bench.secret), "--ready-file", str(ready)),
        "--any-app",  # this program submits an app of its own
    )
    while not ready.exists():
        if superlink.poll() is not None:
            raise SystemExit(f"the SuperLink ended; logs in {bench.folder}")
        time.sleep(0.05)
    bench.start(
        "executor",
        *(sys.executable, "-m", "hansa.server.executor"),
        *("--address", f"127.0.0.1:{inner}", "--secret", str(bench.secret)),
    )
    for key in bench.node_keys:
        work_socket = bench.folder / f"{key.stem}.sock"
        bench.start(f"agent-{key.stem}", sys.executable, "-c", AGENT, str(work_socket))
        bench.start(
            f"node-{key.stem}",
            *(sys.executable, "-m", "hansa.clients.node", "--server", f"localhost:{fleet}"),
            *("--key", str(key), "--ca", str(bench.ca), "--work-socket", str(work_socket)),
        )
    return bench.measure(f"127.0.0.1:{inner}", superlink.pid, None, "exchange", rounds, size)


def _fab(config: dict[str, Any]) -> bytes:
    app = "round_overhead_app"
    pyproject = {
        "project": {"name": "overhead", "version": "1.0.0", "description": "-", "license": "Apache-2.0"},
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "hansa",
                    "components": {"serverapp": f"{app}:server", "clientapp": f"{app}:client"},
                    "config": config,
                }
            }
        },
    }
    source = (HERE / f"{app}.py").read_bytes()
    return build_fab_from_files({"pyproject.toml": tomli_w.dumps(pyproject).encode(), f"{app}.py": source})[0]


def _certificates(folder: Path) -> tuple[Path, Path, Path]:
    now = datetime.datetime.now(datetime.UTC)
    life = {"not_before": now - datetime.timedelta(minutes=5), "not_after": now + datetime.timedelta(days=1)}

    def build(subject: str, issuer: str, key: Any) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=life["not_before"],
            not_valid_after=life["not_after"],
        )

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = (
        build("bench CA", "bench CA", ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        build("localhost", "bench CA", key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    paths = folder / "ca.crt", folder / "server.crt", folder / "server.key"
    paths[0].write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    paths[2].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


def _node_key(folder: Path, name: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    path = folder / f"{name}.key"
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    path.with_suffix(".pub").write_bytes(
        key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )
    return path


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def _wait_for_port(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise SystemExit(f"nothing listens on port {port}")


@contextlib.contextmanager
def _bench(keep: bool) -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="hansa-bench-"))
    bench = Bench(folder)
    try:
        yield bench
    finally:
        bench.stop()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--stock-rounds", type=int, default=10)
    parser.add_argument("--bytes", type=int, default=64, help="payload of an exchange, each way")
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep logs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    print(f"{MEMBERS} members, TLS, node keys, empty work, {os.cpu_count()} cores")
    figures = {**_measure_ours(options), **_measure_exchange(options)}
    if not options.ours_only:
        figures |= _measure_stock(options)
        figures["ratio"] = figures["stock_s"] / figures["ours_s"]
        print(f"ratio    {figures['ratio']:8.1f}")
    if options.json:
        print(json.dumps(figures))


def _measure_ours(options: argparse.Namespace) -> dict[str, Any]:
    with _bench(options.keep) as bench:
        found = project_round.measure(bench.folder, options.rounds)
    _print_rounds("ours", found.rounds, f"seconds_floor {found.floor_s:g} s, load {found.load:.1f}")
    for role, seconds in found.cpu_s.items():
        print(
            f"  {role:<11}{seconds:.4f} s CPU a round, {found.memory_mib[role]:5.0f} MiB resident, a process"
        )
    return {
        "ours_s": found.round_s,
        "ours_worst_s": max(found.rounds),
        "server_cpu_s": found.server_cpu_s,
        "cpu_s": found.cpu_s,
        "memory_mib": found.memory_mib,
        "seconds_floor": found.floor_s,
        "load": found.load,
    }


def _measure_exchange(options: argparse.Namespace) -> dict[str, Any]:
    with _bench(options.keep) as bench:
        found = exchange(bench, options.rounds, options.bytes)
    start = f"ServerApp's first line after {found.start_s:.2f} s"
    _print_rounds("exchange", found.rounds, f"SuperLink {found.server_cpu_s:.3f} s CPU a round, {start}")
    return {
        "exchange_s": found.round_s,
        "exchange_superlink_cpu_s": found.server_cpu_s,
        "start_s": found.start_s,
    }


def _measure_stock(options: argparse.Namespace) -> dict[str, Any]:
    with _bench(options.keep) as bench:
        found = stock(bench, options.stock_rounds)
    start = f"first line after {found.start_s:.2f} s"
    _print_rounds("stock", found.rounds, f"SuperLink {found.server_cpu_s:.3f} s CPU a round, {start}")
    return {
        "stock_s": found.round_s,
        "stock_superlink_cpu_s": found.server_cpu_s,
        "stock_start_s": found.start_s,
    }


def _print_rounds(what: str, rounds: list[float], more: str) -> None:
    print(
        f"{what:<9}{statistics.median(rounds):8.3f} s a round, worst {max(rounds):.3f}, {len(rounds)} rounds; {more}"
    )


if __name__ == "__main__":
    main()
