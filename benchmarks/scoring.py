"""How many predictions the scoring service makes, how soon, and whether a swap or a scale-down loses one.

    python benchmarks/scoring.py [--rounds 3] [--seconds 3] [--only open batch] [--json]

The service is the real one, `python -m hansa.clients.scoring`, with a bearer token, on the consortium scenario's
contract (12 columns, 9 of them numbers) and a linear model with an organisation's own version. Server and load
generator (`benchmarks/scoring_load.py`) are processes of their own, each on its own core, and the server's processor
time is what the kernel counts for it. The peer is FastAPI with pydantic (`benchmarks/scoring_peer.py`), same model,
same uvicorn, uvloop and httptools, measured in turn with the service. Other programs on the machine slow both: a
figure is the median over rounds; beside it stand the load average, and the share of the open loop's time for which
server and generator were ready to run and another program had their core. What they waited so is in the latencies.

    single    requests a second of processor time, 32 kept connections, closed loop; the peer's; their ratio
    open      p99 from when a request was due, at 2,000 requests a second, 64 connections; every round beside it
    batch     rows a second of wall time over one connection: 100,000 rows of float32, 20,000 rows of JSON
    swap      requests lost while five models take each other's place under 16 connections
    scale     requests lost while one of two replicas is told to end under 32 connections

The last line with --json: {"single_per_cpu_second", "peer_per_cpu_second", "ratio", "p99_ms", "batch_binary_rows",
"batch_json_rows", "lost_swap", "lost_scale", ...}.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scoring_load import core_wait

from hansa.clients.data.generators import generate
from hansa.clients.scoring.model_file import SERVED, TOKEN, model_bytes, model_facts, write_model
from hansa.contract.charter import ModelChoice, Task
from hansa.contract.features import FeatureContract, NumericColumn
from hansa.contract.library import scenario_folder
from hansa.contract.scenario import read_scenario
from hansa.contract.sources import SyntheticSource
from hansa.models.registry import load_model

HERE = Path(__file__).parent
SECRET = "0123456789abcdef0123456789abcdef"
BINARY, JSON = "application/octet-stream", "application/json"
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
RATE, CONNECTIONS = 2000.0, 32
PARTS = ("single", "open", "batch", "swap", "scale")


@dataclass(frozen=True)
class Setting:
    """A folder that is served, and rows to ask about."""

    folder: Path
    features: FeatureContract
    rows: list[dict[str, Any]]

    def publish(self, seed: int) -> None:
        """Put another model in place."""
        task = Task(title="t", features=self.features, model=ModelChoice(name="linear"))
        model, rng = load_model(task.model, self.features), np.random.default_rng(seed)
        tensors = {
            "weights": model.initial(0) + rng.normal(0, 0.5, model.parameters),
            "calibration": np.array([0.1, 0.9]),
            "adjustment": rng.normal(0, 0.1, len(self.features.encoded)),
        }
        facts = model_facts(task, job="ab" * 16, member="a", round=seed, personal="adjusted")
        write_model(self.folder / SERVED, model_bytes(facts, tensors))

    def raw(self, count: int) -> bytes:
        """So many rows of float32."""
        matrix = np.empty((len(self.rows), len(self.features.columns)), "<f4")
        for place, column in enumerate(self.features.columns):
            values = [row[column.name] for row in self.rows]
            if not isinstance(column, NumericColumn):
                values = [None if it is None else column.categories.index(str(it)) for it in values]
            matrix[:, place] = np.array(values, dtype=np.float64)
        return np.resize(matrix, (count, matrix.shape[1])).tobytes()

    def json(self, count: int) -> bytes:
        """So many rows of JSON."""
        return json.dumps([self.rows[place % len(self.rows)] for place in range(count)]).encode()


@dataclass(frozen=True)
class Server:
    """A process that serves, and where."""

    process: psutil.Process
    port: int
    ready: Path

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        used = self.process.cpu_times()
        return float(used.user + used.system)


def make_setting(folder: Path) -> Setting:
    """The organisation's folder, with its first model."""
    _, features = read_scenario(scenario_folder("consortium"))
    table = generate(SyntheticSource(generator="claims", rows=2000, seed=1, options={"missing": 0.02}))
    (folder / "member.toml").write_text(
        'name = "a"\nserver = "x:1"\ndata = { kind = "csv", path = "a.csv" }\n'
    )
    (folder / TOKEN).parent.mkdir(parents=True, exist_ok=True)
    (folder / TOKEN).write_text(SECRET + "\n")
    (folder / TOKEN).chmod(0o600)
    rows = table.drop(features.label.column).fill_nan(None).to_dicts()
    setting = Setting(folder, features, rows)
    setting.publish(0)
    return setting


