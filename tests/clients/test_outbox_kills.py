"""A real agent killed with SIGKILL: no answer was ever seen that its outbox does not hold."""

from __future__ import annotations

import random
import sys
import threading
import time
from pathlib import Path

import pytest
from charged_process import ChargedProcess, is_whole, read

from hansa.clients.outbox import OUTBOX
from hansa.clients.outbox_reading import Entry, Query, read_entries
from hansa.contract.messages import UploadReply
from hansa.contract.wire import digest, unpack

pytestmark = pytest.mark.slow

# An agent that dies with an upload's entry on the disk and the upload in its hand.
DYING = """
import os, signal, sys
from hansa.clients.agent import main
from hansa.clients.outbox import Outbox
enter = Outbox.enter
def die(self, leaving, key=""):
    enter(self, leaving, key)
    if leaving.kind == "upload":
        os.kill(os.getpid(), signal.SIGKILL)
Outbox.enter = die
sys.exit(main())
"""


def uploads(side: ChargedProcess) -> list[Entry]:
    return read_entries(side.folder / OUTBOX, Query(kind="upload"))


def test_what_a_killed_agent_had_in_its_hand_may_have_left(tmp_path: Path) -> None:
    side = ChargedProcess(tmp_path)
    with side.running((sys.executable, "-c", DYING)):
        side.propose()
        assert side.send(side.order(1)) == b""
    [entry] = uploads(side)
    assert entry.left is None
    assert entry.leaving.attempt == 1
    with side.running():
        answer = side.send(side.order(1))
        assert isinstance(read(answer), UploadReply)
    first, second = uploads(side)
    assert first == entry
    assert second.left is not None
    assert second.leaving == entry.leaving
    assert digest(unpack(answer[4:]).header) == entry.leaving.digest


def test_kills_at_random_points_leave_no_answer_without_an_entry(tmp_path: Path) -> None:
    side, randomness = ChargedProcess(tmp_path), random.Random(20261101)
    number, usual, came = 0, 0.02, 0
    for _ in range(3):
        with side.running() as process:
            side.propose()
            for last in (False, False, True):
                if number % 3 == 0:
                    side.command("approve", job=side.plan.job, by="head of data")
                number += 1
                arrived: list[bytes] = []
                payload = side.order(number)
                asking = threading.Thread(target=lambda: arrived.append(side.send(payload)))  # noqa: B023
                began = time.monotonic()
                asking.start()
                if last:
                    time.sleep(randomness.uniform(0, 1.3) * usual)
                    process.kill()
                    process.wait()
                asking.join(30)
                usual = usual if last else time.monotonic() - began
                if arrived[0]:
                    came += 1
                    known = [it.leaving for it in uploads(side) if it.leaving.attempt == number]
                    assert known, f"bytes of attempt {number} left without an entry"
                    if is_whole(arrived[0]):
                        assert digest(unpack(arrived[0][4:]).header) in {it.digest for it in known}
    assert came >= 6
    # The record has no more uploads than were charged.
    assert {it.leaving.attempt for it in uploads(side)} <= {it.attempt for it in side.charges()}
