"""The benchmark of utility on a folder of tables that it has never seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
WAYS = ("own", "pooled", "federated", "federated_private", "personalised")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three organisations, one of which has a single class; a text column, gaps, and a file that is no table."""
    made, rng = tmp_path_factory.mktemp("tables") / "Some Tables", np.random.default_rng(0)
    made.mkdir()
    for number, name in enumerate(("a", "B 2", "c")):
        rows = ["y,size,kind"]
        for _ in range(150):
            size, kind = rng.normal(), rng.choice(["x", "z"])
            y = int(number != 2 and rng.uniform() < 1 / (1 + np.exp(-3 * size)))
            rows.append(f"{y},{'' if rng.uniform() < 0.1 else f'{size:.3f}'},{kind}")
        (made / f"{name}.csv").write_text("\n".join(rows) + "\n")
    (made / "README.md").write_text("not a table")
    return made


@pytest.mark.slow
def test_every_way_is_measured_for_every_epsilon_and_member(folder: Path) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "utility.py", folder, "--epsilon", "8", "1", "--json"]
    command += ["--seeds", "2", "--rounds", "12", "--processes", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout.splitlines()[-1])
    assert set(found["epsilon"]) == {"8", "1"}
    for epsilon in ("8", "1"):
        entry = found["epsilon"][epsilon]
        assert entry == found[epsilon]
        assert set(entry) == {"gap_mean", "gap_se", *WAYS}
        for way in WAYS:
            per_member = entry[way]["per_member"]
            assert set(per_member) == {"a", "b-2", "c"}
            # Where one class is all there is, no order can be right or wrong.
            assert per_member["c"] is None
            known = [value for value in per_member.values() if value is not None]
            assert entry[way]["mean"] == pytest.approx(np.mean(known))
        assert entry["gap_mean"] == pytest.approx(
            entry["pooled"]["mean"] - entry["federated_private"]["mean"]
        )
        assert entry["pooled"]["mean"] > 0.8
    assert found["1"]["own"] == found["8"]["own"]
    # What privacy does to the model is no chance of the same job: noise is drawn anew for each grant.
    assert found["1"]["federated_private"] != found["8"]["federated_private"]
