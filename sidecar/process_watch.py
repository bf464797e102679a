"""Memory of the consortium's processes: read every half minute, told to control.

Two rules. A bound: more than it, until it is less than nine tenths of it again. Growth: the least value of each of the
last twelve windows of ten minutes is above the one before, by a tenth altogether; least values: what a collector
will free is none. And what the operations profile (`anomaly/ops.py`) takes for critical: where memory never was.
"""

from __future__ import annotations

import http.client
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from hansa.contract.bounded import BoundedDict, bounded_log
from hansa.contract.process_figures import resident_bytes

from .anomaly.alarms import Reading
from .anomaly.ops import OpsMetric
from .server_api import Away, Refused, ServerApi

log = logging.getLogger("hansa.sidecar")

EVERY_S = 30.0
# The first looks come sooner: processes that start together show their figures one after another.
_EARLY, _EARLY_S = 5, 2.0
_MIB = 1 << 20
# What each may hold; docker-compose.yml has the same limits.
BOUNDS = {"sidecar": 60 * _MIB, "control": 400 * _MIB, "superlink": 500 * _MIB, "executor": 600 * _MIB}
_WINDOW, _WINDOWS, _GROWTH = 20, 12, 1.1
_CALM = 0.9
_MOST, _PATIENCE_S, _LONGEST = 32, 2.0, 1 << 20
_RESIDENT, _CHILDREN = "process_resident_memory_bytes", "hansa_serverapps_resident_memory_bytes"
# What control takes for a reading.
_MOST_BYTES = 1 << 50


class MemoryWatch:
    """One process's memory, in constant space.

    Parameters
    ----------
    bound : bytes; None: only growth alarms
    """

    def __init__(self, process: str, bound: int | None) -> None:
        self._process, self._bound = process, bound
        self._ops = OpsMetric(f"memory of {process}")
        # Least value of each window, the one under way last.
        self._least: deque[int] = bounded_log(_WINDOWS)
        self._count = 0
        self._above = self._growing = False

    def see(self, resident: int, at: float) -> str:
        """What is wrong, in a sentence; empty where nothing is."""
        if not self._count % _WINDOW:
            self._growing = self._grows()
            self._least.append(resident)
        self._least[-1] = min(self._least[-1], resident)
        self._count += 1
        if self._bound is not None:
            self._above = resident > (_CALM * self._bound if self._above else self._bound)
        novel = self._ops.see(Reading(f"memory of {self._process}", at, float(resident)))
        if self._above:
            assert self._bound is not None
            # The bound alone, so that the sentence stays the same while the alarm stands.
            return f"it holds more than its bound of {self._bound / _MIB:.0f} MiB"
        if self._growing:
            hours = _WINDOWS * _WINDOW * EVERY_S / 3600
            return f"its memory grew in each of the last {_WINDOWS} windows, over {hours:g} h"
        return novel.sentence if novel is not None and novel.severity == "critical" else ""

    def _grows(self) -> bool:
        """Over windows that are whole; asked when another one begins."""
        least = list(self._least)
        rises = len(least) == _WINDOWS and all(after > before for before, after in pairwise(least))
        return rises and least[-1] >= _GROWTH * least[0]


class ProcessWatch:
    """Reads, judges and tells; never raises.

    Parameters
    ----------
    watched : where other processes show their figures, HOST:PORT or the path of a file
    """

    def __init__(
        self, api: ServerApi, watched: Sequence[str], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._api, self._watched, self._monotonic = api, tuple(watched), monotonic
        self._watches: BoundedDict[str, MemoryWatch] = BoundedDict(_MOST)
        self._due = monotonic()
        self._control: int | None = None
        self._looks = 0

    def look(self) -> None:
        """Where half a minute has gone by since the last time."""
        if self._monotonic() < self._due:
            return
        self._looks += 1
        self._due = self._monotonic() + (_EARLY_S if self._looks <= _EARLY else EVERY_S)
        found = {"sidecar": resident_bytes()}
        for place in self._watched:
            found |= read_memory(place)
        if self._control is not None:
            found["control"] = self._control
        readings = [self._judged(name, resident) for name, resident in found.items()]
        try:
            for it in self._api.enter_processes(readings):
                if it.get("process") == "control" and isinstance(it.get("resident"), int):
                    self._control = it["resident"]
        except (Away, Refused) as error:
            log.debug("memory of processes was not entered: %s", error)

    def _judged(self, name: str, resident: int) -> dict[str, Any]:
        bound = BOUNDS.get(name)
        watch = self._watches.get(name)
        if watch is None:
            watch = self._watches[name] = MemoryWatch(name, bound)
        alarm = watch.see(resident, time.time())
        if alarm:
            log.warning("%s: %s", name, alarm)
        return {"process": name, "resident": resident, "bound": bound, "alarm": alarm[:500]}


def read_memory(place: str) -> dict[str, int]:
    """Memory by process that a page of figures speaks of; nothing where it cannot be read."""
    try:
        page = Path(place).read_text()[:_LONGEST] if place.endswith(".prom") else _fetched(place)
    except (OSError, ValueError, http.client.HTTPException) as error:
        log.debug("%s: no figures: %s", place, error)
        return {}
    values: dict[str, int] = {}
    process = ""
    for line in page.splitlines():
        series, _, number = line.rpartition(" ")
        # In a file every series has its process as a label, at a port none has.
        name = series.partition("{")[0]
        if name == "hansa_build_info":
            process = series.partition('process="')[2].partition('"')[0]
        elif name in (_RESIDENT, _CHILDREN) and (value := _bytes(number)) is not None:
            values[name] = value
    found = {process: values[_RESIDENT]} if process and _RESIDENT in values else {}
    return found | ({"serverapps": values[_CHILDREN]} if _CHILDREN in values else {})


def _fetched(place: str) -> str:
    connection = http.client.HTTPConnection(place, timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read(_LONGEST).decode()
    finally:
        connection.close()


def _bytes(number: str) -> int | None:
    try:
        value = float(number)
    except ValueError:
        return None
    return int(value) if math.isfinite(value) and 0 <= value < _MOST_BYTES else None
