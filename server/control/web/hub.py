"""Who listens to what: one look at the store for all pages that show the same job, and a bounded queue for each page.

Everything here runs in the event loop; the store is read in threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from hansa.server.control.desk import ControlDesk
from hansa.server.control.problems import Full
from hansa.server.control.web.messages import PageChange
from hansa.server.control.web.reading import Cursor, opening, read_jobs, read_logs, read_states
from hansa.server.tokens import Scope

log = logging.getLogger("hansa.page")

LOOK_EVERY_S = 0.5
HEARTBEAT_S = 10.0
# Pages that may listen at a time, and messages that one of them may be behind.
MOST_LISTENERS, ROOM = 32, 64
_HEARTBEAT = b": alive\n\n"
_BEHIND = b"event: behind\ndata: {}\n\n"


class Listener:
    """One page's place in a feed."""

    def __init__(self, feed: Feed, scope: Scope, after: Cursor | None, heartbeat_s: float) -> None:
        self._feed = feed
        self._scope: Scope = scope
        self._after = after
        self._heartbeat_s = heartbeat_s
        # None: nothing more comes.
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(feed.room + 1)
        self._behind = False

    def offer(self, piece: bytes) -> None:
        """Queue a message; a page that is too far behind is told so instead, and comes again with its cursor."""
        if self._behind:
            return
        if self._queue.qsize() >= self._feed.room:
            self._behind = True
            while not self._queue.empty():
                self._queue.get_nowait()
            self._queue.put_nowait(_BEHIND)
            self.end()
        else:
            self._queue.put_nowait(piece)

    def end(self) -> None:
        """Nothing more comes."""
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The stream, piece by piece: what there is, then what changes; a comment while nothing does."""
        await self._feed.begin()
        yield await asyncio.to_thread(self._feed.open, self._scope, self._after)
        while True:
            try:
                piece = await asyncio.wait_for(self._queue.get(), self._heartbeat_s)
            except TimeoutError:
                piece = _HEARTBEAT
            if piece is None:
                return
            yield piece

    def leave(self) -> None:
        """The page is gone."""
        self._feed.leave(self)


class Feed:
    """Changes of one job and of the consortium, for every page that shows them."""

    def __init__(self, desk: ControlDesk, job: str | None, every_s: float, room: int) -> None:
        self.room = room
        self.listeners: set[Listener] = set()
        self._desk = desk
        self._job = job
        self._every_s = every_s
        self._beginning = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._cursor = Cursor()
        self._states: dict[str, Any] = {}

    async def begin(self) -> None:
        """Start looking, once: whoever opens after this misses nothing."""
        async with self._beginning:
            if self._task is None:
                await asyncio.to_thread(self._look)
                self._task = asyncio.create_task(self._watch())

    def leave(self, listener: Listener) -> None:
        """Without listeners nobody looks."""
        self.listeners.discard(listener)
        if not self.listeners and self._task is not None:
            self._task.cancel()

    def open(self, scope: Scope, after: Cursor | None) -> bytes:
        """The first message for a page: all states, and the logs above its cursor, where it shows this job."""
        logs, states, cursor, fresh = self._read(after)
        told = PageChange(fresh=fresh, opening=opening(self._desk, scope), **states, **logs)
        return encode(told, cursor)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                piece = await asyncio.to_thread(self._look)
            except Exception:
                # Pages go on with what they have; the next look may succeed.
                log.exception("the store could not be read for the page")
                continue
            if piece is not None:
                for listener in list(self.listeners):
                    listener.offer(piece)

    def _look(self) -> bytes | None:
        """What changed since the last look."""
        logs, states, cursor, fresh = self._read(self._cursor)
        changed = {name: it for name, it in states.items() if fresh or self._states.get(name) != it}
        self._cursor, self._states = cursor, states
        if not changed and not logs:
            return None
        return encode(PageChange(fresh=fresh, **changed, **logs), cursor)

    def _read(self, after: Cursor | None) -> tuple[dict[str, Any], dict[str, Any], Cursor, bool]:
        """Logs above a cursor, all states, the cursor after them, and whether that begins anew."""
        jobs, job = read_jobs(self._desk, self._job)
        fresh = after is None or after.job != (job.job if job else "")
        logs, cursor = read_logs(self._desk, job, Cursor() if fresh or after is None else after)
        if job is not None:
            # After its rounds: pages forget those above the newest one, which were undone.
            jobs, job = read_jobs(self._desk, job.job)
        return logs, read_states(self._desk, jobs, job), cursor, fresh


class Hub:
    """All feeds; made and used in the event loop.

    Parameters
    ----------
    most : listeners at a time
    room : messages that one of them may be behind
    """

    def __init__(
        self,
        desk: ControlDesk,
        *,
        every_s: float = LOOK_EVERY_S,
        heartbeat_s: float = HEARTBEAT_S,
        most: int = MOST_LISTENERS,
        room: int = ROOM,
    ) -> None:
        self._desk = desk
        self._every_s, self._heartbeat_s, self._most, self._room = every_s, heartbeat_s, most, room
        self._feeds: dict[str | None, Feed] = {}
        self._ended = False

    @property
    def listening(self) -> int:
        """Pages that listen now."""
        return sum(len(feed.listeners) for feed in self._feeds.values())

    def join(self, job: str | None, scope: Scope, after: Cursor | None) -> Listener:
        """A place in the feed of a job, or of whichever runs; `Listener.leave` gives it back.

        Raises
        ------
        Full : as many listen as may, or control is about to end
        """
        if self._ended:
            raise Full("control is about to end")
        if self.listening >= self._most:
            raise Full(f"{self._most} pages listen already, and no more may; close one, or try again later")
        self._feeds = {name: feed for name, feed in self._feeds.items() if feed.listeners}
        feed = self._feeds.setdefault(job, Feed(self._desk, job, self._every_s, self._room))
        listener = Listener(feed, scope, after, self._heartbeat_s)
        feed.listeners.add(listener)
        return listener

    def close(self) -> None:
        """End every stream; nobody joins any more."""
        self._ended = True
        for feed in self._feeds.values():
            for listener in feed.listeners:
                listener.end()


def encode(change: PageChange, cursor: Cursor) -> bytes:
    """A message of the stream (WHATWG server-sent events); its id is what `Last-Event-ID` takes."""
    data = change.model_dump_json(exclude_unset=True)
    return f"id: {cursor}\ndata: {data}\n\n".encode()
