"""The one place that starts processes: a supervisor that restarts what dies and leaves nothing behind."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import uuid4

from hansa.cli.children import adopt_orphans, last_line, signal_group, spawn, sweep
from hansa.contract.errors import HansaError, InputError

State = Literal["waiting", "starting", "ready", "restarting", "given-up", "stopped"]

# Exit code of a process whose input is wrong: starting it again would not help.
INPUT_IS_WRONG = 2
_BACK_OFF_S = (0.5, 15.0)
# A process that ran this long starts again with the shortest pause.
_STEADY_S = 30.0
_TICK_S = 0.05
_SIGTERM, _SIGKILL = 15, 9


@dataclass(frozen=True)
class ProcessSpec:
    """What to start and how to know that it runs.

    Parameters
    ----------
    ready : a file that the process writes when it serves; None: it is ready once started
    after : names of processes that must be ready before this one is started
    restart : start it again when it ends by itself
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    ready: Path | None = None
    after: tuple[str, ...] = ()
    restart: bool = True


@dataclass(frozen=True)
class ProcessFacts:
    """How one process stands."""

    name: str
    state: State
    pid: int | None
    restarts: int
    # Its last words, where it ended by itself.
    sentence: str = ""


@dataclass
class _Child:
    spec: ProcessSpec
    log: Path | None
    state: State = "waiting"
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    started: float = 0.0
    pause: float = _BACK_OFF_S[0]
    log_start: int = 0
    code: int = 0
    sentence: str = ""

    @property
    def last_line(self) -> str:
        """What the running or last process said last; nothing where its output is not ours to read."""
        return last_line(self.log, self.log_start) if self.log else ""

    @property
    def said(self) -> str:
        """Its last words; where it spoke on our own terminal they stand there, and we have not heard them."""
        if self.log is None:
            return self.sentence or "see above"
        return self.sentence or self.last_line or "it said nothing"

    @property
    def see(self) -> str:
        """Where there is more, for the end of a sentence."""
        return f"; see {self.log}" if self.log else ""

    @property
    def facts(self) -> ProcessFacts:
        alive = self.process is not None and self.process.poll() is None
        pid = self.process.pid if self.process is not None and alive else None
        return ProcessFacts(self.spec.name, self.state, pid, self.restarts, self.sentence)


