"""Held pulls: a request that found nothing waits here until something for it has arrived."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

# ("node", node id): messages for a node. ("run", run id): replies to a run. ("tasks",): work for a SuperExec.
Key = tuple[str, int] | tuple[str]


class Bells:
    """One bell per key, any number of listeners. Lives in one event loop; never touched from a thread."""

    def __init__(self) -> None:
        self.closing = False
        self._listeners: dict[Key, set[asyncio.Event]] = defaultdict(set)

    def ring(self, key: Key) -> None:
        """Wake whoever listens for `key`."""
        for event in self._listeners.get(key, ()):
            event.set()

    def close(self) -> None:
        """Wake everybody for good, so that a shutdown waits for no held pull."""
        self.closing = True
        for events in self._listeners.values():
            for event in events:
                event.set()

    @contextmanager
    def listen(self, key: Key) -> Iterator[asyncio.Event]:
        """An event that `ring(key)` sets. Listen before looking, or what arrives in between is missed."""
        event = asyncio.Event()
        self._listeners[key].add(event)
        try:
            yield event
        finally:
            self._listeners[key].discard(event)
            if not self._listeners[key]:
                del self._listeners[key]
