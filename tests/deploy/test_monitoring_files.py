"""The dashboard, the alert rules and the scrape configuration speak of metrics that the processes really show."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import promql
import pytest
import yaml
from federation import FEATURES
from prometheus_client.parser import text_string_to_metric_families

from hansa.clients.scoring.tally import Tally
from hansa.contract.exposition import Family
from hansa.contract.process_figures import process_meter

ROOT = Path(__file__).parent.parent.parent
MONITORING = ROOT / "deploy" / "monitoring"
MODULES = (
    *("contract.process_figures", "server.control.figures", "server.lane.counted", "server.executor_figures"),
    *("clients.node_figures", "clients.agent_figures", "sidecar.figures", "sidecar.docker_gate.__main__"),
)
# Prometheus' own, and node_exporter's.
OTHERS = {"up": {"job", "instance"}, "node_textfile_mtime_seconds": {"file"}}


def families() -> dict[str, Family]:
    found = {}
    for module in MODULES:
        for it in vars(importlib.import_module(f"hansa.{module}")).values():
            if isinstance(it, Family):
                found[it.name] = it
    return found


def shown() -> dict[str, set[str]]:
    """Names on the pages, a histogram's three among them, and their labels."""
    names = {name: set(it) for name, it in OTHERS.items()}
    # In a file, every series says whose it is.
    owner = set(process_meter("agent", member="a").owner)
    for it in families().values():
        if it.kind == "histogram":
            names |= {f"{it.name}_{part}": {*it.labels, *owner, "le"} for part in ("bucket", "sum", "count")}
        else:
            names[it.name] = {*it.labels, *owner}
    scoring = Tally(FEATURES).text({"model": "", "job": "", "round": ""}, 0.0, True)
    for line in scoring.splitlines():
        if not line.startswith("#"):
            names.setdefault(line.partition(" ")[0].partition("{")[0], set())
    return names


def rules() -> list[dict[str, object]]:
    document = yaml.safe_load((MONITORING / "rules.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def expressions() -> list[tuple[str, str]]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    panels = [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
    return [*((str(it["alert"]), str(it["expr"])) for it in rules()), *panels]


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_every_expression_can_be_read_and_names_metrics_that_exist(where: str, expression: str) -> None:
    known = shown()
    for name, labels in promql.metrics_of(expression).items():
        assert name in known, f"{where}: no process shows {name}"
        assert labels <= known[name], f"{where}: {name} has no label {labels - known[name]}"


@pytest.mark.parametrize(
    "wrong",
    [
        "up ==",
        "rate(up[5m]",
        "ratte(up[5m])",
        "up{job=hansa}",
        "sum by (le (up)",
        "up up",
        'up{job=="a"}',
        "5m",
    ],
)
def test_what_is_no_expression_is_refused(wrong: str) -> None:
    with pytest.raises(promql.Wrong):
        promql.metrics_of(wrong)


def test_alerts_say_what_is_wrong_and_what_to_do() -> None:
    names = [it["alert"] for it in rules()]
    assert len(names) == len(set(names)) > 20
    for it in rules():
        annotations = it["annotations"]
        assert isinstance(annotations, dict)
        assert annotations.keys() == {"summary", "action"}
        assert it["labels"] in [{"severity": name} for name in ("info", "warning", "critical")]


def rule(alert: str) -> str:
    return next(str(it["expr"]) for it in rules() if it["alert"] == alert)


@pytest.mark.parametrize("alert", ["HansaAgentFiguresOld", "HansaAgentFiguresGone"])
def test_alerts_on_the_agents_file_mean_the_one_that_the_unit_writes(alert: str) -> None:
    unit = (ROOT / "deploy" / "systemd" / "hansa-agent@.service").read_text()
    written = unit.partition("--metrics ")[2].partition("\n")[0].replace("%i", "kontor-bank")
    patterns = re.findall(r'file=~"([^"]*)"', rule(alert))
    assert patterns
    for it in patterns:
        # Prometheus anchors both ends.
        for path in (written, written.rpartition("/")[2], "/m/metrics/agent.prom"):
            assert re.fullmatch(it, path), path
        assert not re.fullmatch(it, "/var/lib/hansa-metrics/node-agent.prom")


def test_attempts_that_all_fail_are_compared_with_zero_and_a_fork_is_an_event() -> None:
    # A series of applied attempts is there from the first one on.
    _, _, applied = rule("HansaAttemptsFail").partition(" > ")
    assert applied.startswith("(sum(")
    assert applied.endswith(" or vector(0))")
    assert rule("HansaLedgerFork") == "increase(hansa_ledger_forks_total[1h]) > 0"


def test_scraped_jobs_are_those_that_alerts_ask_for() -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    jobs = {it["job_name"] for it in config["scrape_configs"]}
    # In Kubernetes a job is called as its pods' label says.
    for it in yaml.safe_load_all((MONITORING / "podmonitor.yaml").read_text()):
        selector = it["spec"]["selector"]
        jobs |= {*selector.get("matchLabels", {}).values()}
        jobs |= {value for one in selector.get("matchExpressions", ()) for value in one["values"]}
    asked = {part.partition('"')[0] for _, text in expressions() for part in text.split('job="')[1:]}
    assert asked <= jobs


def test_compose_opens_the_ports_that_are_scraped() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    shown_at = {
        name: argument
        for name, it in services.items()
        for before, argument in zip(it.get("entrypoint", []), it.get("entrypoint", [])[1:], strict=False)
        if before == "--metrics"
    }
    config = (MONITORING / "prometheus.yml").read_text()
    for name in ("superlink", "executor", "sidecar"):
        host, _, port = shown_at[name].rpartition(":")
        assert port in config
        # Never on the network that members share.
        assert host == "superlink-inner" or services[name]["networks"] == ["inner"]


def test_grafana_reaches_prometheus_alone_and_has_no_default_password() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    beside = {name for name, it in services.items() if "figures" in it.get("networks", [])}
    assert services["grafana"]["networks"] == ["figures"]
    assert beside == {"grafana", "prometheus"}
    settings = services["grafana"]["environment"]
    assert settings["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert settings["GF_AUTH_BASIC_ENABLED"] == "false"
    assert settings["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_scorings_page_is_read_as_prometheus_does() -> None:
    page = Tally(FEATURES).text({"model": "m", "job": "j", "round": "3"}, 1.0, True)
    read = list(text_string_to_metric_families(page))
    assert {"process_open_fds", "process_start_time_seconds", "hansa_scoring_ready"} <= {
        it.name for it in read
    }
    assert len({it.name for it in read}) == len(read)
    assert all(it.documentation.endswith(".") for it in read)


def test_every_metric_is_in_the_documents() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    missing = [name for name in families() if f"`{name}`" not in page]
    assert missing == []
