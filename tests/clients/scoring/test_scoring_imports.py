"""A scoring process is small: it loads no more than it predicts with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scoring_side import facts, publish

PROGRAM = """
import sys
from pathlib import Path
import hansa.clients.scoring.__main__, hansa.clients.scoring.server, hansa.clients.scoring.workers
from hansa.clients.scoring.serving import Desk
Desk(Path(sys.argv[1]))
print(sorted(set(sys.modules) & {"torch", "polars", "flwr", "fastapi", "sqlalchemy", "tenseal"}))
"""


@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_neither_torch_nor_tables_nor_flower_are_loaded(tmp_path: Path, model: str) -> None:
    publish(tmp_path / "served", facts(model=model))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "served")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
