"""Real multi-organisation tables: federated reaches pooled. Skipped where the tables are not at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hansa.clients.data.encode import encode
from hansa.clients.data.from_csv import derive_scenario
from hansa.clients.data.sources import read_source

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("HANSA_DATA", ROOT.parent / "shared" / "data"))
FOLDERS = sorted(path for path in DATA.iterdir() if path.is_dir()) if DATA.is_dir() else []

pytestmark = pytest.mark.skipif(not FOLDERS, reason="no tables in HANSA_DATA")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_scenario_is_derived_and_every_member_keeps_its_contract(folder: Path, tmp_path: Path) -> None:
    derived = derive_scenario(folder, label="y", out=tmp_path)
    for member in derived.scenario.members:
        records = encode(read_source(member.data, tmp_path), derived.features, member.name)
        assert len(records) > 0


def test_federated_is_within_a_hundredth_of_pooled_after_thirty_rounds() -> None:
    import json

    command = [
        sys.executable,
        ROOT / "benchmarks" / "federated_vs_pooled.py",
        *FOLDERS,
        "--seeds",
        "6",
        "--json",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    for table in json.loads(result.stdout.splitlines()[-1])["tables"]:
        assert table["gap"] < 0.01 + 2 * table["error"], table
