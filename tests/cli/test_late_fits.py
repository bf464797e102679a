"""`hansa up` gives the members' own versions a moment before it stops the agents that fit them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from hansa.cli.demo_run import late_fits
from hansa.cli.instance import MemberFolder
from hansa.clients.personal import personal_path

JOB = "ab" * 16


def never(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@pytest.fixture
def members(tmp_path: Path) -> list[MemberFolder]:
    """`a` and `b` have the job's model, `c` has none; `a` has its own version, too."""
    for name in "abc":
        (tmp_path / name).mkdir()
    for name in "ab":
        (tmp_path / name / f"model-{JOB}.npz").touch()
    personal_path(tmp_path / "a", JOB).touch()
    return [MemberFolder(tmp_path / name) for name in "abc"]


def test_it_waits_until_the_last_one_is_there(members: list[MemberFolder]) -> None:
    last = threading.Timer(0.2, personal_path(members[1].folder, JOB).touch)
    last.start()
    assert late_fits(members, JOB, never, patience=30) == []
    last.join()


def test_it_says_whose_is_not(members: list[MemberFolder]) -> None:
    assert late_fits(members, JOB, never, patience=0.1) == ["b"]


def test_an_interrupt_ends_the_wait(members: list[MemberFolder]) -> None:
    began = time.monotonic()
    assert late_fits(members, JOB, lambda _: True, patience=30) == ["b"]
    assert time.monotonic() - began < 10
