"""Parts of a scaler for tests: a source and an actuator that do as they are told, and a clock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa.sidecar.actuators import ActuatorError, Load, Replicas
from hansa.sidecar.scaler.by_demand import ByDemand
from hansa.sidecar.scaler.journal import Journal
from hansa.sidecar.scaler.shell import MakePolicy, Parts, Policy, ScalerShell
from hansa.sidecar.scaler.sources import Demand
from hansa.sidecar.scaling import ServiceLimits

LIMITS = ServiceLimits("web", capacity=10.0, minimum=1, maximum=5, startup_s=120.0, cooldown_s=300.0)


class Told:
    """Demand that a test sets."""

    def __init__(self, demand: float | None = 0.0) -> None:
        self.demand = demand

    def read(self) -> Demand:
        return Demand(self.demand, 3.0, problem="" if self.demand is not None else "nobody answers")


class Counted:
    """Replicas that serve at once; every request is noted."""

    def __init__(self, replicas: int = 1) -> None:
        self.replicas, self.asked = replicas, []  # type: tuple[int, list[int]]
        self.problem = ""

    def read(self) -> Replicas:
        if self.problem:
            raise ActuatorError(self.problem)
        return Replicas(self.replicas)

    def scale(self, to: int) -> Replicas:
        self.asked.append(to)
        if self.problem:
            raise ActuatorError(self.problem)
        self.replicas = to
        return Replicas(to)

    def load(self) -> Load:
        return Load(0.5, 0.25)


def by_demand(state: Mapping[str, Any] | None) -> Policy:
    return ByDemand(LIMITS) if state is None else ByDemand.from_state(LIMITS, state)


class Scaled:
    """One service under a shell; `look` is a minute."""

    def __init__(
        self, folder: Path, *, act: bool = True, told: object = None, policy: MakePolicy = by_demand
    ) -> None:
        self.policy = policy
        self.source, self.actuator, self.folder = Told(), Counted(), folder
        self.act, self.told, self.at = act, told, 0.0
        self.journal = Journal(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.shell = self.start()

    def start(self) -> ScalerShell:
        """Another shell over the same folder."""
        self.shell = ScalerShell(
            {"web": Parts(self.policy, self.source, self.actuator)},
            self.journal,
            act=self.act,
            told=self.told,  # type: ignore[arg-type]
            now=lambda: self.at,
        )
        return self.shell

    def look(self, demand: float | None = None) -> None:
        self.at += 60.0
        if demand is not None:
            self.source.demand = demand
        self.shell.look()
