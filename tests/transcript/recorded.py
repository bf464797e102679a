"""What a server process receives, sends, writes and holds in memory while it runs a job: the adversary's record."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Direction = Literal["to-member", "to-server"]
# One row a page, in words of eight bytes.
Pages = NDArray[np.uint64]
_PAGE = 4096


@dataclass(frozen=True)
class Frame:
    """One payload between the server and one member's node."""

    member: str
    direction: Direction
    payload: bytes


@dataclass
class Transcript:
    """Everything of one job, in the order in which it was seen."""

    frames: list[Frame] = field(default_factory=list)
    # Every state that a file of the server was seen in: database, its log, temporary files, logs.
    files: list[tuple[str, bytes]] = field(default_factory=list)
    # Runs of pages of the process's memory that changed since they were last looked at.
    memory: list[bytes] = field(default_factory=list)

    def everything(self) -> Iterator[tuple[str, bytes]]:
        """All recorded bytes, each with where it was seen."""
        for number, frame in enumerate(self.frames):
            yield f"frame {number} {frame.direction} {frame.member}", frame.payload
        yield from self.files
        for number, content in enumerate(self.memory):
            yield f"memory {number}", content


class Recorder:
    """Fills a transcript; called from the threads that carry the messages.

    Parameters
    ----------
    folder : where the server writes; its temporary files go to `tmp` in it
    """

    def __init__(self, folder: Path) -> None:
        self.transcript = Transcript()
        self.pid: int | None = None
        self._folder = folder
        self._seen: set[tuple[str, bytes]] = set()
        self._before: dict[int, Pages] = {}
        self._lock = threading.Lock()

    def frame(self, member: str, direction: Direction, payload: bytes) -> None:
        """A message passed; temporary files may stand for a moment only, so they are looked at each time."""
        with self._lock:
            self.transcript.frames.append(Frame(member, direction, payload))
            self._look(self._folder / "tmp")

    def look(self) -> None:
        """Look at every file, and at the process's memory where it is one of its own."""
        with self._lock:
            self._look(self._folder)
            if self.pid is not None:
                self.transcript.memory += changed_memory(self.pid, self._before)

    def _look(self, folder: Path) -> None:
        for path in sorted(it for it in folder.rglob("*") if it.is_file()):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            key = (str(path.relative_to(self._folder)), content)
            if content and key not in self._seen:
                self._seen.add(key)
                self.transcript.files.append(key)


def changed_memory(pid: int, before: dict[int, Pages]) -> list[bytes]:
    """Runs of writable pages that are not as they were `before`, which is brought up to date."""
    runs, now = [], dict(_writable(pid))
    for start, pages in now.items():
        changed = pages.any(axis=1)
        old = before.get(start, pages[:0])[: len(pages)]
        changed[: len(old)] &= (pages[: len(old)] != old).any(axis=1)
        # What stands across the border of two pages is found where the page beside is there too.
        wide = changed.copy()
        wide[1:] |= changed[:-1]
        wide[:-1] |= changed[1:]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], wide, [False]]).astype(np.int8)))
        runs += [pages[first:last].tobytes() for first, last in edges.reshape(-1, 2)]
    before.clear()
    before.update(now)
    return runs


def _writable(pid: int) -> Iterator[tuple[int, Pages]]:
    """Start and pages of every writable region of a process."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            bounds, access, *_ = line.split()
            if not access.startswith("rw"):
                continue
            start, end = (int(it, 16) for it in bounds.split("-"))
            content = np.empty(end - start, np.uint8)
            filled = 0
            while filled < content.size:
                try:
                    count = os.preadv(memory.fileno(), [content[filled:].data], start + filled)
                except OSError:
                    # A page that cannot be read, such as one of the kernel's own.
                    count = 0
                if count == 0:
                    break
                filled += count
            whole = filled // _PAGE * _PAGE
            yield start, content[:whole].view(np.uint64).reshape(-1, _PAGE // 8)
