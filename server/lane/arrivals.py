"""Messages whose objects are still on their way.

Flower stores a message first and its objects afterwards, one request each. A message delivered in
between sends its receiver into exponential back-off, which costs more than a second. So the lane
shows a message to its receiver only when the last object of its push session has been stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hansa.server.lane.bells import Bells, Key

# A sender that has been silent for so long hides its messages no longer: Flower's own rules take over.
_PATIENCE_S = 20.0


@dataclass
class _Session:
    missing: set[str]
    messages: tuple[tuple[Key, str], ...]
    touched: float = field(default=0.0)


class Arrivals:
    """Push sessions that are not complete, by session id."""

    def __init__(self, bells: Bells, clock: Callable[[], float] = time.monotonic) -> None:
        self._bells = bells
        self._clock = clock
        self._sessions: dict[str, _Session] = {}

    def expect(self, session_id: str, missing: Iterable[str], messages: Iterable[tuple[Key, str]]) -> None:
        """Note a push: `messages` are (whose bell, message id), shown once `missing` is empty."""
        session = _Session(set(missing), tuple(messages), self._clock())
        if session.missing:
            self._sessions[session_id] = session
        else:
            self._announce(session)

    def stored(self, session_id: str, object_id: str) -> None:
        """Note an object that Flower stored. A stock sender of old leaves the session id empty."""
        if not session_id:
            session_id = next((s for s, it in self._sessions.items() if object_id in it.missing), "")
        session = self._sessions.get(session_id)
        if session is None:
            return
        session.missing.discard(object_id)
        session.touched = self._clock()
        if not session.missing:
            del self._sessions[session_id]
            self._announce(session)

    def on_their_way(self, key: Key) -> set[str]:
        """Ids of messages under `key` that are not to be shown yet."""
        if not self._sessions:
            return set()
        oldest = self._clock() - _PATIENCE_S
        self._sessions = {s: it for s, it in self._sessions.items() if it.touched >= oldest}
        return {message for it in self._sessions.values() for owner, message in it.messages if owner == key}

    def _announce(self, session: _Session) -> None:
        for key in {key for key, _ in session.messages}:
            self._bells.ring(key)
