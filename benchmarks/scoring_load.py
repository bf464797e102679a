"""A load generator for `benchmarks/scoring.py`: raw HTTP/1.1 over kept connections on uvloop, in its own process.

    python benchmarks/scoring_load.py < JOB.json > REPORT.json

Closed: each connection sends its next request when it has its answer. Open: a request is due every 1/rate seconds
whatever became of those before, waits for a free connection where there is none, and its latency counts from when it
was due (as wrk2 does), so a server that stalls cannot hide it. uvloop's timers tick in milliseconds; what they are late
counts as latency too.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import uvloop

# Shorter waits are none to uvloop, and the generator would spin.
_TICK_S = 0.001
# For a connection, and for the last answers.
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Work:
    """What to send, how, for how long; `addresses` name a ready file each, and one whose file is gone is left out."""

    request: str
    addresses: list[tuple[str, int, str]]
    connections: int
    seconds: float
    rate: float | None = None

    @property
    def content(self) -> bytes:
        return base64.b64decode(self.request)


@dataclass
class Report:
    """What became of the requests; `lost` were sent and not answered. Seconds."""

    answered: int = 0
    lost: int = 0
    unconnected: int = 0
    unsent: int = 0
    seconds: float = 0.0
    own_cpu: float = 0.0
    # That the generator was ready to run and its core was another's.
    own_wait: float = 0.0
    codes: dict[str, int] = field(default_factory=dict)
    quantiles: dict[str, float] = field(default_factory=dict)


class Connection(asyncio.Protocol):
    """One kept connection; asks one thing at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._parts = b""
        self._missing = -1
        self.due: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._load.free(self)

    def ask(self, due: float) -> None:
        """Send the request that was due then."""
        self.due = due
        self._transport.write(self._load.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            self._parts += data
            end = self._parts.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = head = self._parts[:end]
            start = head.index(b"content-length: ") + 16
            length = int(head[start : head.find(b"\r", start) if b"\r" in head[start:] else len(head)])
            self._missing = length - (len(self._parts) - end - 4)
            self._parts = b""
        else:
            self._missing -= len(data)
        if self._missing == 0:
            self._missing, due, self.due = -1, self.due, None
            assert due is not None
            closes = b"connection: close" in self._head
            if closes:
                self._transport.close()
            self._load.answered(self, int(self._head[9:12]), due, closes)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.gone(self)

    def close(self) -> None:
        self._transport.close()


class Load:
    """Runs one `Work`."""

    def __init__(self, work: Work) -> None:
        self._work, self.request, self.report = work, work.content, Report()
        self._codes: Counter[int] = Counter()
        self._latencies: list[float] = []
        self._idle: list[Connection] = []
        self._backlog: deque[float] = deque()
        self._open: set[Connection] = set()
        self._turn = 0
        self._over = False

    async def run(self) -> Report:
        """Send for as long as is asked, then wait for the answers that are due."""
        self._loop = asyncio.get_running_loop()
        await asyncio.gather(*(self._connect() for _ in range(self._work.connections)))
        began, cpu, waited = time.perf_counter(), time.process_time(), core_wait("self")
        if self._work.rate is None:
            await asyncio.sleep(self._work.seconds)
        else:
            await self._keep_pace(began, self._work.rate)
        self._over = True
        self.report.seconds = time.perf_counter() - began
        self.report.own_cpu = time.process_time() - cpu
        self.report.own_wait = core_wait("self") - waited
        give_up = time.perf_counter() + _PATIENCE_S
        while (
            self._backlog or any(it.due is not None for it in self._open)
        ) and time.perf_counter() < give_up:
            await asyncio.sleep(0.01)
        self.report.unsent = len(self._backlog)
        for connection in self._open:
            self.report.lost += connection.due is not None
            connection.due = None
            connection.close()
        self.report.codes = {str(code): count for code, count in self._codes.items()}
        if self._latencies:
            names = (0.5, 0.9, 0.99, 0.999, 1.0)
            values = np.quantile(self._latencies, names)
            self.report.quantiles = {str(name): float(it) for name, it in zip(names, values, strict=True)}
        return self.report

    async def _keep_pace(self, began: float, rate: float) -> None:
        sent, planned = 0, int(self._work.seconds * rate)
        while sent < planned:
            due = began + sent / rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(max(early, _TICK_S))
                continue
            sent += 1
            if self._idle:
                self._idle.pop().ask(due)
            else:
                self._backlog.append(due)

    async def _connect(self) -> None:
        give_up = time.perf_counter() + _PATIENCE_S
        while time.perf_counter() < give_up:
            ready = [it for it in self._work.addresses if not it[2] or Path(it[2]).exists()]
            self._turn += 1
            host, port, _ = ready[self._turn % len(ready)]
            try:
                _, made = await self._loop.create_connection(lambda: Connection(self), host, port)
            except OSError:
                self.report.unconnected += 1
                await asyncio.sleep(0.01)
                continue
            self._open.add(made)
            return
        raise SystemExit("nobody accepts a connection")

    def free(self, connection: Connection) -> None:
        """A connection can take a request."""
        if self._backlog:
            connection.ask(self._backlog.popleft())
        elif self._work.rate is None and not self._over:
            connection.ask(time.perf_counter())
        else:
            self._idle.append(connection)

    def answered(self, connection: Connection, code: int, due: float, closes: bool) -> None:
        """A whole answer came."""
        self._latencies.append(time.perf_counter() - due)
        self._codes[code] += 1
        if not self._over:
            self.report.answered += 1
        if not closes:
            self.free(connection)

    def gone(self, connection: Connection) -> None:
        """A connection ended; one with an open request has lost it."""
        self.report.lost += connection.due is not None
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._over:
            task = self._loop.create_task(self._connect())
            task.add_done_callback(lambda done: done.exception())


def core_wait(process: int | str) -> float:
    """Seconds for which a process was ready to run and its core was another's (`run_delay` of its first thread)."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9


def main() -> None:
    """One job in, one report out."""
    document = json.load(sys.stdin)
    document["addresses"] = [tuple(it) for it in document["addresses"]]
    print(json.dumps(asdict(uvloop.run(Load(Work(**document)).run()))))


if __name__ == "__main__":
    main()
