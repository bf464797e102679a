"""What measures the blocks of one side: their time, or the memory that they hold."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

# glibc's name for mallopt(3).
_MMAP_THRESHOLD = -3


@dataclass
class Watch:
    """Milliseconds of each of its blocks."""

    blocks: list[float] = field(default_factory=list)

    @property
    def ms(self) -> float:
        """All blocks together."""
        return sum(self.blocks)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count this block."""
        began = time.perf_counter()
        yield
        self.blocks.append((time.perf_counter() - began) * 1e3)


@dataclass
class Gauge:
    """Most bytes held at a time by one process, or by the greediest of several of which each runs in a block.

    Parameters
    ----------
    together : the blocks are one process's: what one leaves behind counts in those that follow
    """

    together: bool
    held: int = 0
    peak: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count this block."""
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again (proc(5))
        before = _resident("VmRSS")
        yield
        self.peak = max(self.peak, self.held + _resident("VmHWM") - before)
        if self.together:
            self.held += _resident("VmRSS") - before


def give_back_at_once() -> None:
    """Every freed array goes back to the kernel at once: the next one would not be seen in what the process kept."""
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 65_536)


def _resident(field: str) -> int:
    """A figure of this process's memory in bytes, `VmRSS` or its peak `VmHWM`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
