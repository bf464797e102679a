"""By its system calls: a charge is on the disk, and so is the record of the upload, before a reply's first byte."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from charged_process import AGENT, ChargedProcess, read

from hansa.clients.ledger import LEDGER
from hansa.clients.uploads import AGENT_RECORDS
from hansa.contract.messages import UploadReply

STRACE = shutil.which("strace")


def traces() -> bool:
    """Whether processes may be traced here."""
    return (
        STRACE is not None
        and subprocess.run([STRACE, "-o", "/dev/null", "true"], check=False).returncode == 0
    )


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not traces(), reason="needs strace, and leave to trace"),
]

ATTEMPTS = 6
CALLS = "trace=pwrite64,pwritev,write,writev,ftruncate,fsync,fdatasync,sendto,sendmsg,unlink,rename"
# 4711 pwrite64(12</folder/ledger.sqlite-wal>, ... = 4120, or an unfinished one and its end further down.
LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\((\d+<[^>]*>)?)(.*)$")

# The agent with a ledger that does not wait for its disk.
CARELESS = """
import sys
from hansa.clients import ledger
made = ledger.Ledger.__init__
def careless(self, *arguments, **options):
    made(self, *arguments, **options)
    self._db.execute("PRAGMA synchronous=OFF")
ledger.Ledger.__init__ = careless
from hansa.clients.agent import main
sys.exit(main())
"""


@dataclass
class Trace:
    """Which files have writes that no sync has followed, call by call, and how they stood at each reply."""

    dirty: set[str] = field(default_factory=set)
    syncs: dict[str, int] = field(default_factory=dict)
    # Files with unsynced writes when the first byte of an answer left, by socket.
    replies: list[frozenset[str]] = field(default_factory=list)
    _open: dict[str, tuple[str, str]] = field(default_factory=dict)
    _answered: set[str] = field(default_factory=set)

    def take(self, line: str) -> None:
        found = LINE.match(line)
        if found is None:
            return
        thread, resumed, call, target, rest = found.groups()
        if resumed:
            call, file = self._open.pop(thread, (resumed, ""))
            self._ended(call, file, rest)
            return
        file = "" if target is None else target.split("<", 1)[1].rstrip(">")
        self._began(call, file)
        if "<unfinished" in rest:
            self._open[thread] = (call, file)
        else:
            self._ended(call, file, rest)

    def _began(self, call: str, file: str) -> None:
        """A write counts from its beginning on, a sync from its end on."""
        if call.startswith(("pwrite", "write", "ftruncate")) and file.startswith("/"):
            self.dirty.add(file)
        if call.startswith("send") and file not in self._answered:
            self._answered.add(file)
            self.replies.append(frozenset(self.dirty))

    def _ended(self, call: str, file: str, rest: str) -> None:
        if call in ("fsync", "fdatasync") and rest.rstrip().endswith("= 0"):
            self.dirty.discard(file)
            self.syncs[file] = self.syncs.get(file, 0) + 1


def traced(
    tmp_path: Path, command: tuple[str, ...], attempts: int = ATTEMPTS
) -> tuple[ChargedProcess, Trace]:
    """An agent under strace that is asked for so many attempts, one connection after the other."""
    side, log = ChargedProcess(tmp_path), tmp_path / "trace"
    assert STRACE is not None
    with side.running(
        (STRACE, "-D", "-f", "-y", "-s", "0", "-e", CALLS, "-o", str(log), *command)
    ) as process:
        side.propose()
        for number in range(1, attempts + 1):
            if number % 3 == 0:
                side.command("approve", job=side.plan.job, by="head of data")
            assert isinstance(read(side.send(side.order(number, evaluate=number % 2 == 0))), UploadReply)
        process.kill()
        process.wait(30)
        # The tracer is a process of its own: it writes down the end of what it traced.
        deadline = time.monotonic() + 30
        while not re.search(rf"^{process.pid} +\+\+\+ ", log.read_text(errors="replace"), re.MULTILINE):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    trace = Trace()
    for line in log.read_text(errors="replace").splitlines():
        trace.take(line)
    return side, trace


def unsynced(side: ChargedProcess, reply: frozenset[str], name: str) -> bool:
    """Whether writes to a database or its journals were still in the cache when a reply began."""
    return any(file.startswith(str(side.folder / name)) and not file.endswith("-shm") for file in reply)


def test_a_sync_returned_before_the_first_byte_of_every_reply(tmp_path: Path) -> None:
    side, trace = traced(tmp_path, AGENT)
    assert len(trace.replies) >= ATTEMPTS
    for reply in trace.replies:
        assert not unsynced(side, reply, LEDGER)
        assert not unsynced(side, reply, AGENT_RECORDS)
    # One for each attempt's charges at least, and the folder's own so that the file is found after a power cut.
    assert trace.syncs[str(side.folder / LEDGER) + "-wal"] >= ATTEMPTS
    assert trace.syncs[str(side.folder)] >= 1
    assert len(side.charges()) == ATTEMPTS + ATTEMPTS // 2


def test_the_trace_shows_a_ledger_that_does_not_wait_for_its_disk(tmp_path: Path) -> None:
    side, trace = traced(tmp_path, (sys.executable, "-c", CARELESS), 3)
    assert any(unsynced(side, reply, LEDGER) for reply in trace.replies)
