"""Real processes: a swap, a scale-down and a crash of a worker, under callers that count every request."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest
from caller import Caller, post
from scoring_side import ROW, TOKEN, facts, publish

from hansa.clients.scoring.model_file import SERVED

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An organisation's folder with a published model and a token."""
    (tmp_path / "member.toml").write_text(
        'name = "a"\nserver = "x:1"\ndata = { kind = "csv", path = "a.csv" }\n'
    )
    publish(tmp_path / SERVED, personal=True)
    (tmp_path / "scoring" / "token").write_bytes(TOKEN + b"\n")
    (tmp_path / "scoring" / "token").chmod(0o600)
    return tmp_path


@contextmanager
def scoring(folder: Path, *options: str, name: str = "one") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A service that is ready, and its port; killed at the end where it still runs."""
    ready = folder / f"{name}.ready"
    command = [sys.executable, "-m", "hansa.clients.scoring", "--folder", str(folder), "--port", "0"]
    child = subprocess.Popen(
        [*command, "--ready-file", str(ready), *options], stderr=subprocess.PIPE, text=True
    )
    try:
        give_up = time.monotonic() + 30
        while not ready.exists():
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < give_up
            time.sleep(0.02)
        yield child, int(json.loads(ready.read_text())["scoring"].rpartition(":")[2])
    finally:
        child.kill()
        child.wait()


def request() -> bytes:
    return post("/v1/score", msgspec.json.encode(ROW), token=TOKEN)


def test_no_request_is_lost_or_answered_by_two_models_while_they_change(folder: Path) -> None:
    with scoring(folder) as (child, port):
        caller = Caller(lambda: ("127.0.0.1", port), request())

        async def swaps() -> None:
            calling = asyncio.create_task(caller.run(16))
            for seed in (2, 3, 4):
                await asyncio.sleep(0.4)
                publish(folder / SERVED, personal=True, seed=seed)
                child.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.4)
            (folder / SERVED).write_bytes(b"not a model")
            await asyncio.sleep(1.6)
            caller.stopped = True
            await calling

        asyncio.run(swaps())
        figures = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert caller.lost == caller.unsent == 0
    assert set(caller.codes) == {200}
    assert caller.codes[200] > 500
    # One row has one score under each model: an answer that names one and comes from another would be a fifth pair.
    assert len(caller.models) == len(caller.answers) == 4
    assert "hansa_scoring_swaps_total 3\n" in figures
    assert "hansa_scoring_refused_models_total 1\n" in figures


def test_no_request_is_lost_when_one_of_two_replicas_goes(folder: Path) -> None:
    with scoring(folder, name="one") as (leaving, first), scoring(folder, name="two") as (_, second):
        turns = iter(range(10**9))

        def balanced() -> tuple[str, int]:
            """As a balancer does that looks at readiness: in turn, and only those that are ready."""
            ready = [first, second] if (folder / "one.ready").exists() else [second]
            return "127.0.0.1", ready[next(turns) % len(ready)]

        # Busy connections, and some that are used a few times a second only.
        busy, seldom = Caller(balanced, request()), Caller(balanced, request(), pause_s=0.3)

        async def scale_down() -> float:
            calling = [asyncio.create_task(busy.run(12)), asyncio.create_task(seldom.run(12))]
            await asyncio.sleep(1.0)
            leaving.send_signal(signal.SIGTERM)
            asked = time.monotonic()
            while leaving.poll() is None:
                await asyncio.sleep(0.02)
            took = time.monotonic() - asked
            await asyncio.sleep(0.5)
            busy.stopped = seldom.stopped = True
            await asyncio.gather(*calling)
            return took

        took = asyncio.run(scale_down())
    assert leaving.returncode == 0
    assert took < 5
    for caller in (busy, seldom):
        assert caller.lost == caller.unsent == 0
        assert set(caller.codes) == {200}
        assert min(caller.by_port[first], caller.by_port[second]) > 0


@pytest.mark.parametrize(("later", "shortest", "longest"), [(0.1, 2.5, 6.0), (1.3, 1.2, 2.4)])
def test_the_same_signal_from_two_sides_is_no_hurry_and_a_later_one_is(
    folder: Path, later: float, shortest: float, longest: float
) -> None:
    with scoring(folder, "--drain", "3") as (child, port):

        async def held() -> float:
            """How long it takes to end while somebody holds a connection."""
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            began = time.monotonic()
            child.send_signal(signal.SIGTERM)
            await asyncio.sleep(later)
            child.send_signal(signal.SIGTERM)
            while child.poll() is None:
                await asyncio.sleep(0.02)
            writer.close()
            return time.monotonic() - began

        assert shortest < asyncio.run(held()) < longest
    assert child.returncode == 0


def test_a_long_batch_that_is_under_way_is_finished(folder: Path) -> None:
    body = msgspec.json.encode([ROW] * 100_000)
    with scoring(folder, "--drain", "0") as (child, port):

        async def ended() -> tuple[int, int]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            sent = post("/v1/score/batch", body, token=TOKEN)
            writer.write(sent[: len(sent) // 2])
            await writer.drain()
            child.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            writer.write(sent[len(sent) // 2 :])
            head = await reader.readuntil(b"\r\n\r\n")
            answer = json.loads(await reader.read())
            writer.close()
            return int(head[9:12]), len(answer["scores"])

        assert asyncio.run(ended()) == (200, 100_000)
        assert child.wait(5) == 0


def test_workers_share_port_and_counts_and_one_that_dies_is_replaced(folder: Path) -> None:
    with scoring(folder, "--workers", "2") as (parent, port):
        workers = psutil.Process(parent.pid).children()
        assert len(workers) == 2
        for _ in range(40):
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                bearer = {"authorization": f"Bearer {TOKEN.decode()}"}
                assert client.post("/v1/score", json=ROW, headers=bearer).status_code == 200
        figures = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert 'hansa_scoring_requests_total{path="/v1/score",code="200"} 40\n' in figures
        os.kill(workers[0].pid, signal.SIGKILL)
        give_up = time.monotonic() + 20
        while workers[0] in (now := psutil.Process(parent.pid).children()) or len(now) < 2:
            assert time.monotonic() < give_up
            time.sleep(0.05)
        # The dead one's counts stay.
        figures = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert 'hansa_scoring_requests_total{path="/v1/score",code="200"} 40\n' in figures
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(20) == 0
        assert not (folder / "one.ready").exists()


@pytest.mark.parametrize(
    ("break_", "options", "sentence"),
    [
        (lambda folder: (folder / SERVED).unlink(), (), "run: hansa score publish --folder"),
        (lambda folder: publish(folder / SERVED, facts(member="b")), (), "is a model of 'b', not of 'a'"),
        (lambda folder: (folder / "scoring" / "token").chmod(0o644), (), "others can read this token"),
        (
            lambda folder: (folder / "scoring" / "token").unlink(),
            ("--host", "0.0.0.0"),
            "name a --token-file",
        ),
        (lambda folder: None, ("--host", "192.0.2.1"), "choose another port"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_code_2(
    folder: Path, break_: object, options: tuple[str, ...], sentence: str
) -> None:
    break_(folder)  # type: ignore[operator]
    command = [
        sys.executable,
        "-m",
        "hansa.clients.scoring",
        "--folder",
        str(folder),
        "--port",
        "0",
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_makes_a_token_that_nobody_else_reads(folder: Path) -> None:
    (folder / "scoring" / "token").unlink()
    ready = folder / "ready"
    command = [sys.executable, "-m", "hansa.cli", "score", "serve", "--folder", str(folder), "--port", "0"]
    child = subprocess.Popen([*command, "--ready-file", str(ready)], stdout=subprocess.PIPE, text=True)
    try:
        while not ready.exists():
            assert child.poll() is None
            time.sleep(0.02)
        port = json.loads(ready.read_text())["scoring"].rpartition(":")[2]
        path = folder / "scoring" / "token"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for token, code in ((path.read_text().strip(), 200), ("", 401)):
            headers = {"authorization": f"Bearer {token}"} if token else {}
            url = f"http://127.0.0.1:{port}/v1/score"
            assert httpx.post(url, json=ROW, headers=headers).status_code == code
    finally:
        child.terminate()
        assert child.wait(20) == 0


def test_the_callers_see_a_loss_where_there_is_one(folder: Path) -> None:
    with scoring(folder, name="one") as (killed, first), scoring(folder, name="two") as (_, second):
        ports = [first] * 8 + [second] * 100
        caller = Caller(lambda: ("127.0.0.1", ports.pop(0)), request())

        async def crash() -> None:
            calling = asyncio.create_task(caller.run(8))
            await asyncio.sleep(0.5)
            killed.kill()
            await asyncio.sleep(0.5)
            caller.stopped = True
            await calling

        asyncio.run(crash())
    assert caller.lost > 0
