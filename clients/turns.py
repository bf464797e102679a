"""One request of a job at a time, and no answer before the upload it might tell about (PROTOCOL section 6)."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Turn:
    """One request's turn at a job; `compute` says that what follows takes as long as the data want."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.left = threading.Event()

    def compute(self, began: float) -> None:
        """From here on the answer's moment would tell about the data; it is paced from `began`."""
        self.began = began


class Turns:
    """Locks of the jobs this member knows, and what is about to leave of each.

    An upload waits for its public beat outside the lock. Whatever else was asked of the job meanwhile,
    the same request again among it, is answered no sooner than the upload leaves: an answer that came as
    soon as the lock was free would tell when computing ended.
    """

    def __init__(self, pace: Callable[[float], None], monotonic: Callable[[], float]) -> None:
        self._pace = pace
        self._monotonic = monotonic
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._newest: dict[str, Turn] = {}

    def __len__(self) -> int:
        return len(self._locks)

    def take(self, job: str, work: Callable[[Turn], T]) -> T:
        """Do `work` alone; returns or raises on the beat of the job's newest upload. Known jobs only."""
        mine = Turn()
        newest: Turn | None = None
        try:
            with self._locks[job]:
                try:
                    return work(mine)
                finally:
                    if mine.began is not None:
                        self._newest[job] = mine
                    newest = self._newest.get(job)
        finally:
            if mine.began is not None:
                try:
                    self._pace(self._monotonic() - mine.began)
                finally:
                    mine.left.set()
            elif newest is not None:
                newest.left.wait()
