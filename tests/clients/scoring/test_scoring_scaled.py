"""Scoring replicas under the scaler: real processes, demand by their own counts, up and down, no answer lost."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import httpx
import pytest
from scoring_side import ROW, publish

from hansa.sidecar.actuators.processes import Processes
from hansa.sidecar.scaler.build import make_parts
from hansa.sidecar.scaler.journal import Entry, Journal
from hansa.sidecar.scaler.services import read_services
from hansa.sidecar.scaler.shell import Parts, ScalerShell

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

PORT = 19500
# Requests a minute that one replica is said to answer: few, so that a test can ask for more.
CAPACITY = 1500


class Callers:
    """Ask the replicas that are ready, one after the other, so many times a second."""

    def __init__(self, ready: Callable[[], list[int]]) -> None:
        self.rate, self.answers, self.failures = 0.0, 0, []  # type: tuple[float, int, list[str]]
        self._ready, self._ended = ready, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        with httpx.Client(timeout=10, trust_env=False) as client:
            due, turn = time.monotonic(), 0
            while not self._ended.is_set():
                due = max(due, time.monotonic() - 0.5) + (1 / self.rate if self.rate else 0.1)
                self._ended.wait(max(0.0, due - time.monotonic()))
                places = self._ready()
                if not self.rate or not places:
                    continue
                turn += 1
                try:
                    url = f"http://127.0.0.1:{places[turn % len(places)]}/v1/score"
                    answer = client.post(url, json=ROW)
                    if answer.status_code != 200:
                        self.failures.append(answer.text)
                    self.answers += 1
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    model = tmp_path / "model.safetensors"
    publish(model)
    command = [sys.executable, "-m", "hansa.clients.scoring", "--model", str(model), "--port", "{port}"]
    command += ["--ready-file", "{ready}", "--drain", "3"]
    path = tmp_path / "scaler.toml"
    path.write_text(
        f"every_s = 2\n[[service]]\nname = 'scoring'\ncapacity = {CAPACITY}\nmaximum = 3\nstartup_s = 5\n"
        "cooldown_s = 0\npolicy = 'demand'\n"
        f"signals = {{kind = 'metrics', url = 'http://127.0.0.1:{PORT}/metrics', ports = 4}}\n"
        f"[service.actuator]\nkind = 'processes'\ncommand = {json.dumps(command)}\nport = {PORT}\n"
        "drain = 'TERM'\ndrain_s = 20\n"
    )
    [service] = read_services(path).services
    made = make_parts(service, tmp_path / "state", None, observe=False)
    actuator = made.actuator
    assert isinstance(actuator, Processes)
    yield made
    for worker in actuator._workers:
        worker.signal(signal.SIGKILL)
    for process in actuator._own.values():
        process.wait(10)
    actuator.close()


def test_replicas_follow_requests_up_and_down_and_every_request_is_answered(
    parts: Parts, tmp_path: Path
) -> None:
    actuator = parts.actuator
    assert isinstance(actuator, Processes)
    shell = ScalerShell({"scoring": parts}, Journal(tmp_path / "state", alone=True), act=True)

    def ready() -> list[int]:
        # What a load balancer knows: the ready file comes and goes with readiness.
        serving = [it for it in list(actuator._workers) if it.leaving is None]
        return [PORT + it.slot for it in serving if actuator._ready(it).exists()]

    def look_until(condition: Callable[[Entry], bool]) -> Entry:
        end = time.monotonic() + 60
        while True:
            time.sleep(2.0)
            [entry] = shell.look()
            if condition(entry):
                return entry
            assert time.monotonic() < end, entry

    actuator.scale(1)
    callers = Callers(ready)
    try:
        look_until(lambda it: it.ready == 1 and it.demand is not None)
        callers.rate = 60.0
        # 3600 a minute at 1500 each: three replicas.
        busy = look_until(lambda it: it.ready == 3)
        # Two seconds are few: a replica's start takes the callers' processor, and they catch up afterwards.
        steady = [look_until(lambda it: it.demand is not None and it.decision.wanted == 3) for _ in range(5)]
        assert median(it.demand for it in steady if it.demand) == pytest.approx(3600.0, rel=0.25)
        assert (busy.did, steady[-1].problem) == ("nothing", "")
        callers.rate = 10.0
        look_until(lambda it: it.ready == 1 and it.leaving == 0)
        answered = callers.answers
        time.sleep(1.0)
        assert callers.answers > answered
    finally:
        callers.end()
    assert callers.failures == []
    assert callers.answers > 300
