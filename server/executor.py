"""Runs ServerApps: takes tasks from the SuperLink and gives each a process of its own.

What `flower-superexec` does for ServerApps, with three differences: Flower is imported once and each
task's process is forked from it, so a run starts in a tenth of a second; the token that names the task
is not on a command line; and no process outlives this one, however it ends.

SIGTERM ends the ServerApps with it: their jobs go on from a checkpoint, in other runs. SIGUSR1 drains it: it takes no
more tasks, and ends once its ServerApps have.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Queue
from types import FrameType
from typing import NoReturn

import httpx

from hansa.contract.errors import HansaError, InputError
from hansa.contract.exposing import expose
from hansa.contract.exposition import Meter
from hansa.contract.logs import add_log_options, log_prints, say_failure, start_logging
from hansa.contract.process_figures import process_meter

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.logger import mirror_output_to_queue
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.runtime import run_serverapp

from hansa.server.executor_figures import CAPACITY, ENDED, REACHED, RUNNING, TASKS, serverapp_memory

log = logging.getLogger("hansa.executor")

_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
# Between questions to a SuperLink that does not hold them; a lane answers when there is work.
_IDLE_S = 0.25
_RETRY_S = 1.0
_GRACE_S = 5.0
_PR_SET_PDEATHSIG = 1


class Executor:
    """Takes tasks one after another; at most `capacity` run at once.

    Parameters
    ----------
    address : HOST:PORT of the inner listener
    secret : what the SuperLink was given as SuperExec secret
    ca : PEM of the CA when the inner listener speaks TLS; plain HTTP without
    ready : a file that is there while it takes tasks
    give_up_s : end after so long without a SuperLink; None: never, whoever started it sees to that
    meter : counts in it
    """

    def __init__(
        self,
        address: str,
        *,
        secret: bytes | None,
        ca: bytes | None = None,
        capacity: int = 4,
        ready: Path | None = None,
        give_up_s: float | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._meter = Meter() if meter is None else meter
        self._meter.declare(TASKS, ENDED, RUNNING, REACHED)
        self._meter.set(CAPACITY, to=capacity)
        self._address = address
        self._ca = ca
        self._capacity = capacity
        self._ready, self._give_up_s = ready, give_up_s
        self._draining = False
        self._children: set[int] = set()
        self._meter.sources.append(serverapp_memory(lambda: tuple(self._children)))
        interceptors: list[object] = [RuntimeVersionHttpInterceptor(component_name="SuperExec")]
        if secret:
            interceptors.append(
                SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=[_ACQUIRE])
            )
        self._client = RuntimeHttpClient.from_server_address(
            address,
            ca is None,
            ca,
            interceptors=interceptors,  # type: ignore[arg-type]
        )

    def run(self) -> NoReturn:
        """Serve until SIGTERM or SIGINT, then end the tasks' processes and exit; until drained after SIGUSR1."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _leave)
        signal.signal(signal.SIGUSR1, self._drain)
        reachable, reached = True, time.monotonic()
        try:
            while True:
                self._reap()
                if self._draining and not self._children:
                    log.info("drained")
                    raise SystemExit(0)
                if self._draining or len(self._children) >= self._capacity:
                    # Nothing is asked meanwhile, so that nothing is known of the SuperLink.
                    reached = time.monotonic()
                    time.sleep(_IDLE_S)
                    continue
                asked = time.monotonic()
                try:
                    answer = self._client.AcquireTask(
                        AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
                    )
                except httpx.HTTPStatusError as error:
                    if error.response.status_code == 401:
                        raise InputError(f"{self._address}: does not accept this executor's secret") from None
                    problem: Exception | None = error
                except httpx.HTTPError as error:
                    problem = error
                else:
                    problem = None
                if problem is not None:
                    if reachable:
                        log.warning("%s: %s; trying again until it works", self._address, problem)
                    reachable = False
                    self._meter.set(REACHED, to=0)
                    if self._give_up_s is not None and time.monotonic() - reached > self._give_up_s:
                        raise HansaError(f"{self._address}: no SuperLink for {self._give_up_s:g} s")
                    time.sleep(_RETRY_S)
                    continue
                reachable, reached = True, time.monotonic()
                self._meter.set(REACHED, to=1)
                if self._ready is not None and not self._draining:
                    self._ready.touch()
                # A task that is given out while the signal comes is this executor's: nobody else gets it.
                if answer.token:
                    log.info("task %d of run %d", answer.task.task_id, answer.task.run_id)
                    self._children.add(self._fork(answer.token))
                    self._meter.add(TASKS)
                    self._meter.set(RUNNING, to=len(self._children))
                elif time.monotonic() - asked < _IDLE_S:
                    time.sleep(_IDLE_S)
        finally:
            self._not_ready()
            self._end_children()

    def _drain(self, _number: int, _frame: FrameType | None) -> None:
        self._draining = True
        self._not_ready()

    def _not_ready(self) -> None:
        if self._ready is not None:
            self._ready.unlink(missing_ok=True)

    def _fork(self, token: str) -> int:
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            self._become_server_app(parent, token)
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:
            log.exception("the ServerApp's process failed")
        finally:
            # Never back into the executor's loop, nor through its exit handlers.
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        raise AssertionError

    def _become_server_app(self, parent: int, token: str) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        # Whoever drains a group of processes means the executor.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        _die_with(parent)
        log_prints("flwr")
        lines: Queue[str | None] = Queue()
        mirror_output_to_queue(lines)
        run_serverapp(
            runtime_api_address=self._address,
            log_queue=lines,
            token=token,
            insecure=self._ca is None,
            certificates=self._ca,
            runtime_dependency_install=False,
        )

    def _reap(self) -> None:
        for child in list(self._children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                self._children.discard(child)
                self._meter.add(ENDED, "done" if status == 0 else "failed")
                self._meter.set(RUNNING, to=len(self._children))

    def _end_children(self) -> None:
        for number, patience in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
            for child in self._children:
                os.kill(child, number)
            give_up = time.monotonic() + patience
            while self._children and time.monotonic() < give_up:
                self._reap()
                time.sleep(0.02)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _die_with(parent: int) -> None:
    """Have the kernel end this process when the executor is gone, killed even; then make sure of it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        time.sleep(_GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run an executor until SIGTERM or SIGINT; 2 when the secret or a file is wrong."""
    options = _parse(argv)
    start_logging("executor", options.log_level, options.log_format)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    meter = process_meter("executor")
    try:
        secret = _read(options.secret)
        ca = _read(options.ca)
        for name in options.preload:
            importlib.import_module(name)
        executor = Executor(
            options.address,
            secret=secret,
            ca=ca,
            capacity=options.capacity,
            ready=options.ready_file,
            give_up_s=options.give_up,
            meter=meter,
        )
        exposure = expose(meter, options.metrics)
        try:
            executor.run()
        finally:
            if exposure is not None:
                exposure.close()
    except HansaError as error:
        say_failure("executor", error, error.exit_code)
        return error.exit_code
    except ImportError as error:
        say_failure("executor", ImportError(f"--preload: {error}"), 2)
        return 2


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hansa executor", description=__doc__)
    add = parser.add_argument
    add("--address", required=True, metavar="HOST:PORT", help="the SuperLink's inner listener")
    add("--secret", type=Path, help="file with the SuperExec secret")
    add("--ca", type=Path, help="PEM of the CA when the inner listener speaks TLS")
    add("--capacity", type=int, default=4, help="ServerApps at once")
    add("--ready-file", type=Path, help="is there while tasks are taken")
    add("--give-up", type=float, metavar="S", help="end after so long without a SuperLink")
    add("--preload", action="append", default=[], metavar="MODULE", help="imported before the first task")
    add("--metrics", metavar="WHERE", help="figures: HOST:PORT, or a file that ends in .prom; default: none")
    add_log_options(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
