"""A folder has one agent at a time, and a killed one leaves no lock behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hansa.clients.lock import only_process
from hansa.contract.errors import HansaError

HOLD = """
import sys, time
from pathlib import Path
from hansa.clients.lock import only_process
with only_process(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_agent_does_not_start_and_a_killed_one_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "member.toml").write_text(
        'name = "a"\nserver = "localhost:1"\n[data]\nkind = "csv"\npath = "a.csv"\n'
    )
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(HansaError, match="another agent is running"), only_process(tmp_path):
            pass
        command = [sys.executable, "-m", "hansa.clients.agent", "--folder", str(tmp_path)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1
        assert "another agent is running in this folder" in second.stderr
        assert len(second.stderr.splitlines()) == 1
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait(10)
    with only_process(tmp_path):
        pass
    with only_process(tmp_path):
        pass
