"""Stopping a supervisor from another terminal, and whatever it left when it was killed itself."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from hansa.cli.children import sweep
from hansa.cli.run_record import is_held, read_record

# A supervisor gives each wave of its processes 5 s.
_PATIENCE_S = 30.0
_FAREWELL_S = 5.0


def stop_record(path: Path) -> bool:
    """End what the record at `path` names; False where nothing ran. Nothing is left afterwards."""
    record = read_record(path)
    if record is None:
        return False
    held = is_held(path)
    if held:
        _ask(record.supervisor, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE_S
        while is_held(path) and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_held(path):
            _ask(record.supervisor, signal.SIGKILL)
        # It lets the record go a moment before it is gone itself.
        deadline = time.monotonic() + _FAREWELL_S
        while Path(f"/proc/{record.supervisor}").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    # What a supervisor leaves that was killed: its processes carry its mark.
    return sweep(record.mark) > 0 or held


def _ask(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
