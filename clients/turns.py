"""One request of a job at a time, and no answer that tells how long an upload is computed (PROTOCOL section 6)."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Turn:
    """One request, until its answer leaves."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.left = threading.Event()
        # The newest upload of the same job, which this answer must not overtake.
        self.behind: Turn | None = None
        # What a request of the operator's is about.
        self.job, self.attempt, self.order = "", 0, ""

    def about(self, job: str, attempt: int = 0, order: str = "") -> None:
        """Note what the request is about, once it is known who signed it."""
        self.job, self.attempt, self.order = job, attempt, order

    def compute(self, began: float) -> None:
        """From here on the answer's moment would tell about the data; it is paced from `began`."""
        self.began = began


class Turns:
    """Locks of the jobs this member knows, and what is about to leave.

    An upload waits for its public beat outside the lock. Whatever else was asked of the job meanwhile,
    the same request again among it, is answered no sooner than the upload leaves: an answer that came as
    soon as the lock was free would tell when computing ended.

    What is asked of other jobs, or of none, is answered meanwhile, though only at moments at which the
    upload, too, might leave: a busy process answers later than an idle one, be it by a millisecond, and who
    asks without end would see when computing ends. On the upload's own beat that tells what the upload tells.

    Parameters
    ----------
    pace : waits for the beat of what was begun so many seconds ago
    """

    def __init__(self, pace: Callable[[float], None], monotonic: Callable[[], float]) -> None:
        self._pace = pace
        self._monotonic = monotonic
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._newest: dict[str, Turn] = {}
        self._lock = threading.Lock()
        self._here: set[Turn] = set()

    def __len__(self) -> int:
        return len(self._locks)

    @contextmanager
    def answer(self) -> Iterator[Turn]:
        """All of one request; at its end, raising or not, the answer has waited for the moment to leave."""
        mine = Turn()
        with self._lock:
            self._here.add(mine)
        try:
            yield mine
        finally:
            try:
                self._wait(mine)
            finally:
                mine.left.set()
                with self._lock:
                    self._here.discard(mine)

    @contextmanager
    def alone(self, job: str, mine: Turn) -> Iterator[None]:
        """The part of a request that no other one of the job may come between. Known jobs only."""
        with self._locks[job]:
            try:
                yield
            finally:
                if mine.began is not None:
                    self._newest[job] = mine
                else:
                    mine.behind = self._newest.get(job)

    def _wait(self, mine: Turn) -> None:
        if mine.began is not None:
            self._pace(self._monotonic() - mine.began)
            return
        if mine.behind is not None:
            mine.behind.left.wait()
        with self._lock:
            others = [(it.began, it) for it in self._here if it.began is not None]
        for began, other in sorted(others, key=lambda it: it[0]):
            if not other.left.is_set():
                self._pace(self._monotonic() - began)
