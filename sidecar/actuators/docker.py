"""Replicas as containers of one Compose service, through the gate (`hansa.sidecar.docker_gate`).

The gate alone has Docker's socket. What is asked for here is a subset of the engine's API; how a new container looks
is the gate's to say.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa.sidecar.saved import save_json

from .replicas import ActuatorError, Load, Replicas
from .unix_http import ask

log = logging.getLogger("hansa.scaler")

_LAST_GRACE_S = 10
_SERVICE, _NUMBER = (f"com.docker.compose.{name}" for name in ("service", "container-number"))
# What the gate created carries this; only that is removed again.
MADE_HERE = "org.hansa.gate"


@dataclass(frozen=True)
class _Container:
    """One line of the engine's list."""

    id: str
    number: int
    state: str
    status: str
    made_here: bool

    @property
    def up(self) -> bool:
        return self.state in ("running", "restarting", "paused")

    @property
    def serves(self) -> bool:
        """Runs, and is healthy where it says so at all."""
        return self.state == "running" and "(unhealthy)" not in self.status and "starting)" not in self.status


class Docker:
    """Containers of one Compose service.

    Parameters
    ----------
    socket : where the gate listens
    service : Compose's name of it; the project is the gate's
    record : file with the containers that were told to leave
    drain_s : so long such a container may finish its work; then it is stopped
    observe : only look; `scale` raises
    """

    def __init__(
        self,
        socket: Path,
        service: str,
        *,
        record: Path,
        drain_s: float = 86_400.0,
        observe: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._socket, self._service = socket, service
        self._record, self._drain_s, self._observe, self._now = record, drain_s, observe, now
        self._used: dict[str, tuple[float, float]] = {}

    def read(self) -> Replicas:
        """How the containers stand; those that have left are removed, those that take too long are stopped."""
        found, leaving = self._list(), self._leaving()
        if not self._observe:
            self._tend(found, leaving)
        up = [it for it in found if it.up]
        serving = [it for it in up if it.id not in leaving]
        ready = [it for it in serving if it.serves]
        return Replicas(
            ready=len(ready),
            starting=len(serving) - len(ready),
            leaving=len(up) - len(serving),
            ids=tuple(it.id for it in serving),
        )

    def scale(self, to: int) -> Replicas:
        """Start what is stopped, then create; or have those with the highest numbers leave."""
        if self._observe:
            raise ActuatorError(f"'{self._service}' is only looked at here; nothing is started or stopped")
        found, leaving = self._list(), self._leaving()
        serving = [it for it in found if it.up and it.id not in leaving]
        idle = [it for it in found if not it.up]
        for _ in range(to - len(serving)):
            if idle:
                container = idle.pop(0).id
                # It may have left before; now it is wanted again.
                leaving.pop(container, None)
                self._save(leaving)
            else:
                made = self._ask("POST", f"/containers/create?service={self._service}")
                container = str(made["Id"])
            self._ask("POST", f"/containers/{container}/start")
        going = serving[to:] if to < len(serving) else []
        for it in going:
            leaving[it.id] = self._now()
        # On disk before the first signal: what was told to leave is not counted as serving again.
        self._save(leaving)
        for it in going:
            self._ask("POST", f"/containers/{it.id}/drain")
        return self.read()

    def load(self) -> Load:
        """Processor time since the last call, in processors, and memory as a share of the container's limit."""
        shares, memory, used = [], [], {}
        for it in self._list():
            if it.state != "running":
                continue
            now = self._now()
            stats = self._ask("GET", f"/containers/{it.id}/stats")
            spent = float(stats["cpu_ns"]) / 1e9
            used[it.id] = (now, spent)
            if stats["memory_limit"]:
                memory.append(stats["memory"] / stats["memory_limit"])
            before = self._used.get(it.id)
            if before is not None and now > before[0]:
                shares.append(max(0.0, spent - before[1]) / (now - before[0]) / float(stats["cpus"]))
        self._used = used
        return Load(
            cpu=sum(shares) / len(shares) if shares else None,
            memory=sum(memory) / len(memory) if memory else None,
        )

    def _tend(self, found: list[_Container], leaving: dict[str, float]) -> None:
        """Forget and remove what has left; remind what has not."""
        known = {it.id: it for it in found}
        changed = False
        for name, since in list(leaving.items()):
            it = known.get(name)
            if it is not None and it.up:
                self._remind(name, self._now() - since)
                continue
            if it is not None and it.made_here:
                self._ask("DELETE", f"/containers/{name}")
            del leaving[name]
            changed = True
        if changed:
            self._save(leaving)

    def _remind(self, container: str, since_s: float) -> None:
        """Again and again: one that was only starting may not have listened yet."""
        try:
            if since_s <= self._drain_s:
                self._ask("POST", f"/containers/{container}/drain")
                return
            log.warning("container %s did not end within %g s and is stopped", container[:12], self._drain_s)
            target = f"/containers/{container}/stop?t={_LAST_GRACE_S}"
            self._ask("POST", target, timeout_s=_LAST_GRACE_S + 10.0)
        except ActuatorError as error:
            # It may have ended since it was listed; the next look says.
            log.info("container %s: %s", container[:12], error)

    def _list(self) -> list[_Container]:
        found = self._ask("GET", "/containers/json")
        try:
            containers = [
                _Container(
                    id=it["Id"],
                    number=int(it["Labels"].get(_NUMBER, "0")),
                    state=it["State"],
                    status=it["Status"],
                    made_here=MADE_HERE in it["Labels"],
                )
                for it in found
                if it["Labels"].get(_SERVICE) == self._service
            ]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ActuatorError(f"{self._socket}: answers something else than the gate does") from None
        if not containers:
            raise ActuatorError(
                f"there is no container of service '{self._service}' behind {self._socket}; "
                "start one with docker compose up, and name the service to the gate"
            )
        return sorted(containers, key=lambda it: it.number)

    def _ask(self, method: str, target: str, *, timeout_s: float = 20.0) -> Any:
        try:
            status, document = ask(self._socket, method, target, timeout_s=timeout_s)
        except (OSError, ValueError) as error:
            raise ActuatorError(
                f"{self._socket}: the Docker gate does not answer ({error}); start it with: "
                "python -m hansa.sidecar.docker_gate"
            ) from None
        if status >= 400:
            sentence = document.get("message") if isinstance(document, dict) else None
            raise ActuatorError(f"the Docker gate answered {status}: {sentence or 'and no reason'}")
        return document

    def _leaving(self) -> dict[str, float]:
        try:
            return {str(name): float(at) for name, at in json.loads(self._record.read_text()).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            log.warning("%s cannot be read and is begun anew: %s", self._record, error)
            return {}

    def _save(self, leaving: dict[str, float]) -> None:
        save_json(self._record, leaving)
