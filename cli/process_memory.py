"""How much memory processes hold, with all that they started: looked at now and then, the most is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping

import psutil

_LOOK_EVERY_S = 0.5


class PeakMemory:
    """Most resident bytes seen of each process and its descendants together.

    Pages that processes share count in each, so a sum over processes is an upper bound.
    """

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self._next = 0.0

    def look(self, pids: Mapping[str, int]) -> None:
        """Look at the processes of these names, at most twice a second."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _LOOK_EVERY_S
        for name, held in resident(pids).items():
            self.peaks[name] = max(held, self.peaks.get(name, 0))


def resident(pids: Mapping[str, int]) -> dict[str, int]:
    """Resident bytes of each process and its descendants; one that is gone is left out."""
    children: dict[int, list[int]] = {}
    held: dict[int, int] = {}
    for process in psutil.process_iter(["pid", "ppid", "memory_info"]):
        facts = process.info
        if facts["memory_info"] is not None:
            held[facts["pid"]] = facts["memory_info"].rss
            children.setdefault(facts["ppid"], []).append(facts["pid"])
    return {name: _with_descendants(pid, children, held) for name, pid in pids.items() if pid in held}


def _with_descendants(pid: int, children: Mapping[int, list[int]], held: Mapping[int, int]) -> int:
    total, waiting = 0, [pid]
    while waiting:
        number = waiting.pop()
        total += held[number]
        waiting += children.get(number, [])
    return total
