"""A whole federation under monitoring: every process shows its figures, and every line of its logs is JSON."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import httpx
import pytest
from prometheus import THERE, Prometheus, panels, prometheus_over
from prometheus_client.parser import text_string_to_metric_families
from running import running, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

EVERYBODYS = {
    "process_resident_memory_bytes",
    "process_cpu_seconds",
    "process_open_fds",
    "process_start_time_seconds",
}


def names(page: str) -> set[str]:
    families = list(text_string_to_metric_families(page))
    assert all(it.documentation.endswith(".") for it in families)
    return {it.name for it in families}


def test_figures_and_logs_of_a_real_federation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSA_LOG", "json")
    with running(tmp_path, "--rounds", "5") as federation:
        until(lambda: federation.job_status == "finished", 90)
        instance = next((tmp_path / ".hansa").iterdir())
        # What is written every 15 s was written at the start.
        pages = [*instance.glob("run/metrics/*.prom"), *instance.glob("members/*/metrics/agent.prom")]
        assert len(pages) == 3 + 5 + 5
        for path in pages:
            assert names(path.read_text()) >= EVERYBODYS, path
        control = tomllib.loads((instance / "control" / "server.toml").read_text())["control"]
        token = (instance / "monitoring" / "read.token").read_text()
        bearer = {"Authorization": f"Bearer {token}"}
        answer = httpx.get(f"http://{control}/metrics", headers=bearer)
        assert names(answer.text) >= EVERYBODYS | {"hansa_round_seconds", "hansa_budget_left_ratio"}
        assert "hansa_round_seconds_count 5" in answer.text

        def watched() -> set[str]:
            found = httpx.get(f"http://{control}/v1/processes", headers=bearer).json()
            return {it["process"] for it in found}

        until(lambda: watched() >= {"sidecar", "superlink", "executor", "serverapps", "control"}, 20)
    secrets = _secrets(instance)
    lines = 0
    for path in (instance / "logs").iterdir():
        content = path.read_text()
        assert [it for it in secrets if it in content] == [], path
        for line in content.splitlines():
            said = json.loads(line)
            assert {"time", "level", "logger", "message", "process"} <= said.keys()
            if path.name.startswith("agent-"):
                assert said["member"] == path.stem.removeprefix("agent-")
            lines += 1
    assert lines > 20
    rounds = [json.loads(it) for it in (instance / "logs" / "executor.log").read_text().splitlines()]
    assert {it["round"] for it in rounds if "round" in it} == {1, 2, 3, 4, 5}


@pytest.mark.long
@pytest.mark.skipif(not THERE, reason="Prometheus and node_exporter are not here (Debian: prometheus)")
def test_prometheus_itself_reads_every_page_fills_the_dashboard_and_has_no_alarm(tmp_path: Path) -> None:
    with running(tmp_path, "--rounds", "60", "--set", "steps=1") as federation:
        federation.reach(2)
        with prometheus_over(federation.instance.resolve(), tmp_path / "prometheus") as prometheus:
            federation.reach(federation.round + 5)
            [failed] = prometheus.query("node_textfile_scrape_error")
            assert failed["value"][1] == "0"

            def empty() -> set[str]:
                return {title for title, expression in panels() if not prometheus.query(expression)}

            # Files are written every 15 s, and a rate needs two of them. Nothing was refused or decided, nobody scales.
            until(lambda: empty() <= {"Refusals an hour, by code", "Decisions an hour", "Replicas"}, 60)
            groups = prometheus.ask("rules")["groups"]
            assert {it["health"] for group in groups for it in group["rules"]} <= {"ok", "unknown"}
            # Files of the start may still say that somebody is not there yet: that pends, and goes.
            alerts = prometheus.ask("alerts")["alerts"]
            assert [it for it in alerts if it["state"] == "firing"] == []
            waits = {it["labels"]["alertname"] for it in alerts}
            assert waits <= {"HansaExecutorAway", "HansaNodeOffline"}
            federation.kill("control")
            until(lambda: _alarms(prometheus) >= {"HansaControlAway"}, 20)


def _alarms(prometheus: Prometheus) -> set[str]:
    """Alerts that fire or are about to."""
    return {it["labels"]["alertname"] for it in prometheus.ask("alerts")["alerts"]}


def _secrets(instance: Path) -> list[str]:
    """Keys and tokens as they stand in files, those that are one line of text."""
    found = []
    for path in instance.rglob("*"):
        if path.name in ("tokens.json",):
            found += json.loads(path.read_text()).values()
        elif path.suffix in (".key", ".secret", ".token") and path.is_file():
            found += [
                it for it in path.read_text().splitlines() if len(it) > 20 and not it.startswith("-----")
            ]
    assert len(found) > 20
    return found
