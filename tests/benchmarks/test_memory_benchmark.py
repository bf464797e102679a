"""What the benchmark of memory takes for held and for missed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "memory_benchmark", Path(__file__).parents[2] / "benchmarks" / "memory.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
memory = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = memory
_SPEC.loader.exec_module(memory)


@pytest.mark.parametrize(
    ("values", "bound", "missed"),
    [
        ([50.0] * 40, 60.0, ""),
        ([50.0] * 39 + [61.0], 60.0, "more than 60 MiB"),
        ([100.0 + number for number in range(40)], None, "grew by 20.0 MiB"),
        # What is taken as it starts is no growth.
        ([20.0 + 10 * number for number in range(10)] + [120.0] * 30, 400.0, ""),
        ([], 60.0, "was never seen"),
        ([50.0] * 11, 60.0, "too few readings: 11 of 12"),
    ],
)
def test_a_bound_or_growth_is_missed_and_a_start_is_not(
    values: list[float], bound: float | None, missed: str
) -> None:
    assert memory.Readings("it", bound, values=values).missed == missed


def test_a_process_that_is_never_seen_is_missed_and_has_its_bound(tmp_path: Path) -> None:
    folder = tmp_path / ".hansa" / "it" / "members" / "a"
    folder.mkdir(parents=True)
    (folder / "member.toml").touch()
    found = memory.expected(tmp_path)
    assert {it.missed for it in found.values()} == {"was never seen"}
    assert {name: it.bound for name, it in found.items()} == {
        **{"superlink": 500, "control": 400, "executor": 600, "sidecar": 60, "serverapp": None},
        **{"agent-a": 400, "node-a": None},
    }


def test_the_page_of_help_is_small() -> None:
    assert memory.help_page().missed == ""
