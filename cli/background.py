"""The supervisor of `hansa up --detach`: `python -m hansa.cli.background INSTANCE`."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.cli.children import last_line, start_detached
from hansa.cli.federation import START_S, federation_specs, record_path, supervised
from hansa.cli.instance import Instance, find_instance
from hansa.cli.interrupts import Interruption
from hansa.cli.run_record import RunRecord, read_record
from hansa.cli.stopping import stop_record
from hansa.contract.errors import HansaError, InputError
from hansa.contract.logs import form_of_environment, say_failure, start_logging

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("hansa.supervisor")

_LOOK_EVERY_S = 0.05
# A supervisor gives each wave of its processes 5 s.
_END_S = 30.0


def start_in_background(instance: Instance, interruption: Interruption) -> bool:
    """Start an instance's processes under a supervisor of their own; True once all are ready.

    Raises
    ------
    HansaError : a process did not start; its sentence. Nothing is left running.
    """
    path, log = record_path(instance.folder, "up"), instance.logs / "supervisor.log"
    path.unlink(missing_ok=True)
    argv = (sys.executable, "-P", "-u", "-m", "hansa.cli.background", str(instance.folder.resolve()))
    process = start_detached(argv, log=log)
    try:
        ready = _wait_ready(path, lambda: process.poll() is not None, interruption)
    except BaseException:
        _end(process, path)
        raise
    if ready is None:
        raise HansaError(f"the supervisor ended: {last_line(log)}; see {log}")
    if not ready:
        _end(process, path)
    return ready


def _end(process: subprocess.Popen[bytes], path: Path) -> None:
    """End a supervisor that may not have written its record yet, and all that it started."""
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # What a supervisor leaves that was killed.
    stop_record(path)


def _wait_ready(path: Path, ended: Callable[[], bool], interruption: Interruption) -> bool | None:
    """True once all is ready, False when interrupted, None when the supervisor ended without a word."""
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        over = ended()
        record = read_record(path)
        if record is not None and record.failure:
            raise _failure(record)
        if record is not None and record.processes and all(it.state == "ready" for it in record.processes):
            return True
        if over:
            return None
        if interruption.wait(_LOOK_EVERY_S):
            return False
    raise HansaError(
        f"not everything was ready after {START_S:g} s; see the logs in {path.parent.parent / 'logs'}"
    )


def _failure(record: RunRecord) -> HansaError:
    return InputError(record.failure) if record.code == InputError.exit_code else HansaError(record.failure)


def main(argv: list[str] | None = None) -> int:
    """Supervise until SIGTERM."""
    start_logging("supervisor")
    (folder,) = argv if argv is not None else sys.argv[1:]
    instance = find_instance(Path(folder))
    with Interruption() as interruption:
        try:
            with supervised(
                record_path(instance.folder, "up"),
                folder,
                federation_specs(instance),
                logs=instance.logs,
                report=_report,
            ) as supervisor:
                interruption.at_once = supervisor.hurry
                if supervisor.wait_ready(START_S, lambda: interruption.requested):
                    interruption.wait()
        except HansaError as error:
            say_failure("up", error, error.exit_code)
            return error.exit_code
    return 0


def _report(sentence: str) -> None:
    if form_of_environment() == "json":
        log.warning("%s", sentence)
        return
    print(f"{datetime.now().isoformat(timespec='seconds')} {sentence}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
