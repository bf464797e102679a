"""Workers as real processes: started, drained, adopted by whoever comes next, and nobody else's ever touched."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from hansa.sidecar.actuators import ActuatorError, Replicas
from hansa.sidecar.actuators.processes import LAST_GRACE_S, Processes
from hansa.sidecar.actuators.workers import MARK, Worker, marked, since_boot, start_of
from hansa.sidecar.saved import save_json

# Serves once it says so; told to drain it works on for as long as its first argument says, then ends.
WORKER = """
import pathlib, signal, sys, time
ends = []
signal.signal(signal.SIGUSR1, lambda *_: ends.append(time.monotonic() + float(sys.argv[1])))
if sys.argv[3] == "stubborn": signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[2]).write_text("ready")
while not ends or time.monotonic() < ends[0]: time.sleep(0.01)
"""


class Clock:
    """Seconds since boot that a test moves."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return since_boot() + self.ahead


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Processes]]:
    made: list[Processes] = []

    def one(work_s: float = 0.0, kind: str = "kind", **settings: object) -> Processes:
        command = [sys.executable, "-c", WORKER, str(work_s), "{ready}", kind]
        options = {"drain": signal.SIGUSR1, "drain_s": 60.0, **settings}
        made.append(Processes("w", command, tmp_path, **options))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for it in made:
        for worker in it._workers:
            worker.signal(signal.SIGKILL)
        for process in it._own.values():
            process.wait(10)
        it.close()


def until(actuator: Processes, **wanted: int) -> Replicas:
    end = time.monotonic() + 20
    while True:
        found = actuator.read()
        if all(getattr(found, name) == value for name, value in wanted.items()):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.02)


def test_workers_start_serve_and_leave(make: Callable[..., Processes]) -> None:
    actuator = make()
    assert actuator.read() == Replicas(0)
    assert actuator.scale(2).current == 2
    found = until(actuator, ready=2, starting=0)
    pids = [it.pid for it in actuator._workers]
    assert [os.getsid(pid) for pid in pids] == pids
    # Said again it changes nothing.
    assert actuator.scale(2).ids == found.ids
    assert [it.pid for it in actuator._workers] == pids
    # The newest leaves.
    assert actuator.scale(1).ids == found.ids[:1]
    until(actuator, ready=1, leaving=0)
    assert [start_of(pid) is not None for pid in pids] == [True, False]


def test_a_worker_with_work_takes_its_time_and_counts_as_leaving(make: Callable[..., Processes]) -> None:
    actuator = make(work_s=1.0)
    actuator.scale(1)
    until(actuator, ready=1)
    began = time.monotonic()
    assert actuator.scale(0) == Replicas(0, 0, 1)
    # Demand is back before it has left: another one starts beside it.
    assert actuator.scale(1).starting == 1
    until(actuator, ready=1, leaving=0)
    assert time.monotonic() - began >= 1.0


def test_one_that_does_not_end_in_time_is_told_twice_more_and_then_killed(
    make: Callable[..., Processes],
) -> None:
    clock = Clock()
    actuator = make(work_s=1000.0, kind="stubborn", now=clock)
    actuator.scale(1)
    until(actuator, ready=1)
    [worker] = actuator._workers
    assert actuator.scale(0).leaving == 1
    assert worker.told == signal.SIGUSR1
    clock.ahead = 61.0
    assert actuator.read().leaving == 1
    assert worker.told == signal.SIGTERM
    clock.ahead = 61.0 + LAST_GRACE_S
    until(actuator, leaving=0)
    assert worker.told == signal.SIGKILL


def test_looks_that_are_minutes_apart_leave_out_no_signal(make: Callable[..., Processes]) -> None:
    clock = Clock()
    actuator = make(work_s=1000.0, kind="stubborn", now=clock)
    actuator.scale(1)
    until(actuator, ready=1)
    [worker] = actuator._workers
    actuator.scale(0)
    told = []
    for _ in range(3):
        clock.ahead += 120.0
        actuator.read()
        told.append(worker.told)
    assert told == [signal.SIGTERM, signal.SIGKILL, signal.SIGKILL]


