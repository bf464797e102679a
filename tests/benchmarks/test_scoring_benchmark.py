"""The scoring service's benchmark measures a service that runs, and says what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "scoring.py"


@pytest.mark.long
def test_it_measures_all_and_loses_nothing() -> None:
    command = [sys.executable, str(PROGRAM), "--rounds", "1", "--seconds", "0.7", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["lost_swap"] == figures["lost_scale"] == 0
    assert min(figures["answered_swap"], figures["answered_scale"]) > 100
    # Loose: whatever else runs here. What is claimed is what a quiet machine printed.
    assert figures["ratio"] > 1.2
    assert figures["batch_binary_rows_per_cpu_second"] > 300_000
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
