"""The scaler's shell: looks at each service, asks its policy, writes down what it wants, and then has it done.

It can be killed at any time. What a policy remembers and what it wants stands on disk before anything is started or
stopped; actuators take a number of replicas, not a change, so that what is asked for twice is done once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hansa.contract.errors import HansaError
from hansa.contract.logs import about
from hansa.sidecar.actuators.replicas import Actuator, ActuatorError, Load
from hansa.sidecar.scaling import ScalingDecision, Signals
from hansa.sidecar.server_api import Away, Refused

from .journal import Entry, Journal, ServiceMemory, paused_because
from .sources import Source

log = logging.getLogger("hansa.scaler")

# Entries that control is told at once.
_BATCH = 100
# A wish that is older is not done after a restart: demand has moved on since.
_YOUNG_PERIODS = 2.0


class Policy(Protocol):
    """Decides for one service."""

    def decide(self, signals: Signals) -> ScalingDecision:
        """What it wants now."""
        ...

    def state(self) -> dict[str, Any]:
        """What it remembers, as JSON has it."""
        ...


# A policy from the state of an earlier one, or anew.
MakePolicy = Callable[[Mapping[str, Any] | None], Policy]


class Told(Protocol):
    """Whoever is told of decisions: control."""

    def enter_scaling(self, entries: Sequence[Mapping[str, Any]]) -> object:
        """Enter decisions, each once."""
        ...


@dataclass(frozen=True)
class Parts:
    """What the scaling of one service is made of.

    Attributes
    ----------
    jobs : whether demand is jobs. Those that wait are in it already, and a busy executor is no reason for another one:
        policies are told neither queue nor load. Both are written down all the same
    """

    policy: MakePolicy
    source: Source
    actuator: Actuator
    jobs: bool = False


class ScalerShell:
    """Scales services.

    Parameters
    ----------
    services : by name
    act : whether anything is started or stopped; without it decisions are only written down
    told : control, or None
    every_s : seconds between two looks
    now : seconds since the epoch
    """

    def __init__(
        self,
        services: Mapping[str, Parts],
        journal: Journal,
        *,
        act: bool,
        told: Told | None = None,
        every_s: float = 60.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._services, self._journal, self._act, self._told, self._now = services, journal, act, told, now
        self._young_s = _YOUNG_PERIODS * every_s
        self._memories = {name: journal.load(name) for name in services}
        self._policies = {
            name: make_policy(name, it.policy, self._memories[name]) for name, it in services.items()
        }
        # What was wrong with a service the last time: it is said once.
        self._said: dict[str, str] = {}

    def look(self) -> list[Entry]:
        """Once over all services; never raises: what cannot be done now is done next time. What was decided."""
        entries = []
        for name, parts in self._services.items():
            with about(service=name):
                try:
                    entries.append(self._look_at(name, parts))
                    self._say(name, entries[-1].problem)
                    self._tell(name)
                except (ActuatorError, HansaError, OSError) as error:
                    self._say(name, str(error))
                except Exception:
                    # One service must not end the scaling of the others.
                    log.exception("service %s could not be looked at; trying again", name)
        return entries

    def finish(self) -> None:
        """What a scaler before this one decided on just now and perhaps did not do; the next look settles older wishes.

        Call it once, before the first look.
        """
        for name, parts in self._services.items():
            with about(service=name):
                self._finish(name, parts)

    def _finish(self, name: str, parts: Parts) -> None:
        memory = self._memories[name]
        if memory.pending is None or not self._act:
            return
        try:
            if self._young(memory) and paused_because(self._journal.paused(), name) is None:
                parts.actuator.scale(memory.pending)
                log.info("%s: %d replicas, as was decided before the restart", name, memory.pending)
            memory.pending = None
            self._journal.save(name, memory)
        except (ActuatorError, HansaError, OSError) as error:
            self._say(name, str(error))
        except Exception:
            log.exception("service %s: what was decided before the restart could not be done", name)

    def _young(self, memory: ServiceMemory) -> bool:
        # One of later than now is of a clock that was set since: nobody knows how old it is.
        newest = memory.newest
        return newest is not None and 0 <= self._now() - newest.decision.at < self._young_s

    def _look_at(self, name: str, parts: Parts) -> Entry:
        memory, policy = self._memories[name], self._policies[name]
        paused = paused_because(self._journal.paused(), name)
        entry = decide(parts, policy, self._now())
        decision = entry.decision
        if decision.wanted == entry.ready + entry.starting:
            did = "nothing"
        elif paused is not None:
            did, entry = "paused", replace(entry, problem=entry.problem or f"paused: {paused}")
        else:
            did = "scaled" if self._act else "dry run"
        entry = replace(entry, did=did)
        memory.policy, memory.newest = policy.state(), entry
        memory.pending = decision.wanted if did == "scaled" else None
        self._journal.save(name, memory)
        if did == "scaled":
            entry = self._scale(name, parts.actuator, entry)
        self._journal.enter(entry)
        memory.newest, memory.pending = entry, None
        memory.untold.append(entry.as_json())
        self._journal.save(name, memory)
        return entry

    def _scale(self, name: str, actuator: Actuator, entry: Entry) -> Entry:
        decision = entry.decision
        try:
            actuator.scale(decision.wanted)
        except (ActuatorError, OSError) as error:
            return replace(entry, did="failed", problem=str(error))
        log.info("%s: %d -> %d replicas: %s", name, decision.current, decision.wanted, decision.reason)
        return entry

    def _tell(self, name: str) -> None:
        memory = self._memories[name]
        if self._told is None:
            memory.untold.clear()
            return
        size = _BATCH
        try:
            while memory.untold:
                batch = memory.untold[:size]
                try:
                    self._told.enter_scaling(batch)
                except (Refused, ValueError) as refusal:
                    if isinstance(refusal, Refused) and refusal.status in (401, 403):
                        raise
                    if len(batch) > 1:
                        # One of them: the others are told one by one.
                        size = 1
                        continue
                    log.warning("%s: control does not take a decision: %s", name, refusal)
                del memory.untold[: len(batch)]
        except Away:
            # It is told later; the other part of the sidecar says that control is away.
            return
        except Refused as refusal:
            log.warning("%s: control does not take its decisions: %s", name, refusal)
            return
        self._journal.save(name, memory)

    def _say(self, name: str, problem: str) -> None:
        if problem and self._said.get(name) != problem:
            log.warning("%s: %s", name, problem)
        elif not problem and self._said.get(name):
            log.warning("%s: all is well again", name)
        self._said[name] = problem


def decide(parts: Parts, policy: Policy, at: float) -> Entry:
    """One look at a service and what its policy makes of it; nothing is done and nothing written.

    Raises
    ------
    ActuatorError : nobody can say how many replicas there are
    """
    replicas = parts.actuator.read()
    demand, load = parts.source.read(), _load(parts.actuator)
    signals = Signals(
        at=at,
        demand=demand.demand,
        ready=replicas.ready,
        starting=replicas.starting,
        cpu=None if parts.jobs else load.cpu,
        memory=None if parts.jobs else load.memory,
        queue=None if parts.jobs else demand.queue,
    )
    return Entry(
        decision=policy.decide(signals),
        ready=replicas.ready,
        starting=replicas.starting,
        leaving=replicas.leaving,
        demand=demand.demand,
        queue=demand.queue,
        cpu=load.cpu,
        memory=load.memory,
        did="nothing",
        problem=demand.problem,
    )


def _load(actuator: Actuator) -> Load:
    """Load is good to have; without it there is still demand."""
    try:
        return actuator.load()
    except ActuatorError:
        return Load()


def make_policy(name: str, make: MakePolicy, memory: ServiceMemory) -> Policy:
    """From what it remembers, or anew where that is of another policy or cannot be read."""
    try:
        return make(memory.policy)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        log.warning("%s: what its policy remembers cannot be read and is begun anew: %s", name, error)
        return make(None)
