"""Journals that keep only two of the newest states, so that a test soon sees one go."""

from __future__ import annotations

import pytest

from hansa.server.store import checkpoints
from hansa.strategies import memory_journal


@pytest.fixture
def few_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two, beside the best evaluated one."""
    for module in (checkpoints, memory_journal):
        monkeypatch.setattr(module, "KEPT", 2)
