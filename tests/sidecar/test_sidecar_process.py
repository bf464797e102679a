"""The sidecar's process: small and flat, without torch, Flower or pandas; ends when it is told.

HANSA_WATCHED_ROUNDS=10000 makes the test of its memory as long as the promise.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from desks import SECRETS
from federation import JOB
from watched import WatchedJob, loss_at, watched

MOST_BYTES = 60 * 1024 * 1024
ROUNDS = int(os.environ.get("HANSA_WATCHED_ROUNDS", "800"))


@contextmanager
def process(job: WatchedJob, *more: str) -> Iterator[subprocess.Popen[str]]:
    tokens = job.folder / "tokens.json"
    tokens.write_text(json.dumps({"write": SECRETS["write"]}))
    argv = [sys.executable, "-m", "hansa.sidecar", "--control", job.url, "--tokens", str(tokens)]
    argv += ["--state", str(job.folder / "sidecar"), "--every", "0.05", *more]
    running = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    try:
        yield running
    finally:
        running.kill()
        running.wait()
        assert running.stderr is not None
        running.stderr.close()


def until_read(job: WatchedJob, attempt: int, within_s: float = 60.0) -> None:
    """Until the sidecar has looked at that attempt."""
    path, end = job.folder / "sidecar" / f"{JOB}.json", time.monotonic() + within_s
    while time.monotonic() < end:
        if path.exists() and json.loads(path.read_text())["attempt"] >= attempt:
            return
        time.sleep(0.05)
    raise AssertionError(f"attempt {attempt} was not looked at within {within_s:g} s")


def test_it_watches_acts_and_ends_with_code_0(tmp_path: Path) -> None:
    with watched(tmp_path) as job, process(job) as running:
        for _ in range(13):
            job.train(loss_at(job.round))
        until_read(job, 13)
        job.train({"log_loss": loss_at(0)["log_loss"].model_copy(update={"value": 3.0})})
        end = time.monotonic() + 30
        while not job.decisions("recovery") and time.monotonic() < end:
            time.sleep(0.05)
        assert job.round < 13
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0


def test_a_second_one_over_the_same_folder_is_refused(tmp_path: Path) -> None:
    with watched(tmp_path) as job, process(job, "--ready-file", str(tmp_path / "ready")):
        end = time.monotonic() + 30
        while not (tmp_path / "ready").exists() and time.monotonic() < end:
            time.sleep(0.05)
        with process(job) as second:
            assert second.wait(30) == 2
            assert second.stderr is not None
            assert "another sidecar works over this folder" in second.stderr.read()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--tokens", "/nowhere/tokens.json"), "/nowhere/tokens.json"),
        (("--control", "ftp://x"), "http://HOST:PORT"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({"write": "x" * 20}))
    argv = [sys.executable, "-m", "hansa.sidecar", "--control", "http://127.0.0.1:1", "--tokens", str(tokens)]
    done = subprocess.run(
        [*argv, "--state", str(tmp_path), *change], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_it_loads_nothing_that_is_large() -> None:
    program = (
        "import sys, hansa.sidecar.__main__; "
        "print([it for it in ('torch', 'flwr', 'pandas', 'scipy', 'polars', 'pydantic', 'httpx') if it in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_is_small_and_flat(tmp_path: Path) -> None:
    with watched(tmp_path) as job, process(job) as running:
        sizes = {}
        for number in range(1, ROUNDS + 1):
            job.train(loss_at(number))
            if number % (ROUNDS // 4) == 0:
                until_read(job, number)
                sizes[number] = psutil.Process(running.pid).memory_info().rss
        assert running.poll() is None
        print({number: f"{it / 2**20:.1f} MB" for number, it in sizes.items()})
        assert max(sizes.values()) <= MOST_BYTES
        assert sizes[ROUNDS // 4 * 4] <= 1.05 * sizes[ROUNDS // 4]
        state = job.folder / "sidecar" / f"{JOB}.json"
        assert state.stat().st_size < 200_000