@contextmanager
def serving(setting: Setting, kind: str = "service", name: str = "one") -> Iterator[Server]:
    """A server on its core."""
    ready = setting.folder / f"{kind}-{name}.ready"
    ready.unlink(missing_ok=True)
    argv = ["-m", "hansa.clients.scoring", "--folder", str(setting.folder), "--port", "0"]
    argv += ["--ready-file", str(ready), "--log-level", "error"]
    if kind == "peer":
        argv = [str(HERE / "scoring_peer.py"), str(setting.folder / SERVED), SECRET, str(ready)]
    child = subprocess.Popen(
        [sys.executable, *argv], preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE})
    )
    try:
        give_up = time.monotonic() + 60
        while not ready.exists():
            if child.poll() is not None or time.monotonic() > give_up:
                raise SystemExit(f"the {kind} did not start")
            time.sleep(0.02)
        address = json.loads(ready.read_text())["scoring"]
        yield Server(psutil.Process(child.pid), int(address.rpartition(":")[2]), ready)
    finally:
        child.terminate()
        child.wait()


def post(path: str, body: bytes, kind: str = JSON) -> bytes:
    """A request as bytes."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: scoring\r\nauthorization: Bearer {SECRET}\r\ncontent-type: {kind}\r\n"
    )
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


def load(
    request: bytes, servers: Sequence[Server], connections: int, seconds: float, rate: float | None = None
) -> Any:
    """The generator, started on its core; `finished` has its report."""
    work = {
        "request": base64.b64encode(request).decode(),
        "addresses": [("127.0.0.1", it.port, str(it.ready) if len(servers) > 1 else "") for it in servers],
        "connections": connections,
        "seconds": seconds,
        "rate": rate,
    }
    child = subprocess.Popen(
        [sys.executable, str(HERE / "scoring_load.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE}),
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(work).encode())
    child.stdin.close()
    return child


def finished(child: Any) -> dict[str, Any]:
    """The generator's report."""
    report: dict[str, Any] = json.loads(child.stdout.read())
    child.wait()
    if set(report["codes"]) - {"200"}:
        raise SystemExit(f"answers other than 200: {report['codes']}")
    return report


def single(setting: Setting, kind: str, seconds: float) -> tuple[float, float]:
    """Requests a second of the server's processor time, and of wall time."""
    request = post("/v1/score", json.dumps(setting.rows[0]).encode())
    with serving(setting, kind) as server:
        finished(load(request, [server], CONNECTIONS, 0.5))
        before = server.cpu
        report = finished(load(request, [server], CONNECTIONS, seconds))
        # Those still open at the end are answered too, and are in the processor time.
        answered = sum(report["codes"].values())
        return answered / (server.cpu - before), report["answered"] / report["seconds"]


def open_loop(setting: Setting, seconds: float) -> dict[str, float]:
    """Quantiles of latency in milliseconds at a fixed rate."""
    request = post("/v1/score", json.dumps(setting.rows[0]).encode())
    with serving(setting) as server:
        finished(load(request, [server], CONNECTIONS, 0.5))
        waited = core_wait(server.process.pid)
        report = finished(load(request, [server], 2 * CONNECTIONS, seconds, RATE))
        waited = core_wait(server.process.pid) - waited
        if report["lost"] or report["unsent"]:
            raise SystemExit(f"{report['lost']} lost and {report['unsent']} unsent at {RATE:g} requests/s")
        shares = {
            "generator": report["own_cpu"],
            "server_wait": waited,
            "generator_wait": report["own_wait"],
        }
        quantiles = {name: 1e3 * it for name, it in report["quantiles"].items()}
        return {**quantiles, **{name: it / report["seconds"] for name, it in shares.items()}}


def batch(setting: Setting, body: bytes, kind: str, rows: int, seconds: float) -> tuple[float, float]:
    """Rows a second of wall time, and of the server's processor time."""
    with serving(setting) as server:
        finished(load(post("/v1/score/batch", body, kind), [server], 1, 0.5))
        before = server.cpu
        report = finished(load(post("/v1/score/batch", body, kind), [server], 1, seconds))
        answered = sum(report["codes"].values())
        return rows * report["answered"] / report["seconds"], rows * answered / (server.cpu - before)


