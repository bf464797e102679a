"""Memory of the consortium's processes, as the sidecar read it last: no history, bounded, lost with control."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field

from hansa.contract.bounded import BoundedDict
from hansa.contract.typed import Frozen, Sentence, Slug

MOST_PROCESSES = 64
# The sidecar reads every half minute: what it did not read for so long has ended, or nobody reads it.
_OLD = timedelta(minutes=3)


class ProcessReading(Frozen):
    """One process's memory.

    Parameters
    ----------
    bound : bytes that it should stay below; None where nobody says
    alarm : what is wrong with it, in a sentence; empty while nothing is
    """

    process: Slug
    resident: Annotated[int, Field(ge=0, lt=2**50)]
    bound: Annotated[int, Field(ge=0, lt=2**50)] | None = None
    alarm: Sentence = ""


class ProcessRecord(ProcessReading):
    """A reading and when it came."""

    at: datetime


class ProcessTable:
    """The newest reading of each process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: BoundedDict[str, ProcessRecord] = BoundedDict(MOST_PROCESSES)

    def enter(self, readings: Sequence[ProcessReading]) -> list[ProcessReading]:
        """Note them; those whose alarm is another than the one before."""
        at, news = datetime.fromtimestamp(time.time(), UTC), []
        with self._lock:
            for it in readings:
                before = self._newest.get(it.process)
                if it.alarm and (before is None or before.alarm != it.alarm):
                    news.append(it)
                self._newest[it.process] = ProcessRecord(**it.model_dump(), at=at)
        return news

    def all(self) -> list[ProcessRecord]:
        """By name; a reading that is older than three minutes is dropped."""
        oldest = datetime.fromtimestamp(time.time(), UTC) - _OLD
        with self._lock:
            for name in [name for name, it in self._newest.items() if it.at < oldest]:
                del self._newest[name]
            return sorted(self._newest.values(), key=lambda it: it.process)
