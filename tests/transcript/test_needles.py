"""The search for what members keep finds it wherever it stands."""

from __future__ import annotations

import os

import needles
import pytest
from needles import search
from recorded import Frame, Transcript


def test_a_needle_is_found_at_every_offset_and_across_every_border(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needles, "_CHUNK", 64)
    needle = os.urandom(31)
    for offset in range(200):
        payload = os.urandom(offset) + needle + os.urandom(offset % 3)
        assert search(Transcript(frames=[Frame("a", "to-server", payload)]), {"seed": needle}) == {
            "seed": {"frame 0 to-server a"}
        }


def test_what_only_begins_like_a_needle_is_none() -> None:
    needle = os.urandom(32)
    payload = os.urandom(5) + needle[:-1] + bytes([needle[-1] ^ 1])
    assert search(Transcript(files=[("log", payload)], memory=[payload]), {"key": needle}) == {}


def test_files_and_memory_are_searched_too() -> None:
    needle = os.urandom(32)
    transcript = Transcript(files=[("store.sqlite", b"x" + needle)], memory=[bytes(4096), needle + b"y"])
    assert search(transcript, {"key": needle, "other": os.urandom(32)}) == {
        "key": {"store.sqlite", "memory 1"}
    }
