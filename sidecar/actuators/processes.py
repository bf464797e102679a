"""Replicas as processes of this machine: each in a session of its own, known again after a restart of its starter.

What is started is noted on disk before and after, so that another sidecar over the same folder adopts the workers
instead of starting more. Nothing is ever signalled that was not started here.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO
from uuid import uuid4

import psutil

from hansa.sidecar.saved import save_json

from .replicas import ActuatorError, Load, Replicas
from .workers import MARK, Worker, marked, since_boot, start_of

log = logging.getLogger("hansa.scaler")

# From SIGTERM until SIGKILL, for a worker that has not ended within its time.
LAST_GRACE_S = 10.0
# A process that is only being executed has no environment yet, and by that it is known.
_EXECUTED_S = 0.5


class Processes:
    """Worker processes of one service.

    Parameters
    ----------
    name : of the service; files in the folder begin with it
    command : argv; `{ready}` stands for a file that the worker writes when it serves, `{port}` for `port` plus its
        slot, `{name}` for its own name. Without `{ready}` a worker serves once it is started
    folder : for the record, ready files and logs
    drain : the signal after which a worker takes no new work and ends once its work is done
    drain_s : so long it may take; then SIGTERM, and SIGKILL at last
    fixed : replicas that somebody else keeps running; they count, and are never touched
    cpus, memory : what one worker may use, in processors and bytes; for `load`
    observe : only look, beside another process that scales; `scale` raises

    Raises
    ------
    ActuatorError : the folder cannot be used, or another process holds it
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        drain: int = signal.SIGTERM,
        drain_s: float = 30.0,
        fixed: int = 0,
        port: int = 0,
        cpus: float = 1.0,
        memory: int | None = None,
        observe: bool = False,
        now: Callable[[], float] = since_boot,
    ) -> None:
        self._name, self._command, self._folder = name, tuple(command), folder
        self._env = dict(env or {})
        self._drain, self._drain_s = drain, drain_s
        self._fixed, self._port = fixed, port
        self._cpus, self._memory = cpus, memory
        self._now = now
        self._observe = observe
        self._record = folder / f"{name}.workers.json"
        # Of those that were started by this very process: somebody has to take note of their end.
        self._own: dict[int, subprocess.Popen[bytes]] = {}
        self._used: dict[int, tuple[float, float]] = {}
        self._lock: TextIO | None = None if observe else self._take(folder / f"{name}.lock")
        self._workers = self._load()
        if not observe:
            self._adopt()

    def close(self) -> None:
        """Let go of the folder; the workers go on."""
        if self._lock is not None:
            self._lock.close()

    def read(self) -> Replicas:
        """How the workers stand; ends those whose time to drain is over."""
        if self._observe:
            self._workers = [it for it in self._load() if it.alive]
        else:
            self._tend()
        serving = [it for it in self._workers if it.leaving is None]
        ready = [it for it in serving if self._serves(it)]
        return Replicas(
            ready=self._fixed + len(ready),
            starting=len(serving) - len(ready),
            leaving=len(self._workers) - len(serving),
            ids=tuple(f"fixed-{number + 1}" for number in range(self._fixed))
            + tuple(it.name for it in serving),
        )

    def scale(self, to: int) -> Replicas:
        """Start workers, or have the newest leave, those first that do not serve yet."""
        if self._observe:
            raise ActuatorError(f"'{self._name}' is only looked at here; nothing is started or stopped")
        self._tend()
        serving = [it for it in self._workers if it.leaving is None]
        wanted = max(0, to - self._fixed)
        for _ in range(wanted - len(serving)):
            self._start()
        surplus = len(serving) - wanted
        if surplus > 0:
            newest = serving[::-1]
            newest.sort(key=self._serves)
            for it in newest[:surplus]:
                it.leaving = self._now()
            # On disk before the first signal: what was told to leave is not counted as serving again.
            self._save()
            self._tend()
        return self.read()

    def load(self) -> Load:
        """Processor time since the last call, and memory now, of the workers and what they started."""
        shares, memory = [], []
        now, used = time.monotonic(), {}
        for it in self._workers:
            try:
                root = psutil.Process(it.pid)
                tree = [root, *root.children(recursive=True)]
                spent = sum(sum(member.cpu_times()[:2]) for member in tree)
                resident = sum(member.memory_info().rss for member in tree)
            except psutil.Error:
                continue
            used[it.pid] = (now, spent)
            memory.append(resident)
            before = self._used.get(it.pid)
            if before is not None and now > before[0]:
                shares.append(max(0.0, spent - before[1]) / (now - before[0]) / self._cpus)
        self._used = used
        mean = sum(memory) / len(memory) if memory else None
        return Load(
            cpu=sum(shares) / len(shares) if shares else None,
            memory=mean / self._memory if mean is not None and self._memory else None,
        )

    def _start(self) -> None:
        taken = {it.slot for it in self._workers}
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        worker = Worker(f"{self._name}-{uuid4().hex[:8]}", slot, self._now())
        self._ready(worker).unlink(missing_ok=True)
        self._workers.append(worker)
        # Before it is started: whoever comes after a crash looks for the mark.
        self._save()
        words = {"{ready}": str(self._ready(worker)), "{port}": str(self._port + slot), "{name}": worker.name}
        argv = list(self._command)
        for word, value in words.items():
            argv = [part.replace(word, value) for part in argv]
        try:
            with (self._folder / f"{self._name}-{slot}.log").open("ab") as log:
                process = subprocess.Popen(
                    argv,
                    env={**os.environ, **self._env, MARK: worker.name},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            self._workers.remove(worker)
            self._save()
            raise ActuatorError(
                f"{argv[0]}: cannot be started ({error.strerror}); correct 'command'"
            ) from None
        self._own[process.pid] = process
        worker.started_as(process.pid)
        self._save()

    def _tend(self) -> None:
        """Forget those that have ended; tell those that leave what is due."""
        for pid in [pid for pid, it in self._own.items() if it.poll() is not None]:
            del self._own[pid]
        gone = [it for it in self._workers if not it.alive]
        for it in gone:
            self._ready(it).unlink(missing_ok=True)
            if it.leaving is None:
                path = self._folder / f"{self._name}-{it.slot}.log"
                log.warning("%s ended by itself; what it said is in %s", it.name, path)
        told = [(it.told, it.last_call) for it in self._workers]
        self._workers = [it for it in self._workers if it not in gone]
        for it in self._workers:
            self._tell(it)
        if gone or told != [(it.told, it.last_call) for it in self._workers]:
            self._save()

    def _tell(self, it: Worker) -> None:
        if it.leaving is None:
            return
        now = self._now()
        if it.last_call is not None:
            # Looks may be minutes apart: what counts is how long ago it was told.
            if now - it.last_call >= LAST_GRACE_S:
                it.signal(signal.SIGKILL)
        elif now - it.leaving >= self._drain_s:
            it.last_call = now
            it.signal(signal.SIGTERM)
        else:
            # Again and again: one that was only starting may not have listened yet.
            it.signal(self._drain)

    def _serves(self, it: Worker) -> bool:
        return not any("{ready}" in part for part in self._command) or self._ready(it).exists()

    def _ready(self, it: Worker) -> Path:
        return self._folder / f"{it.name}.ready"

    def _take(self, path: Path) -> TextIO:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.open("w")
            # A worker that is only being executed still has what its starter held.
            until = time.monotonic() + _EXECUTED_S
            while not _locked(lock):
                if time.monotonic() >= until:
                    lock.close()
                    raise ActuatorError(
                        f"{path.parent}: another process scales '{self._name}' here; stop that one first"
                    )
                time.sleep(0.05)
        except OSError as error:
            raise ActuatorError(f"{path}: cannot be used: {error.strerror}") from None
        return lock

    def _load(self) -> list[Worker]:
        try:
            return [Worker(**it) for it in json.loads(self._record.read_text())]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            # To go on would be to start workers beside those that are there.
            raise ActuatorError(
                f"{self._record}: cannot be read ({error}); end its workers and remove it"
            ) from None

    def _adopt(self) -> None:
        """Find the process of a worker that was about to be started when its starter ended."""
        lost = {it.name: it for it in self._workers if it.pid == 0}
        until = time.monotonic() + _EXECUTED_S
        while lost:
            for name, pid in sorted(marked(), key=lambda it: start_of(it[1]) or math.inf):
                # The earliest: what it started carries its mark, too.
                if name in lost:
                    lost.pop(name).started_as(pid)
            if time.monotonic() >= until:
                break
            time.sleep(0.05)
        self._tend()

    def _save(self) -> None:
        save_json(self._record, [it.as_json() for it in self._workers])


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
