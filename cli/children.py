"""One child process: started so that it cannot outlive us, ended with everything it started.

Four nets, because each has a hole. The kernel kills a child when its parent is gone
(PR_SET_PDEATHSIG; not its grandchildren). Each child leads a session, so its group can be signalled
(not what left the group). Orphans come to us (PR_SET_CHILD_SUBREAPER; not once we are dead). And all
carry a mark in their environment, by which `sweep` finds whatever is left.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hansa.contract.errors import InputError

MARK = "HANSA_SUPERVISED_BY"

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def spawn(
    argv: Sequence[str], *, env: Mapping[str, str], log: Path | None, mark: str
) -> subprocess.Popen[bytes]:
    """Start a process whose output is appended to `log`, or goes where ours goes.

    The kernel's promise holds for the thread that calls this: when that thread ends, so does the child.
    """
    parent = os.getpid()

    def in_child() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died before the line above.
        if os.getppid() != parent:
            os._exit(1)

    with _appended(log) as output:
        try:
            return subprocess.Popen(
                argv,
                env={**env, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=in_child,
            )
        except OSError as error:
            raise InputError(f"{argv[0]}: cannot be started ({error.strerror})") from None


def start_detached(argv: Sequence[str], *, log: Path) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one: the supervisor of `hansa up --detach`."""
    with _appended(log) as output:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


@contextmanager
def _appended(log: Path | None) -> Iterator[IO[bytes] | None]:
    if log is None:
        yield None
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        yield file


def adopt_orphans() -> None:
    """Grandchildren whose parent died become ours instead of init's, so that `sweep` sees them."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Signal a child and all that stayed in its group; one that is gone is no error."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def sweep(mark: str, *, grace_s: float = 1.0) -> int:
    """End every process that carries the mark, whoever its parent is now; returns how many there were."""
    found = marked(mark)
    for number, patience in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 2.0)):
        remaining = marked(mark)
        for pid in remaining:
            _kill(pid, number)
        _wait_until(lambda: not marked(mark), patience if remaining else 0)
    return len(found)


def marked(mark: str) -> list[int]:
    """Living processes, without this one, whose environment carries the mark."""
    wanted = f"{MARK}={mark}".encode()
    own = os.getpid()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == own:
            continue
        try:
            variables = Path(entry.path, "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in variables and not _is_zombie(int(entry.name)):
            found.append(int(entry.name))
    return found


def last_line(log: Path, start: int = 0) -> str:
    """The sentence a process left behind: its last line that starts with `hansa `, else its last line at all."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - 8192))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    except OSError:
        return ""
    lines = [_in_words(line) for line in lines if line]
    said = [line for line in lines if line.startswith("hansa ") and ": " in line]
    if said:
        return said[-1].partition(": ")[2]
    return lines[-1] if lines else ""


def _in_words(line: str) -> str:
    """A line of JSON as the text that it would have been otherwise."""
    if not line.startswith("{"):
        return line
    try:
        said = json.loads(line)
    except ValueError:
        return line
    if not isinstance(said, dict) or "message" not in said:
        return line
    return (
        f"hansa {said.get('process', '')}: {said['message']}" if "exit_code" in said else str(said["message"])
    )


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return True


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _wait_until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not done():
        time.sleep(0.02)