def swap(setting: Setting, seconds: float) -> tuple[int, int]:
    """Requests lost, and answered, while models change."""
    request = post("/v1/score", json.dumps(setting.rows[0]).encode())
    with serving(setting) as server:
        running = load(request, [server], 16, seconds)
        for seed in range(1, 6):
            time.sleep(seconds / 7)
            setting.publish(seed)
            server.process.send_signal(signal.SIGHUP)
        report = finished(running)
        text = _metrics(server)
        swaps = next(line for line in text.splitlines() if line.startswith("hansa_scoring_swaps_total"))
        if swaps.split()[1] != "5":
            raise SystemExit(f"not every model was taken up: {swaps}")
        return report["lost"] + report["unconnected"], sum(report["codes"].values())


def scale(setting: Setting, seconds: float) -> tuple[int, int, float]:
    """Requests lost, and answered, while one of two replicas ends; and how long that took."""
    request = post("/v1/score", json.dumps(setting.rows[0]).encode())
    with serving(setting, name="one") as leaving, serving(setting, name="two") as staying:
        running = load(request, [leaving, staying], CONNECTIONS, seconds + 1.0)
        time.sleep(1.0)
        leaving.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        psutil.wait_procs([leaving.process], timeout=20)
        took = time.monotonic() - began
        report = finished(running)
        return report["lost"] + report["unconnected"], sum(report["codes"].values()), took


def _metrics(server: Server) -> str:
    import httpx

    return httpx.get(f"http://127.0.0.1:{server.port}/metrics").text


def measure(setting: Setting, parts: Sequence[str], rounds: int, seconds: float) -> dict[str, Any]:
    """All figures of the parts that are asked for."""
    found: dict[str, list[Any]] = {name: [] for name in (*PARTS, "peer", "batch_json", "load")}
    binary, text = setting.raw(100_000), setting.json(20_000)
    for _ in range(rounds):
        found["load"].append(os.getloadavg()[0])
        if "single" in parts:
            found["single"].append(single(setting, "service", seconds))
            found["peer"].append(single(setting, "peer", seconds))
        if "open" in parts:
            found["open"].append(open_loop(setting, seconds))
        if "batch" in parts:
            found["batch"].append(batch(setting, binary, BINARY, 100_000, seconds))
            found["batch_json"].append(batch(setting, text, JSON, 20_000, seconds))
        if "swap" in parts:
            found["swap"].append(swap(setting, seconds))
        if "scale" in parts:
            found["scale"].append(scale(setting, seconds))
    return summary(found)


def summary(found: dict[str, list[Any]]) -> dict[str, Any]:
    """Medians over rounds, sums of losses, and every round of what scatters."""
    middle, figures = statistics.median, dict[str, Any]()
    if ours := found["single"]:
        figures["single_per_cpu_second"] = middle(it[0] for it in ours)
        figures["single_per_second"] = middle(it[1] for it in ours)
        figures["peer_per_cpu_second"] = middle(it[0] for it in found["peer"])
        figures["ratio"] = middle(mine[0] / peer[0] for mine, peer in zip(ours, found["peer"], strict=True))
    if opened := found["open"]:
        figures["p50_ms"] = middle(it["0.5"] for it in opened)
        figures["p99_ms"] = middle(it["0.99"] for it in opened)
        figures["p99_ms_rounds"] = [round(it["0.99"], 2) for it in opened]
        figures["server_wait_rounds"] = [round(it["server_wait"], 3) for it in opened]
        figures["generator_wait_rounds"] = [round(it["generator_wait"], 3) for it in opened]
        figures["generator_busy"] = max(it["generator"] for it in opened)
    for name, key in (("batch", "batch_binary_rows"), ("batch_json", "batch_json_rows")):
        if rows := found[name]:
            figures[key] = middle(it[0] for it in rows)
            figures[f"{key}_per_cpu_second"] = middle(it[1] for it in rows)
    for name in ("swap", "scale"):
        if counts := found[name]:
            figures[f"lost_{name}"] = sum(it[0] for it in counts)
            figures[f"answered_{name}"] = sum(it[1] for it in counts)
    if found["scale"]:
        figures["scale_down_s"] = max(it[2] for it in found["scale"])
    return {**figures, "load_average": [round(it, 2) for it in found["load"]]}


def main() -> None:
    """Measure in turn and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(make_setting(Path(folder)), options.only, options.rounds, options.seconds)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        shown = value if isinstance(value, list) else f"{value:,.4g}" if value < 100 else f"{value:,.0f}"
        print(f"{name:34} {shown}")


if __name__ == "__main__":
    main()
