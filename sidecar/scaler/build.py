"""From what `scaler.toml` says to parts that work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa.contract.errors import InputError
from hansa.sidecar.actuators.docker import Docker
from hansa.sidecar.actuators.dry_run import DryRun
from hansa.sidecar.actuators.kubernetes import Kubernetes, pod_access
from hansa.sidecar.actuators.processes import Processes
from hansa.sidecar.actuators.replicas import Actuator
from hansa.sidecar.scaling import Scaler

from .by_demand import ByDemand
from .services import (
    ControlSignals,
    DockerSettings,
    DrySettings,
    KubernetesSettings,
    ProcessSettings,
    Service,
)
from .shell import MakePolicy, Parts, Policy
from .sources import ControlSource, MetricsSource, Queue, Source

_MIB = 1024 * 1024


def make_parts(service: Service, state: Path, control: Queue | None, *, observe: bool) -> Parts:
    """The working parts of one service.

    Parameters
    ----------
    state : folder for what actuators note of their replicas
    control : asked for jobs; None where no service's demand is jobs
    observe : replicas are looked at and nothing is started or stopped, beside a scaler that may run

    Raises
    ------
    InputError : a service's demand is jobs, and there is no control to ask
    ActuatorError : the actuator cannot be used here
    """
    return Parts(
        _policy(service),
        _source(service, control),
        _actuator(service, state, observe),
        jobs=isinstance(service.signals, ControlSignals),
    )


def _policy(service: Service) -> MakePolicy:
    limits = service.limits

    def forecast(state: Mapping[str, Any] | None) -> Policy:
        return Scaler(limits) if state is None else Scaler.from_state(state, limits)

    def demand(state: Mapping[str, Any] | None) -> Policy:
        return ByDemand(limits) if state is None else ByDemand.from_state(limits, state)

    return forecast if service.policy == "forecast" else demand


def _source(service: Service, control: Queue | None) -> Source:
    wanted = service.signals
    if isinstance(wanted, ControlSignals):
        if control is None:
            raise InputError(f"service '{service.name}': its demand is jobs; name control with --control")
        return ControlSource(control)
    return MetricsSource(
        wanted.url,
        ports=wanted.ports,
        requests=wanted.requests,
        in_flight=wanted.in_flight,
        without=wanted.without,
    )


def _actuator(service: Service, state: Path, observe: bool) -> Actuator:
    wanted = service.actuator
    if isinstance(wanted, DrySettings):
        return DryRun(wanted.replicas, service.limits.startup_s)
    if isinstance(wanted, ProcessSettings):
        return Processes(
            service.name,
            wanted.command,
            state / "workers",
            env=wanted.env,
            drain=wanted.drain,
            drain_s=wanted.drain_s,
            fixed=wanted.fixed,
            port=wanted.port,
            cpus=wanted.cpus,
            memory=int(wanted.memory_mb * _MIB) or None,
            observe=observe,
        )
    if isinstance(wanted, DockerSettings):
        return Docker(
            wanted.socket,
            wanted.service,
            record=state / f"{service.name}.leaving.json",
            drain_s=wanted.drain_s,
            observe=observe,
        )
    assert isinstance(wanted, KubernetesSettings)
    access = pod_access(wanted.server, wanted.token_file, wanted.ca_file, wanted.namespace)
    return Kubernetes(access, wanted.deployment, startup_s=service.limits.startup_s, observe=observe)
