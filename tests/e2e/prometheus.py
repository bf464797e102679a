"""Prometheus and node_exporter over a federation of one machine, with the rules and dashboard as they are delivered."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from running import until

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
PROGRAMS = ("prometheus", "prometheus-node-exporter")
THERE = all(shutil.which(it) for it in PROGRAMS)
# What Grafana puts in for itself.
_GRAFANA = {"$__rate_interval": "30s", "$__interval": "10s", "$__range": "5m"}


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    address: str

    def ask(self, path: str, **values: str) -> Any:
        """The data of an answer."""
        answer = httpx.get(f"http://{self.address}/api/v1/{path}", params=values)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Samples of now."""
        for word, value in _GRAFANA.items():
            expression = expression.replace(word, value)
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found


def panels() -> list[tuple[str, str]]:
    """Titles and expressions of the dashboard."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return [(it["title"], one["expr"]) for it in dashboard["panels"] for one in it.get("targets", ())]


@contextmanager
def prometheus_over(instance: Path, folder: Path) -> Iterator[Prometheus]:
    """Both programs, looking every second at control and at the files of all others."""
    files, control = (
        folder / "files",
        tomllib.loads((instance / "control" / "server.toml").read_text())["control"],
    )
    files.mkdir(parents=True)
    for path in instance.glob("members/*/metrics/agent.prom"):
        (files / f"agent-{path.parent.parent.name}.prom").symlink_to(path)
    for path in instance.glob("run/metrics/*.prom"):
        (files / path.name).symlink_to(path)
    exporter, own = (f"127.0.0.1:{_free()}" for _ in range(2))
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(MONITORING / "rules.yml")]
    scraped = next(it for it in config["scrape_configs"] if it["job_name"] == "hansa-control")
    scraped["authorization"] = {"credentials_file": str(instance / "monitoring" / "read.token")}
    scraped["static_configs"] = [{"targets": [control]}]
    node = {"job_name": "node", "static_configs": [{"targets": [exporter]}]}
    config["scrape_configs"] = [scraped, node]
    written = folder / "prometheus.yml"
    written.write_text(yaml.safe_dump(config))
    with ExitStack() as stack:
        for argv in (
            (
                *(
                    "prometheus-node-exporter",
                    f"--web.listen-address={exporter}",
                    "--collector.disable-defaults",
                ),
                *("--collector.textfile", f"--collector.textfile.directory={files}"),
            ),
            (
                *("prometheus", f"--config.file={written}", f"--storage.tsdb.path={folder / 'data'}"),
                f"--web.listen-address={own}",
            ),
        ):
            log = stack.enter_context((folder / f"{argv[0]}.log").open("wb"))
            process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        made = Prometheus(own)
        until(lambda: _answers(made), 20)
        yield made


def _answers(made: Prometheus) -> bool:
    try:
        return len(made.query("up == 1")) == 2
    except httpx.TransportError:
        return False


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
