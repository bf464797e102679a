"""`scaler.toml`: what is right is read, what is wrong is named with its service and field."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from hansa.contract.errors import InputError
from hansa.sidecar.scaler.services import (
    ControlSignals,
    DockerSettings,
    DrySettings,
    KubernetesSettings,
    MetricsSignals,
    ProcessSettings,
    read_services,
)

GOOD = """
every_s = 30

[[service]]
name = "executor"
capacity = 1
maximum = 4
startup_s = 10
price = 0.12
signals = {kind = "control"}
[service.actuator]
kind = "processes"
command = ["worker", "{ready}"]
env = {HANSA_SERVER_CONFIG = "server.toml"}
drain = "USR1"
drain_s = 3600
fixed = 1

[[service]]
name = "scoring"
capacity = 1000.5
signals = {kind = "metrics", url = "http://scoring:9500/metrics"}
actuator = {kind = "docker", socket = "/gate/gate.sock", service = "scoring"}

[[service]]
name = "cluster"
capacity = 5
signals = {kind = "control"}
actuator = {kind = "kubernetes", deployment = "hansa-executor"}

[[service]]
name = "counted"
capacity = 5
signals = {kind = "control"}
actuator = {kind = "dry-run", replicas = 2}
"""


def test_services_are_read(tmp_path: Path) -> None:
    path = tmp_path / "scaler.toml"
    path.write_text(GOOD)
    found = read_services(path)
    assert found.every_s == 30.0
    executor, scoring, cluster, counted = found.services
    assert (executor.limits.maximum, executor.limits.minimum, executor.limits.price) == (4, 1, 0.12)
    assert executor.signals == ControlSignals()
    assert isinstance(executor.actuator, ProcessSettings)
    assert (executor.actuator.drain, executor.actuator.drain_s) == (signal.SIGUSR1, 3600.0)
    assert executor.actuator.env == {"HANSA_SERVER_CONFIG": "server.toml"}
    assert scoring.signals == MetricsSignals(
        "http://scoring:9500/metrics",
        1,
        "hansa_scoring_requests_total",
        "hansa_scoring_in_flight",
        'path="other"',
    )
    assert isinstance(scoring.actuator, DockerSettings)
    assert cluster.actuator == KubernetesSettings("hansa-executor", "", "", None, None)
    assert counted.actuator == DrySettings(2)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("every_s = 30", "every_s = true", "field 'every_s' is to be a number"),
        ("every_s = 30", "evry_s = 30", "field 'evry_s' is not known here"),
        ("capacity = 1\n", "", "service 1 'executor': field 'capacity' is missing"),
        ("capacity = 1\n", "capacity = 0\n", "field 'capacity' is to be a number from"),
        ("capacity = 1\n", "capacity = nan\n", "field 'capacity' is to be a number from"),
        ("maximum = 4", "maximum = 4.5", "field 'maximum' is to be a whole number"),
        ("maximum = 4", "maximum = 4\nminimum = 5", "minimum 5 is above maximum 4"),
        ('name = "scoring"', 'name = "executor"', "two services are named 'executor'"),
        ('name = "executor"', 'name = "../x"', "field 'name' is to be lower-case letters"),
        ('kind = "processes"', 'kind = "threads"', "'dry-run' or 'processes' or 'docker' or 'kubernetes'"),
        ('command = ["worker", "{ready}"]', "command = []", "field 'command' is to be a list of texts"),
        ("drain_s = 3600", "patience = 1", "service 1 'executor'.actuator: field 'patience' is not known"),
        ("http://scoring", "ftp://scoring", "field 'url' is to be http://HOST:PORT/metrics"),
        ("every_s = 30", "every_s = ", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "scaler.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        read_services(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_no_file_and_no_service_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; it names each service"):
        read_services(tmp_path / "scaler.toml")
    (tmp_path / "scaler.toml").write_text("every_s = 60\n")
    with pytest.raises(InputError, match="field 'service' is missing"):
        read_services(tmp_path / "scaler.toml")


ROOT = Path(__file__).parents[2]


def test_the_page_and_what_compose_reads_are_right(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "scaler.md").read_text()
    path = tmp_path / "scaler.toml"
    path.write_text(page.split("```toml scaler\n")[1].split("```")[0])
    assert read_services(path).services[0].policy == "forecast"
    compose = ROOT / "deploy" / "compose"
    lines = (compose / "scaling.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    [executor] = read_services(compose / "scaler.toml").services
    # As many containers as the gate allows, as many jobs as control starts.
    assert settings["HANSA_EXECUTORS"] == settings["HANSA_PARALLEL_JOBS"] == str(executor.limits.maximum)
    assert float(settings["HANSA_EXECUTOR_CAPACITY"]) == executor.limits.capacity
    assert isinstance(executor.actuator, DockerSettings)
    assert executor.actuator.service == "executor"
