"""Worker processes as facts on disk: a process is known by its id, its start and the boot, never by its id alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# In a worker's environment: by it one is found that was started, and then nobody was left to note its process id.
MARK = "HANSA_WORKER"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass
class Worker:
    """One process that this actuator started.

    Attributes
    ----------
    name : of it alone
    slot : number from 0 that no other living worker has
    asked : when it was asked for, seconds since boot
    pid : 0 until it is started
    ticks : start of the process in the kernel's clock ticks since boot
    boot : the kernel's name for this boot
    leaving : when it was told to end; None while it is not
    last_call : when its time to drain was over and it was sent SIGTERM
    told : the last of the signals that it was sent
    """

    name: str
    slot: int
    asked: float
    pid: int = 0
    ticks: int = 0
    boot: str = ""
    leaving: float | None = None
    told: int = 0
    last_call: float | None = None

    @property
    def alive(self) -> bool:
        """Whether that very process runs; one that was reused its number is another."""
        return self.pid > 0 and self.boot == boot() and start_of(self.pid) == self.ticks

    def started_as(self, pid: int) -> None:
        """Note the process that it is."""
        self.pid, self.ticks, self.boot = pid, start_of(pid) or 0, boot()

    def signal(self, number: int) -> None:
        """Signal that very process, and with SIGKILL all that is left of its group; one that is gone is no error."""
        if self.pid <= 0:
            return
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # The handle is of whatever has that number now: only then it is looked at.
            if self.alive:
                if number == signal.SIGKILL and os.getpgid(self.pid) == self.pid:
                    os.killpg(self.pid, number)
                signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)
        self.told = number

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def since_boot() -> float:
    """Seconds since boot, sleep among them: no correction of the wall clock moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot() -> str:
    """The kernel's name for this boot."""
    return _BOOT.read_text().strip()


def start_of(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None where there is none, or only its remains."""
    fields = _stat(pid)
    return None if not fields or fields[0] in "ZX" else int(fields[19])


def marked() -> Iterator[tuple[str, int]]:
    """Names and process ids of living processes that lead a session and carry the mark, one for each name.

    What a worker starts inherits the mark and may lead a session, too. The worker is the one whose parent does not
    carry the same; where such a parent has ended, the one that was started first.
    """
    found: dict[str, tuple[int, int]] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        try:
            if os.getsid(pid) != pid:
                continue
        except OSError:
            continue
        name, ticks, fields = _mark(pid), start_of(pid), _stat(pid)
        if name is None or ticks is None or not fields or _mark(int(fields[1])) == name:
            continue
        found[name] = min(found.get(name, (ticks, pid)), (ticks, pid))
    yield from ((name, pid) for name, (_, pid) in found.items())


def _mark(pid: int) -> str | None:
    prefix = f"{MARK}=".encode()
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next(
        (it[len(prefix) :].decode(errors="replace") for it in variables if it.startswith(prefix)), None
    )


def _stat(pid: int) -> list[str]:
    """The kernel's fields of a process from its state on; none where there is no process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
