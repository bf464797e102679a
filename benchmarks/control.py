"""How fast control answers while a job runs: a real federation, requests at a fixed rate, and a page that listens.

    python benchmarks/control.py [--rate 200] [--seconds 30] [--pages 2]

Requests are sent when they are due, whether or not earlier ones were answered; a request's time runs from when it
was due, so that a server that stalls is not flattered (no coordinated omission). The mix is what pages, commands and
the sidecar ask. The load comes from this process, on the same machine as the whole federation: the load average
before and after says what else ran. Exit code 1 when p99 is above 50 ms or anything failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BOUND_S = 0.050
HANSA = Path(sys.executable).with_name("hansa")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--pages", type=int, default=2, help="pages that listen to the stream meanwhile")
    parser.add_argument("--warm", type=float, default=5.0, help="seconds of load before it counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        up = [HANSA, "up", "--detach", "--json", "--rounds", "2000", "--set", "steps=1"]
        started = subprocess.run(up, cwd=folder, capture_output=True, text=True, check=False)
        if started.returncode:
            print(started.stderr, file=sys.stderr)
            return started.returncode
        try:
            facts = json.loads(started.stdout.strip().splitlines()[-1])
            token = json.loads((Path(folder) / facts["instance"] / "operator" / "tokens.json").read_text())[
                "read"
            ]
            return asyncio.run(measure(facts["control"], facts["job"], token, options))
        finally:
            subprocess.run([HANSA, "down"], cwd=folder, capture_output=True, check=False)


async def measure(url: str, job: str, token: str, options: argparse.Namespace) -> int:
    """Wait until rounds are made, then load control, and print what was seen."""
    client = Client(url, token)
    await rounds_made(client, job, at_least=3)
    pages = [asyncio.create_task(client.listen()) for _ in range(options.pages)]
    await load(client, paths(job, await client.round(job)), options.rate, options.warm)
    first, busy = await client.round(job), os.getloadavg()[0]
    times, errors, wall = await load(client, paths(job, first), options.rate, options.seconds)
    last = await client.round(job)
    for page in pages:
        page.cancel()
    times.sort()
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    print(
        f"{len(times)} requests in {wall:.1f} s ({len(times) / wall:.0f}/s), {options.pages} pages listening"
    )
    now = os.getloadavg()[0]
    print(f"the job made {last - first} rounds meanwhile; load average {busy:.1f} before, {now:.1f} after")
    print(
        f"p50 {1000 * p50:.1f} ms   p99 {1000 * p99:.1f} ms   worst {1000 * times[-1]:.1f} ms   errors {errors}"
    )
    ok = p99 <= BOUND_S and not errors and last > first
    print(f"bound: p99 {1000 * BOUND_S:.0f} ms at {options.rate:g}/s: {'held' if ok else 'MISSED'}")
    return 0 if ok else 1


class Client:
    """HTTP/1.1 over kept connections, as little of it as control needs: the load must not be the load's own."""

    def __init__(self, url: str, token: str) -> None:
        self._host, _, port = url.removeprefix("http://").rpartition(":")
        self._port = int(port)
        self._head = f"Host: {self._host}\r\nAuthorization: Bearer {token}\r\n\r\n"
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body; raises `OSError` or `IncompleteReadError` where the connection breaks."""
        reader, writer = self._idle.pop() if self._idle else await self._open()
        writer.write(f"GET {path} HTTP/1.1\r\n{self._head}".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        body = await reader.readexactly(length)
        self._idle.append((reader, writer))
        return int(head.split()[1]), body

    async def round(self, job: str) -> int:
        """The job's newest round."""
        return int(json.loads((await self.get(f"/v1/jobs/{job}"))[1])["round"])

    async def listen(self) -> None:
        """A page's stream, read and thrown away."""
        reader, writer = await self._open()
        writer.write(f"GET /v1/stream HTTP/1.1\r\n{self._head}".encode())
        while await reader.read(2**16):
            pass

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._host, self._port, limit=2**22)


def paths(job: str, newest: int) -> list[str]:
    """What is asked: mostly small things, as pages, commands and the sidecar do."""
    after = max(0, newest - 1)
    return [
        f"/v1/jobs/{job}",
        f"/v1/jobs/{job}/rounds?after={after}&limit=20",
        "/v1/members",
        f"/v1/jobs/{job}/knobs",
        "/v1/jobs",
        f"/v1/jobs/{job}/decisions",
        "/v1/budgets",
        "/v1/events?limit=50",
        "/v1/charter",
        "/v1/health",
    ]


async def rounds_made(client: Client, job: str, *, at_least: int) -> None:
    """Wait until there are so many."""
    deadline = time.monotonic() + 120
    while await client.round(job) < at_least:
        if time.monotonic() > deadline:
            raise SystemExit("the job made no rounds within two minutes")
        await asyncio.sleep(0.2)


async def load(
    client: Client, asked: list[str], rate: float, seconds: float
) -> tuple[list[float], int, float]:
    """Seconds that each request took from when it was due, how many failed, and the whole time."""
    times: list[float] = []
    errors = 0

    async def one(path: str, due: float) -> None:
        nonlocal errors
        try:
            errors += (await client.get(path))[0] != 200
        except (OSError, asyncio.IncompleteReadError):
            errors += 1
        times.append(time.perf_counter() - due)

    began, tasks = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(asked[number % len(asked)], due)))
    await asyncio.gather(*tasks)
    return times, errors, time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
