"""Requests that hand out prekeys, at most once each: anybody at Flower's ports can send signed bytes again."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hansa.contract.errors import RefusalError

# Answers that are kept to be said again, for replies that were lost on the way.
KEPT_ANSWERS = 16
# Requests that are known to have been answered.
KEPT_REQUESTS = 4096


class Repeats:
    """The same answer to the same bytes; later on, a refusal. Lives as long as the process, as prekeys do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, bytes] = {}
        self._known: dict[str, None] = {}

    def answer(self, asked: str, make: Callable[[], bytes]) -> bytes:
        """What was answered to the request of this hash, or what `make` answers now.

        Raises
        ------
        RefusalError : `replayed`, the answer is no longer kept; or what `make` raises, which is not kept
        """
        with self._lock:
            if asked in self._answers:
                return self._answers[asked]
            if asked in self._known:
                raise RefusalError(
                    "replayed", "this request for prekeys was answered before; write a new one"
                )
            answer = make()
            self._answers[asked] = answer
            self._known[asked] = None
            for kept, most in ((self._answers, KEPT_ANSWERS), (self._known, KEPT_REQUESTS)):
                if len(kept) > most:
                    del kept[next(iter(kept))]
        return answer
