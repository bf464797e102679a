"""What loading the privacy core costs an agent."""

from __future__ import annotations

import subprocess
import sys


def test_only_verify_loads_dp_accounting() -> None:
    names = ["accounts", "book", "currency", "curves", "events", "grid_noise", "laws", "noise"]
    names += ["people", "planning", "records"]
    program = "import sys; import " + ", ".join(f"hansa.privacy.{name}" for name in names)
    program += "; import hansa.clients.agent, hansa.clients.attempt"
    program += "; print([name for name in sys.modules if name.split('.')[0] in ('dp_accounting', 'scipy', 'opacus')])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