def test_a_wall_clock_that_is_set_ends_nobody(
    make: Callable[..., Processes], monkeypatch: pytest.MonkeyPatch
) -> None:
    actuator = make(work_s=1000.0)
    actuator.scale(1)
    until(actuator, ready=1)
    [worker] = actuator._workers
    actuator.scale(0)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 90_000.0)
    assert actuator.read().leaving == 1
    assert worker.told == signal.SIGUSR1


def test_another_scaler_over_the_same_folder_adopts_the_workers(make: Callable[..., Processes]) -> None:
    first = make()
    first.scale(2)
    found = until(first, ready=2)
    with pytest.raises(ActuatorError, match="another process scales 'w' here"):
        make()
    first.close()
    second = make()
    assert second.read() == found
    assert second.scale(2).ids == found.ids
    second.scale(1)
    # Their starter takes note of their end; here that is still the first.
    until(second, ready=1, leaving=0)


def test_a_scaler_that_is_killed_loses_no_worker(tmp_path: Path, make: Callable[..., Processes]) -> None:
    program = (
        "import pathlib, sys, os, signal, time\n"
        "from hansa.sidecar.actuators.processes import Processes\n"
        f"command = [sys.executable, '-c', {WORKER!r}, '0', '{{ready}}', 'kind']\n"
        f"it = Processes('w', command, pathlib.Path({str(tmp_path)!r}), drain=signal.SIGUSR1)\n"
        "it.scale(2)\n"
        "while it.read().ready < 2: time.sleep(0.02)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    actuator = make()
    assert actuator.read().ready == 2
    actuator.scale(0)
    until(actuator, ready=0, leaving=0)


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("dies", [1, 2, 3, 4, 5])
def test_killed_at_any_note_that_it_makes_it_neither_loses_a_worker_nor_starts_one_twice(
    tmp_path: Path, make: Callable[..., Processes], dies: int, written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are started with two notes each, then one leaves with one more: the n-th note is the last thing done."""
    count = 0

    def dying(path: Path, document: object) -> None:
        nonlocal count
        count += 1
        if count == dies and not written:
            raise KeyboardInterrupt
        save_json(path, document)
        if count == dies:
            raise KeyboardInterrupt

    first = make(work_s=1000.0)
    with monkeypatch.context() as patched:
        patched.setattr("hansa.sidecar.actuators.processes.save_json", dying)
        for to in (2, 1):
            if count < dies:
                with contextlib.suppress(KeyboardInterrupt):
                    first.scale(to)
        assert count == dies
    first.close()
    mine = set(first._own)
    second = make(work_s=1000.0)
    assert {it.pid for it in second._workers} == mine
    second.scale(2)
    until(second, ready=2)
    running = {pid for name, pid in marked() if name.startswith("w-") and _ours(pid, tmp_path)}
    assert running == {it.pid for it in second._workers}
    assert len(running) == 2 + second.read().leaving


def _ours(pid: int, folder: Path) -> bool:
    return any(str(folder) in word for word in psutil.Process(pid).cmdline())


def test_a_worker_whose_starter_died_before_it_could_note_its_number_is_found_by_its_mark(
    tmp_path: Path, make: Callable[..., Processes]
) -> None:
    record = tmp_path / "w.workers.json"
    record.write_text(
        json.dumps([Worker(f"w-{name}", slot, 0.0).as_json() for slot, name in enumerate("ab")])
    )
    argv = [sys.executable, "-c", WORKER, "0", str(tmp_path / "w-a.ready"), "kind"]
    started = subprocess.Popen(argv, env={**os.environ, MARK: "w-a"}, start_new_session=True)
    try:
        actuator = make()
        # The other was never started, and is forgotten.
        assert until(actuator, ready=1).ids == ("w-a",)
        assert actuator._workers[0].pid == started.pid
    finally:
        started.kill()
        started.wait()


def test_a_worker_that_is_only_being_executed_when_its_starter_dies_is_waited_for(
    tmp_path: Path, make: Callable[..., Processes], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = [sys.executable, "-c", WORKER, "0", str(tmp_path / "w-a.ready"), "kind"]
    started = subprocess.Popen(argv, env={**os.environ, MARK: "w-a"}, start_new_session=True)
    looks = iter([[], [], [("w-a", started.pid)]])
    monkeypatch.setattr("hansa.sidecar.actuators.processes.marked", lambda: next(looks))
    try:
        (tmp_path / "w.workers.json").write_text(json.dumps([Worker("w-a", 0, 0.0).as_json()]))
        assert [it.pid for it in make()._workers] == [started.pid]
    finally:
        started.kill()
        started.wait()


def test_a_process_that_has_a_workers_number_and_is_another_is_never_signalled(
    tmp_path: Path, make: Callable[..., Processes]
) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        worker = Worker("w-x", 0, 0.0)
        worker.started_as(stranger.pid)
        for changed in ({"ticks": worker.ticks - 1}, {"boot": "another"}):
            document = worker.as_json() | changed | {"leaving": 1.0}
            (tmp_path / "w.workers.json").write_text(json.dumps([document]))
            actuator = make()
            assert actuator.read() == Replicas(0)
            Worker(**document).signal(signal.SIGKILL)
            actuator.close()
        time.sleep(0.1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_worker_that_ends_by_itself_is_started_anew(
    make: Callable[..., Processes], caplog: pytest.LogCaptureFixture
) -> None:
    actuator = make()
    actuator.scale(1)
    until(actuator, ready=1)
    os.kill(actuator._workers[0].pid, signal.SIGKILL)
    until(actuator, ready=0)
    assert "ended by itself" in caplog.text
    actuator.scale(1)
    until(actuator, ready=1)


def test_whoever_only_looks_changes_nothing(tmp_path: Path, make: Callable[..., Processes]) -> None:
    actuator = make(work_s=1000.0)
    actuator.scale(2)
    until(actuator, ready=2)
    actuator.scale(1)
    before = (tmp_path / "w.workers.json").read_bytes()
    looker = make(observe=True)
    assert looker.read() == actuator.read()
    with pytest.raises(ActuatorError, match="only looked at"):
        looker.scale(5)
    assert (tmp_path / "w.workers.json").read_bytes() == before


def test_replicas_of_others_count_and_are_not_touched(make: Callable[..., Processes]) -> None:
    actuator = make(fixed=1)
    assert actuator.read() == Replicas(1, ids=("fixed-1",))
    assert actuator.scale(0) == Replicas(1, ids=("fixed-1",))
    assert actuator.scale(2).starting == 1
    until(actuator, ready=2)
    assert len(actuator._workers) == 1


def test_ports_are_given_out_anew_once_they_are_free(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "import sys, time; print(sys.argv[1], flush=True); time.sleep(60)",
        "{port}",
    ]
    actuator = Processes("p", command, tmp_path, port=9500)
    try:
        actuator.scale(3)
        actuator.scale(2)
        until(actuator, leaving=0, ready=2)
        actuator.scale(3)
        assert sorted(it.slot for it in actuator._workers) == [0, 1, 2]
        said = [psutil.Process(it.pid).cmdline()[-1] for it in actuator._workers]
        assert said == ["9500", "9501", "9502"]
    finally:
        actuator.scale(0)
        until(actuator, leaving=0)
        actuator.close()


def test_load_is_what_workers_use_of_what_they_may(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "while True: pass"]
    actuator = Processes("burner", command, tmp_path, cpus=2.0, memory=1024**3)
    try:
        actuator.scale(1)
        assert actuator.load().cpu is None
        time.sleep(0.5)
        found = actuator.load()
        # One busy loop of two processors; another program may run on it, too.
        assert found.cpu is not None
        assert 0.05 < found.cpu < 0.6
        assert found.memory is not None
        assert 0.001 < found.memory < 0.1
    finally:
        actuator.scale(0)
        until(actuator, leaving=0)
        actuator.close()


def test_a_command_that_is_none_is_said_and_counts_no_replica(tmp_path: Path) -> None:
    actuator = Processes("none", ["/nowhere/worker"], tmp_path)
    with pytest.raises(ActuatorError, match="/nowhere/worker: cannot be started"):
        actuator.scale(1)
    assert actuator.read() == Replicas(0)
    actuator.close()


def test_a_record_that_cannot_be_read_starts_nothing(tmp_path: Path, make: Callable[..., Processes]) -> None:
    (tmp_path / "w.workers.json").write_text("{")
    with pytest.raises(ActuatorError, match="end its workers and remove it"):
        make()