@dataclass
class Supervisor:
    """Starts processes, keeps them running, stops those first that came after others.

    Use as a context manager. All processes are started by one thread of its own, which lives until
    the last has ended: the kernel ties a child to the thread that started it.

    Parameters
    ----------
    logs : folder for one log a process; None: their output goes where ours goes
    report : called with a sentence when something ends or starts again, from that thread
    changed : called when any process changed its state, from that thread
    """

    logs: Path | None
    report: Callable[[str], None] = lambda sentence: None
    changed: Callable[[], None] = lambda: None
    grace_s: float = 5.0
    mark: str = field(default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        self._children: dict[str, _Child] = {}
        self._lock = threading.Condition()
        self._stopping = False
        self._hurry = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Supervisor:
        adopt_orphans()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, specs: Sequence[ProcessSpec]) -> None:
        """Start processes, each as soon as those it comes after are ready. Returns at once."""
        with self._lock:
            for spec in specs:
                if spec.name in self._children:
                    raise InputError(f"process '{spec.name}' was started already")
                self._children[spec.name] = _Child(
                    spec, self.logs / f"{spec.name}.log" if self.logs else None
                )
            self._lock.notify_all()

    def wait_ready(self, deadline_s: float, interrupted: Callable[[], bool] = lambda: False) -> bool:
        """Wait until every process is ready; False when `interrupted` or `stop` said so first.

        Raises
        ------
        InputError : a process ended because its input is wrong; its own sentence
        HansaError : a process ended or was not ready in time; its last log line
        """
        give_up = time.monotonic() + deadline_s
        while not interrupted() and not self._stopping:
            with self._lock:
                self.check()
                children = list(self._children.values())
                for child in children:
                    if child.state in ("given-up", "restarting"):
                        raise _failure(child)
                late = [child for child in children if child.state != "ready"]
                if not late:
                    return True
                if time.monotonic() > give_up:
                    child = late[0]
                    raise HansaError(
                        f"{child.spec.name}: not ready after {deadline_s:g} s: {child.said}{child.see}"
                    )
                self._lock.wait(_TICK_S)
        return False

    @property
    def processes(self) -> list[ProcessFacts]:
        """How each process stands, in the order in which they were given."""
        with self._lock:
            return [child.facts for child in self._children.values()]

    def check(self) -> None:
        """Raise what ended the supervision itself, if anything did: a full disk, say."""
        if self._failure is not None:
            raise HansaError(f"the supervisor failed: {self._failure}") from self._failure

    def stop(self) -> None:
        """End everything, last started first; returns when nothing is left. May be called twice."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def hurry(self) -> None:
        """End everything now, without grace. Safe in a signal handler."""
        self._hurry = True
        self._stopping = True

    def _run(self) -> None:
        try:
            while not self._stopping:
                before = self.processes
                with self._lock:
                    for child in self._children.values():
                        self._look_after(child)
                    steady = all(child.state in ("ready", "given-up") for child in self._children.values())
                    self._lock.notify_all()
                if self.processes != before:
                    self.changed()
                with self._lock:
                    if not self._stopping:
                        self._lock.wait(4 * _TICK_S if steady else _TICK_S)
        except BaseException as error:
            self._failure = error
        finally:
            self._end_all()
        try:
            self.changed()
        except BaseException as error:
            self._failure = self._failure or error

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.state == "waiting":
            if all(
                self._children[name].state == "ready" for name in child.spec.after if name in self._children
            ):
                self._spawn(child)
        elif child.state == "restarting":
            if now - child.started >= child.pause:
                child.restarts += 1
                child.pause = min(2 * child.pause, _BACK_OFF_S[1])
                self._spawn(child)
        elif child.state in ("starting", "ready"):
            assert child.process is not None
            code = child.process.poll()
            if code is not None:
                self._ended(child, code)
            elif child.state == "starting" and (child.spec.ready is None or child.spec.ready.exists()):
                child.state = "ready"

    def _spawn(self, child: _Child) -> None:
        if child.spec.ready is not None:
            child.spec.ready.unlink(missing_ok=True)
        child.log_start = child.log.stat().st_size if child.log and child.log.exists() else 0
        child.started = time.monotonic()
        try:
            child.process = spawn(child.spec.argv, env=child.spec.env, log=child.log, mark=self.mark)
        except InputError as error:
            child.state, child.code, child.sentence = "given-up", INPUT_IS_WRONG, str(error)
            return
        child.state = "starting"

    def _ended(self, child: _Child, code: int) -> None:
        assert child.process is not None
        # What it had started goes with it, before its successor comes.
        signal_group(child.process, _SIGKILL)
        ran_s = time.monotonic() - child.started
        child.started = time.monotonic()
        child.code = code
        child.sentence = child.last_line
        name, how = (
            child.spec.name,
            f"was killed by signal {-code}" if code < 0 else f"ended with code {code}",
        )
        if code == INPUT_IS_WRONG or not child.spec.restart:
            child.state = "given-up"
            self.report(f"{name} {how}: {child.said}")
            return
        if ran_s > _STEADY_S:
            child.pause = _BACK_OFF_S[0]
        child.state = "restarting"
        self.report(f"{name} {how}; starting it again in {child.pause:g} s")

    def _end_all(self) -> None:
        """Stop what came after others first, wait as long as the grace allows, then sweep."""
        for depth in sorted({self._depth(child) for child in self._children.values()}, reverse=True):
            self._end([child for child in self._children.values() if self._depth(child) == depth])
        sweep(self.mark, grace_s=0.0 if self._hurry else 1.0)
        for child in self._children.values():
            child.state = "stopped"

    def _depth(self, child: _Child) -> int:
        before = (self._children[name] for name in child.spec.after if name in self._children)
        return 1 + max((self._depth(it) for it in before), default=0)

    def _end(self, children: Sequence[_Child]) -> None:
        running = [child.process for child in children if child.process is not None]
        if not self._hurry:
            for process in running:
                signal_group(process, _SIGTERM)
        deadline = time.monotonic() + self.grace_s
        while any(it.poll() is None for it in running) and time.monotonic() < deadline and not self._hurry:
            time.sleep(0.01)
        for process in running:
            signal_group(process, _SIGKILL)
            process.wait()


def _failure(child: _Child) -> HansaError:
    if child.code == INPUT_IS_WRONG:
        return InputError(f"{child.spec.name}: {child.said}")
    return HansaError(f"{child.spec.name}: ended with code {child.code}: {child.said}{child.see}")
