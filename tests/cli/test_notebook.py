"""The Python API: the page's blocks run, results are those of the command, and importing it is light."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli_side import write_scenario

import hansa

PAGE = Path(__file__).parents[2] / "docs" / "python-api.md"


def test_importing_it_loads_nothing_heavy() -> None:
    program = (
        "import sys, hansa; dir(hansa); hansa.HansaError; "
        "print(sorted({'torch', 'flwr', 'tenseal', 'polars', 'pydantic', 'numpy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(getattr(hansa, name) is not None for name in hansa.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hansa.nothing


@pytest.mark.slow
def test_the_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)


def test_a_simulation_has_frames_of_what_was_released_and_what_is_exact(tmp_path: Path) -> None:
    origin = write_scenario(tmp_path / "tiny")
    result = hansa.simulate(origin, rounds=2, settings={"noise": "none"})
    assert result.rounds["round"].to_list() == [1, 2]
    assert result.rounds["auc_error"].dtype == pl.Float64
    assert set(result.local["member"]) == {"a", "b", "c"}
    rows = result.scenario.synthetic(5)
    assert result.predict(rows).shape == (5,)
    assert np.isfinite(result.predict(rows)).all()
    assert result.as_object()["rounds"][-1]["metrics"]["auc"] == result.rounds["auc"][-1]
    assert "2 rounds" in result._repr_html_()


def test_settings_are_those_of_the_command_line(tmp_path: Path) -> None:
    scenario = hansa.load_scenario(write_scenario(tmp_path / "tiny"))
    changed = scenario.set({"rounds": 7, "model": "linear"}).set(["steps=2"])
    assert (changed.scenario.job.rounds, changed.scenario.job.steps) == (7, 2)
    assert changed.simulate(rounds=1).job.job.plan.steps == 2
    with pytest.raises(hansa.InputError, match="--set roundz"):
        scenario.set({"roundz": 7})
    with pytest.raises(hansa.InputError, match="expected a list"):
        scenario.set("rounds=7")
    with pytest.raises(hansa.InputError, match="is not known"):
        hansa.load_scenario("no such scenario")
    with pytest.raises(hansa.InputError, match="was not released"):
        changed.simulate(rounds=1).plot("nothing")
