"""The watch over processes' memory: what it takes for growth, for too much, and for nothing."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from hansa.contract.exposing import Exposure
from hansa.contract.exposition import Meter
from hansa.contract.process_figures import process_figures
from hansa.sidecar.process_watch import EVERY_S, MemoryWatch, ProcessWatch, read_memory
from hansa.sidecar.server_api import Away

MIB = 1 << 20


def said(watch: MemoryWatch, values: list[float]) -> list[str]:
    return [watch.see(int(it * MIB), EVERY_S * place) for place, it in enumerate(values)]


def test_a_leak_is_said_and_a_sawtooth_is_not() -> None:
    rng = random.Random(1)
    leak = [100 + 0.2 * place + rng.uniform(0, 5) for place in range(300)]
    assert any("grew in each" in it for it in said(MemoryWatch("a", None), leak))
    saw = [100 + (place % 37) + rng.uniform(0, 5) for place in range(1000)]
    assert not any(said(MemoryWatch("a", None), saw))
    # What is taken at the start and kept is no leak.
    start = [min(150.0, 50 + place) + rng.uniform(0, 1) for place in range(1000)]
    assert not any("grew" in it for it in said(MemoryWatch("a", None), start))


def test_a_leak_that_ended_is_said_no_more() -> None:
    grows = [100 + 0.2 * place for place in range(300)]
    found = said(MemoryWatch("a", None), grows + [160.0] * 200)
    assert found[250]
    assert not any(found[-50:])


def test_too_much_stands_until_it_is_well_below() -> None:
    found = said(MemoryWatch("a", 60 * MIB), [59, 61, 58, 55, 53, 58])
    assert [bool(it) for it in found] == [False, True, True, True, False, False]
    assert found[1] == "it holds more than its bound of 60 MiB"


class Control:
    """A control that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.away = False

    def enter_processes(self, readings: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self.away:
            raise Away("away")
        self.told = readings
        return [{"process": "control", "resident": 7 * MIB}]


def test_it_reads_others_every_half_minute_and_outlives_their_absence(tmp_path: Path) -> None:
    now, control = [0.0], Control()
    page = tmp_path / "executor.prom"
    with Exposure(Meter([process_figures("superlink")]), "127.0.0.1:0") as shown:
        places = [shown.address, str(page), "127.0.0.1:1"]
        watch = ProcessWatch(control, places, monotonic=lambda: now[0])  # type: ignore[arg-type]
        watch.look()
        assert {it["process"] for it in control.told} == {"sidecar", "superlink"}
        page.write_text(
            'hansa_build_info{process="executor",version="1"} 1\n'
            'process_resident_memory_bytes{process="executor"} 5e6\n'
        )
        watch.look()
        assert len(control.told) == 2
        for second in range(4, 12, 2):
            now[0] = second
            watch.look()
        page_read = {it["process"] for it in control.told}
        assert "executor" in page_read
        now[0], control.away = 10 + EVERY_S, True
        watch.look()
        now[0], control.away = 10 + 2 * EVERY_S, False
        watch.look()
    found = {it["process"]: it for it in control.told}
    assert set(found) == {"sidecar", "superlink", "executor", "control"}
    assert found["executor"]["resident"] == 5_000_000
    assert found["control"]["resident"] == 7 * MIB


BUILT = 'hansa_build_info{process="executor",version="1"} 1\n'


@pytest.mark.parametrize(
    "page",
    [
        *("", "no page of figures", "process_resident_memory_bytes x\n", "\x00 1"),
        *(f"{BUILT}process_resident_memory_bytes {it}\n" for it in ("NaN", "+Inf", "-1", "1e300", "x")),
    ],
)
def test_what_is_no_page_says_nothing(page: str, tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    path.write_text(page)
    assert read_memory(str(path)) == {}
