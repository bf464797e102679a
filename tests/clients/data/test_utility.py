"""The benchmark of utility on a folder of tables that it has never seen."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

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


@pytest.fixture
def benchmark_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    spec = importlib.util.spec_from_file_location("utility", ROOT / "benchmarks" / "utility.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    # Its dataclasses look themselves up.
    monkeypatch.setitem(sys.modules, "utility", made)
    spec.loader.exec_module(made)
    return made


def test_the_share_of_organisations_that_lose_nothing_counts_the_large_ones(
    benchmark_module: ModuleType,
) -> None:
    own, personal = [0.8, 0.8, 0.8, 0.8, np.nan], [0.796, 0.794, 0.9, 0.1, np.nan]
    plain = {"own": own, "pooled": own, "federated": own}
    private = {8.0: {"federated_private": own, "personalised": personal}}
    result = benchmark_module.Result(rows=[100, 5000, 150, 99, 200], plain=plain, private=private)
    names = ["a", "b", "c", "d", "e"]
    found = benchmark_module.summary([result], 8.0, names, falling=False)
    assert found["personalised"]["share_held"] == pytest.approx(2 / 3)
    assert found["personalised"]["organisations"] == 3
    # An rmse is better where it is smaller.
    found = benchmark_module.summary([result], 8.0, names, falling=True)
    assert found["personalised"]["share_held"] == pytest.approx(2 / 3)
    few = benchmark_module.Result(rows=[9] * 5, plain=plain, private=private)
    found = benchmark_module.summary([few], 8.0, names, falling=False)
    assert (found["personalised"]["share_held"], found["personalised"]["organisations"]) == (None, 0)


def test_one_seed_has_no_standard_error(
    benchmark_module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    private = {1.0: {"federated_private": [0.6, 0.7], "personalised": [0.8, 0.8]}}
    plain = {way: [0.7, 0.8] for way in ("own", "pooled", "federated")}
    one = benchmark_module.Result(rows=[500, 500], plain=plain, private=private)
    found = benchmark_module.summary([one], 1.0, ["a", "b"], falling=False)
    assert found["gap_se"] is None
    assert all(found[way]["se"] is None for way in WAYS)
    facts = dict.fromkeys(("folder", "figure", "noise", "noise_draws", "seeds", "seconds"), "x")
    benchmark_module.show(facts, {"1": found})
    assert "gap +0.1000\n" in capsys.readouterr().out
    two = benchmark_module.summary([one, one], 1.0, ["a", "b"], falling=False)
    assert two["gap_se"] == pytest.approx(0.0)


@pytest.mark.slow
def test_every_way_is_measured_for_every_epsilon_and_member(folder: Path) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "utility.py", folder, "--epsilon", "8", "1", "--json"]
    command += ["--seeds", "2", "--rounds", "12", "--processes", "1", "--noise-draws", "2"]
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
        assert entry["gap_se"] > 0
        # The third organisation has no figure at all.
        assert entry["personalised"]["organisations"] == 2
        assert entry["personalised"]["share_held"] in (0.0, 0.5, 1.0)
    assert "of the 2 organisations with 100 rows or more" in result.stdout
    assert "drawn 2 times on each of 2 splits" in result.stdout
    assert found["1"]["own"] == found["8"]["own"]
    # What privacy does to the model is no chance of the same job: noise is drawn anew for each grant.
    assert found["1"]["federated_private"] != found["8"]["federated_private"]
