"""A log that a flood cannot fill."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from hansa.contract.errors import MessageError, RefusalError

log = logging.getLogger("hansa.agent")

_SELDOM_S = 10.0
# The same sentence is kept once in so long; of so many sentences it is known when they were.
_AGAIN_S, _SENTENCES = 600.0, 256


class Seldom:
    """Logs the first of many alike, and later how many came meanwhile: a flood must not fill a disk."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._more: dict[str, int] = {}
        self._said: dict[tuple[str, str], float] = {}

    def note(self, error: RefusalError | MessageError) -> None:
        """Log `error`, unless one of its kind was logged a moment ago."""
        kind = error.code if isinstance(error, RefusalError) else "undecodable"
        with self._lock:
            now = self._monotonic()
            if now - self._last.get(kind, -_SELDOM_S) < _SELDOM_S:
                self._more[kind] = self._more.get(kind, 0) + 1
                return
            self._last[kind], more = now, self._more.pop(kind, 0)
        log.warning("refused: %s%s", error, f" ({more} more like it since the last line)" if more else "")

    def news(self, refusal: RefusalError) -> bool:
        """Whether these very words were not said a while ago: who is asked every few seconds notes its no once."""
        said = (refusal.code, refusal.sentence)
        with self._lock:
            now = self._monotonic()
            if now - self._said.get(said, -_AGAIN_S) < _AGAIN_S:
                return False
            self._said.pop(said, None)
            self._said[said] = now
            if len(self._said) > _SENTENCES:
                del self._said[next(iter(self._said))]
        return True
