"""`scaler.toml`: the services that are scaled, where their demand is read and what starts and stops their replicas."""

from __future__ import annotations

import signal
import tomllib
from dataclasses import dataclass
from pathlib import Path

from hansa.contract.errors import InputError
from hansa.sidecar.scaling.signals import ServiceLimits

from .fields import Fields

_DRAIN = {"TERM": signal.SIGTERM, "INT": signal.SIGINT, "USR1": signal.SIGUSR1, "QUIT": signal.SIGQUIT}


@dataclass(frozen=True)
class ControlSignals:
    """Demand is the jobs that wait or run, as control counts them."""


@dataclass(frozen=True)
class MetricsSignals:
    """Demand is requests a minute, out of what each replica says at `url` in Prometheus' text format.

    Attributes
    ----------
    url : http://HOST:PORT/PATH; each address that the host's name has is a replica
    ports : so many ports from the one in the url on are asked, a replica behind each or none
    requests, in_flight : names of the counter of requests and of the gauge of those under way
    without : a label of samples that are not counted
    """

    url: str
    ports: int
    requests: str
    in_flight: str
    without: str


@dataclass(frozen=True)
class ProcessSettings:
    """Replicas are processes of this machine; see `actuators.processes`."""

    command: tuple[str, ...]
    env: dict[str, str]
    drain: int
    drain_s: float
    fixed: int
    port: int
    cpus: float
    memory_mb: float


@dataclass(frozen=True)
class DockerSettings:
    """Replicas are containers of one Compose service, reached through the gate's socket."""

    socket: Path
    service: str
    drain_s: float


@dataclass(frozen=True)
class KubernetesSettings:
    """Replicas are pods of one Deployment; without `server` the address and credentials of the pod itself."""

    deployment: str
    namespace: str
    server: str
    token_file: Path | None
    ca_file: Path | None


@dataclass(frozen=True)
class DrySettings:
    """Replicas are only counted."""

    replicas: int


SignalSettings = ControlSignals | MetricsSignals
ActuatorSettings = ProcessSettings | DockerSettings | KubernetesSettings | DrySettings


@dataclass(frozen=True)
class Service:
    """One scaled service.

    Attributes
    ----------
    policy : "forecast" (`sidecar.scaling.Scaler`), or "demand": as many replicas as demand needs now
    """

    limits: ServiceLimits
    policy: str
    signals: SignalSettings
    actuator: ActuatorSettings

    @property
    def name(self) -> str:
        """The service's name."""
        return self.limits.name


@dataclass(frozen=True)
class Services:
    """All of them, and how often they are looked at."""

    every_s: float
    services: tuple[Service, ...]


def read_services(path: Path) -> Services:
    """Read `scaler.toml`.

    Raises
    ------
    InputError : naming the file, the service and the field
    """
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; it names each service to scale, where its demand is read and what starts its "
            "replicas: see docs/scaler.md"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    fields = Fields(document, str(path))
    every_s = fields.number("every_s", 60.0, least=0.05, most=3600.0)
    tables = fields.tables("service")
    fields.end()
    services = tuple(_service(it, f"{path}: service {number + 1}") for number, it in enumerate(tables))
    names = [it.name for it in services]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: two services are named '{name}'; rename one")
    return Services(every_s, services)


def _service(table: object, where: str) -> Service:
    fields = Fields(table, where)
    name = fields.name("name")
    fields.where = f"{where} '{name}'"
    limits = ServiceLimits(
        name=name,
        capacity=fields.number("capacity", least=1e-9),
        minimum=fields.whole("minimum", 1),
        maximum=fields.whole("maximum", 10, least=1),
        startup_s=fields.number("startup_s", 120.0, most=3600.0),
        violation_budget=fields.number("violation_budget", 0.01, most=1.0),
        price=fields.number("price", 1.0),
        cooldown_s=fields.number("cooldown_s", 300.0, most=86_400.0),
    )
    if limits.minimum > limits.maximum:
        raise InputError(f"{fields.where}: minimum {limits.minimum} is above maximum {limits.maximum}")
    policy = fields.one_of("policy", "forecast", "demand", default="forecast")
    signals, actuator = _signals(fields.table("signals")), _actuator(fields.table("actuator"))
    fields.end()
    return Service(limits, policy, signals, actuator)


def _signals(fields: Fields) -> SignalSettings:
    kind = fields.one_of("kind", "control", "metrics")
    found: SignalSettings = ControlSignals()
    if kind == "metrics":
        found = MetricsSignals(
            url=fields.text("url"),
            ports=fields.whole("ports", 1, least=1, most=1000),
            requests=fields.text("requests", "hansa_scoring_requests_total"),
            in_flight=fields.text("in_flight", "hansa_scoring_in_flight"),
            without=fields.text("without", 'path="other"'),
        )
        if not found.url.startswith("http://"):
            raise InputError(
                f"{fields.where}: field 'url' is to be http://HOST:PORT/metrics, not '{found.url}'"
            )
    fields.end()
    return found


def _actuator(fields: Fields) -> ActuatorSettings:
    kind = fields.one_of("kind", "dry-run", "processes", "docker", "kubernetes")
    found: ActuatorSettings
    if kind == "dry-run":
        found = DrySettings(fields.whole("replicas", 1))
    elif kind == "processes":
        found = ProcessSettings(
            command=fields.words("command"),
            env=fields.texts("env"),
            drain=_DRAIN[fields.one_of("drain", *_DRAIN)],
            drain_s=fields.number("drain_s", 30.0),
            fixed=fields.whole("fixed", 0),
            port=fields.whole("port", 0, most=65_535),
            cpus=fields.number("cpus", 1.0, least=0.01),
            memory_mb=fields.number("memory_mb", 0.0),
        )
    elif kind == "docker":
        found = DockerSettings(
            socket=Path(fields.text("socket")),
            service=fields.text("service"),
            drain_s=fields.number("drain_s", 86_400.0),
        )
    else:
        token, ca = fields.text("token_file", ""), fields.text("ca_file", "")
        found = KubernetesSettings(
            deployment=fields.text("deployment"),
            namespace=fields.text("namespace", ""),
            server=fields.text("server", ""),
            token_file=Path(token) if token else None,
            ca_file=Path(ca) if ca else None,
        )
    fields.end()
    return found
