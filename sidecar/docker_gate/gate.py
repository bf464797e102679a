"""The gate: does what is on the list, to containers of its services alone, and tells no more than a scaler needs."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hansa.sidecar.actuators.docker import MADE_HERE
from hansa.sidecar.actuators.unix_http import ask

from .rules import LONGEST_STOP_S, Forbidden, Wish
from .template import NUMBER, Unsafe, check_volume, create_body, volumes

log = logging.getLogger("hansa.gate")

_PROJECT, _SERVICE, _ONEOFF = (f"com.docker.compose.{name}" for name in ("project", "service", "oneoff"))
_LABELS = (_PROJECT, _SERVICE, NUMBER, MADE_HERE)
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Answer:
    """What is said to the asker."""

    status: int
    document: Any


class Gate:
    """In front of one engine.

    Parameters
    ----------
    engine : Docker's own socket
    project : Compose's name of the project
    services : containers that there may be at most, by service
    drain : the signal after which a container takes no new work and ends once its work is done
    """

    def __init__(
        self, engine: Path, project: str, services: Mapping[str, int], drain: str = "SIGUSR1"
    ) -> None:
        self._engine, self._project, self._services, self._drain = engine, project, dict(services), drain

    def answer(self, wish: Wish) -> Answer:
        """Do it, or say why not; never raises."""
        try:
            return self._answer(wish)
        except Forbidden as refusal:
            return Answer(403, {"message": str(refusal)})
        except Unsafe as unsafe:
            return Answer(409, {"message": f"no other container is made like that one: {unsafe}"})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s: %s: %s", wish.action, type(error).__name__, error)
            return Answer(
                502, {"message": f"Docker does not answer at {self._engine}, or not as an engine does"}
            )

    def _answer(self, wish: Wish) -> Answer:
        if wish.action == "ping":
            return Answer(200, {"project": self._project, "services": sorted(self._services)})
        if wish.action == "list":
            return Answer(200, [_shown(it) for service in self._services for it in self._containers(service)])
        if wish.action == "create":
            return self._create(wish.service)
        container = self._own(wish.id)
        path = f"/containers/{wish.id}"
        if wish.action == "inspect":
            return Answer(200, _shown_whole(container))
        if wish.action == "stats":
            return Answer(
                200, _stats(self._ask("GET", f"{path}/stats?stream=false&one-shot=true"), container)
            )
        log.info("%s of %s", wish.action, container["Name"])
        if wish.action == "start":
            return self._do("POST", f"{path}/start")
        if wish.action == "drain":
            return self._do("POST", f"{path}/kill?signal={self._drain}")
        if wish.action == "stop":
            return self._do("POST", f"{path}/stop?t={wish.seconds}")
        # What Compose made is the pattern of all others, and Compose's to remove.
        if MADE_HERE not in container["Config"]["Labels"]:
            raise Forbidden("only what was created here is removed here")
        return self._do("DELETE", path)

    def _create(self, service: str) -> Answer:
        if service not in self._services:
            raise Forbidden(f"service '{service}' is not one of: {', '.join(sorted(self._services))}")
        there = self._containers(service)
        if len(there) >= self._services[service]:
            return Answer(
                409, {"message": f"there are {len(there)} containers of '{service}', and no more may be"}
            )
        made_by_compose = [it for it in there if MADE_HERE not in it["Labels"]]
        if not made_by_compose:
            return Answer(
                409, {"message": f"Compose made no container of '{service}': run docker compose up"}
            )
        pattern = min(made_by_compose, key=_number)
        number = max(_number(it) for it in there) + 1
        inspected = self._own(pattern["Id"])
        body = create_body(inspected, number)
        for volume in volumes(inspected):
            check_volume(self._ask("GET", f"/volumes/{quote(volume, safe='')}"))
        name = quote(f"{self._project}-{service}-{number}", safe="")
        status, document = ask(
            self._engine, "POST", f"/containers/create?name={name}", body, timeout_s=_TIMEOUT_S
        )
        if status != 201:
            return Answer(status if 400 <= status < 500 else 502, {"message": _message(document)})
        log.info("created container %d of %s", number, service)
        return Answer(201, {"Id": document["Id"]})

    def _containers(self, service: str) -> list[dict[str, Any]]:
        """The engine's list of this service's containers, running or not; what `docker compose run` made is none."""
        labels = [f"{_PROJECT}={self._project}", f"{_SERVICE}={service}", f"{_ONEOFF}=False"]
        filters = quote(json.dumps({"label": labels}), safe="")
        found: list[dict[str, Any]] = self._ask("GET", f"/containers/json?all=true&filters={filters}")
        # The engine's filter is not relied on alone; of a container without labels it may say null.
        return [it for it in found if self._is_own(it["Labels"] or {})]

    def _own(self, container: str) -> dict[str, Any]:
        """The engine's word on a container of one of the services.

        Raises
        ------
        Forbidden : it is another's, or there is none: the asker does not learn which
        """
        status, found = ask(self._engine, "GET", f"/containers/{container}/json", timeout_s=_TIMEOUT_S)
        if status == 200 and found["Id"] == container and self._is_own(found["Config"]["Labels"] or {}):
            return dict(found)
        if status in (200, 404):
            raise Forbidden("that is no container of the services that are scaled here")
        raise ValueError(f"the engine answered {status}")

    def _is_own(self, labels: Mapping[str, str]) -> bool:
        return (
            labels.get(_PROJECT) == self._project
            and labels.get(_SERVICE) in self._services
            and labels.get(_ONEOFF) == "False"
        )

    def _ask(self, method: str, target: str) -> Any:
        status, document = ask(self._engine, method, target, timeout_s=_TIMEOUT_S)
        if status != 200:
            raise ValueError(f"the engine answered {status} to {method} {target}: {_message(document)}")
        return document

    def _do(self, method: str, target: str) -> Answer:
        timeout_s = _TIMEOUT_S + LONGEST_STOP_S
        status, document = ask(self._engine, method, target, timeout_s=timeout_s)
        if status in (200, 204, 304):
            return Answer(200, {})
        return Answer(status if 400 <= status < 500 else 502, {"message": _message(document)})


def _number(listed: Mapping[str, Any]) -> int:
    value = listed["Labels"].get(NUMBER, "0")
    return int(value) if value.isdigit() else 0


def _message(document: Any) -> str:
    return str(document.get("message", ""))[:300] if isinstance(document, dict) else ""


def _shown(listed: Mapping[str, Any]) -> dict[str, Any]:
    """Neither commands nor mounts nor addresses."""
    labels = {name: listed["Labels"][name] for name in _LABELS if name in listed["Labels"]}
    plain = {name: listed[name] for name in ("Id", "Names", "Created", "State", "Status")}
    return {**plain, "Labels": labels}


def _shown_whole(inspected: Mapping[str, Any]) -> dict[str, Any]:
    """As in the list: an environment may hold secrets."""
    labels = {name: it for name, it in inspected["Config"]["Labels"].items() if name in _LABELS}
    state = {name: inspected["State"].get(name) for name in ("Status", "ExitCode", "StartedAt", "FinishedAt")}
    return {"Id": inspected["Id"], "Name": inspected["Name"], "State": state, "Labels": labels}


def _stats(stats: Mapping[str, Any], inspected: Mapping[str, Any]) -> dict[str, Any]:
    """Processor time so far, memory without what the kernel can drop at once, and the bounds of both."""
    memory, host = stats.get("memory_stats") or {}, inspected["HostConfig"]
    dropped = (memory.get("stats") or {}).get("inactive_file", 0)
    nano = host.get("NanoCpus") or 0
    return {
        "cpu_ns": stats["cpu_stats"]["cpu_usage"]["total_usage"],
        "cpus": nano / 1e9 if nano else 1.0,
        "memory": max(0, memory.get("usage", 0) - dropped),
        "memory_limit": memory.get("limit", 0),
    }
