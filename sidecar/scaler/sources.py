"""Where a service's demand is read: jobs from control, requests from what each replica says of itself."""

from __future__ import annotations

import http.client
import math
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from hansa.sidecar.server_api import Away, Refused

_TIMEOUT_S = 2.0
_MOST_BYTES = 1024 * 1024
_AT_ONCE = 8
# Addresses come and go with their replicas: so long after its last answer a place is forgotten.
_FORGOTTEN_S = 600.0


@dataclass(frozen=True)
class Demand:
    """Requests a minute, or tasks that wait or run, and how many of them wait; None: not known this time."""

    demand: float | None
    queue: float | None = None
    problem: str = ""


class Source(Protocol):
    """Where demand is read."""

    def read(self) -> Demand:
        """Demand now; never raises: what is not known is None, with the sentence that says why."""
        ...


class Queue(Protocol):
    """The one question that is asked of control."""

    def queue(self) -> dict[str, Any]:
        """Jobs that wait and that run."""
        ...


class ControlSource:
    """Jobs that wait for an executor or run in one."""

    def __init__(self, api: Queue) -> None:
        self._api = api

    def read(self) -> Demand:
        """As control counts them."""
        try:
            found = self._api.queue()
            waiting, running = float(found["waiting"]), float(found["running"])
        except (Away, Refused) as error:
            return Demand(None, problem=str(error))
        except (KeyError, TypeError, ValueError):
            return Demand(None, problem="control answered something else than its queue")
        return Demand(waiting + running, waiting)


class MetricsSource:
    """Requests that replicas counted since the last look, as a rate a minute.

    Parameters
    ----------
    url : http://HOST:PORT/PATH of the replicas
    ports : so many ports from that one on are asked
    requests, in_flight : names of the counter and of the gauge
    without : of samples with that among their labels nothing is counted, e.g. probes of whether a replica lives
    """

    def __init__(
        self,
        url: str,
        *,
        ports: int = 1,
        requests: str,
        in_flight: str,
        without: str = "",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(url)
        self._url, self._host = url, parts.hostname or ""
        self._ports = range(parts.port or 80, (parts.port or 80) + ports)
        self._path = parts.path or "/metrics"
        self._requests, self._in_flight, self._without = requests, in_flight, without
        self._now = now
        # What each place counted, and when it said so last.
        self._counted: dict[tuple[str, int], tuple[float, float]] = {}
        self._at: float | None = None

    def read(self) -> Demand:
        """The first look knows counters and no rate yet."""
        now = self._now()
        pages = self._pages()
        if not pages:
            return Demand(None, problem=f"no replica answers at {self._url}")
        counted, waiting = {}, 0.0
        for place, (page, at) in pages.items():
            found = samples(page, self._without)
            # A replica that nobody asked anything yet has no sample of its counter.
            if self._requests in found or self._in_flight in found:
                counted[place] = (found.get(self._requests, 0.0), at)
            waiting += found.get(self._in_flight, 0.0)
        if not counted:
            return Demand(None, problem=f"no replica at {self._url} counts {self._requests}")
        before, since = self._counted, self._at
        # One that did not answer this time is not new when it does again.
        kept = {place: it for place, it in before.items() if now - it[1] <= _FORGOTTEN_S}
        self._counted, self._at = {**kept, **counted}, now
        if since is None or now <= since:
            return Demand(None, waiting)
        rate = 0.0
        for place, (value, at) in counted.items():
            # A counter that fell belongs to a replica that began anew, as does one that was not there: from 0 on.
            old, seen = before.get(place, (0.0, since))
            rate += 60.0 * (value - old if value >= old else value) / max(at - seen, 1e-3)
        return Demand(rate, waiting)

    def _pages(self) -> dict[tuple[str, int], tuple[str, float]]:
        """What each place answered, and when: one that is slow to answer has counted until then."""
        try:
            known = socket.getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
        except OSError:
            return {}
        places = [
            (address, port) for address in sorted({str(it[4][0]) for it in known}) for port in self._ports
        ]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            pages = list(pool.map(self._page, places))
        return {place: page for place, page in zip(places, pages, strict=True) if page is not None}

    def _page(self, place: tuple[str, int]) -> tuple[str, float] | None:
        connection = http.client.HTTPConnection(*place, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", self._path, headers={"Host": f"{self._host}:{place[1]}"})
            response = connection.getresponse()
            content = response.read(_MOST_BYTES + 1)
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        if response.status != 200 or len(content) > _MOST_BYTES:
            return None
        return content.decode(errors="replace"), self._now()


def samples(page: str, without: str = "") -> dict[str, float]:
    """Sums by name of a page in Prometheus' text format, over all labels; what is no number is left out.

    Parameters
    ----------
    without : samples among whose labels this stands are left out, too
    """
    found: dict[str, float] = {}
    for line in page.splitlines():
        if not line or line.startswith("#") or (without and without in line):
            continue
        name, brace, rest = line.partition("{")
        # A label's value may hold spaces and braces; after the last brace stands the value alone.
        words = rest.rpartition("}")[2].split() if brace else line.split()[1:]
        name = name.split()[0] if name.split() else ""
        try:
            value = float(words[0])
        except (IndexError, ValueError):
            continue
        if name and math.isfinite(value):
            found[name] = found.get(name, 0.0) + value
    return found
