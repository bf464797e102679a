"""Pages of figures: what Prometheus' own parser reads of them, bounded labels, a port or a file."""

from __future__ import annotations

import stat
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import ProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from hansa.contract.bounded import BoundedDict, bounded_log
from hansa.contract.errors import InputError
from hansa.contract.exposing import Exposure
from hansa.contract.exposition import OTHER, Family, Meter, one
from hansa.contract.process_figures import process_figures, process_meter

COUNT = Family("hansa_test_total", "counter", "Things.", ("kind",), 3)
LEVEL = Family("hansa_test_level", "gauge", "A level.")
TIME = Family("hansa_test_seconds", "histogram", "Seconds.", ("path",), 2, (0.1, 1.0))


def read(page: str) -> dict[str, dict[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(page):
        assert family.documentation.endswith(".")
        for it in family.samples:
            found.setdefault(it.name, {})[tuple(it.labels.values())] = it.value
    return found


def test_a_page_is_read_as_it_was_meant() -> None:
    meter = Meter([process_figures("test")])
    meter.add(COUNT, 'a"b\\c\nd')
    meter.add(COUNT, 'a"b\\c\nd', by=2)
    meter.set(LEVEL, to=1e15 / 3)
    for seconds in (0.05, 0.1, 0.5, 7.0):
        meter.observe(TIME, seconds, "x")
    found = read(meter.text())
    assert found["hansa_test_total"] == {('a"b\\c\nd',): 3.0}
    assert found["hansa_test_level"][()] == pytest.approx(1e15 / 3)
    assert found["hansa_test_seconds_bucket"] == {("x", "0.1"): 2, ("x", "1"): 3, ("x", "+Inf"): 4}
    assert found["hansa_test_seconds_count"] == {("x",): 4}
    assert found["hansa_test_seconds_sum"][("x",)] == pytest.approx(7.65)
    assert found["process_resident_memory_bytes"][()] > 1e6
    assert {"process_cpu_seconds_total", "process_open_fds", "process_start_time_seconds"} <= found.keys()


def test_labels_are_bounded_and_nothing_is_lost() -> None:
    meter = Meter()
    for number in range(10_000):
        meter.add(COUNT, f"kind {number}")
        meter.observe(TIME, 0.2, f"path {number}")
    found = read(meter.text())
    assert len(found["hansa_test_total"]) == 4
    assert found["hansa_test_total"][(OTHER,)] == 9_997
    assert sum(found["hansa_test_seconds_count"].values()) == 10_000
    assert len(found["hansa_test_seconds_count"]) == 3


@pytest.mark.parametrize(
    ("name", "kind", "help_", "buckets"),
    [
        ("hansa_things", "counter", "Things.", ()),
        ("hansa_things_total", "gauge", "Things.", ()),
        ("hansa_things", "gauge", "Things", ()),
        ("hansa_things", "histogram", "Things.", ()),
    ],
)
def test_names_keep_to_the_conventions(name: str, kind: str, help_: str, buckets: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="hansa_things"):
        Family(name, kind, help_, (), 1, buckets)  # type: ignore[arg-type]


def test_a_source_that_fails_takes_nothing_else_with_it() -> None:
    def broken() -> list[object]:
        raise OSError

    meter = Meter([broken, lambda: [one(LEVEL, 3)]])  # type: ignore[list-item]
    assert read(meter.text())["hansa_test_level"] == {(): 3.0}


def test_over_http_it_serves_the_page_and_nothing_else() -> None:
    meter = Meter()
    meter.set(LEVEL, to=2)
    with Exposure(meter, "127.0.0.1:0") as shown:
        with urllib.request.urlopen(f"http://{shown.address}/metrics", timeout=5) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert read(answer.read().decode())["hansa_test_level"] == {(): 2.0}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://{shown.address}/", timeout=5)
        with pytest.raises(InputError, match="cannot listen here"):
            Exposure(meter, shown.address)
    assert not any(it.name == "metrics" for it in threading.enumerate())


def test_a_file_is_whole_readable_and_gone_at_the_end(tmp_path: Path) -> None:
    meter, path = Meter(), tmp_path / "metrics" / "agent.prom"
    with Exposure(meter, str(path), every_s=0.01):
        meter.set(LEVEL, to=5)
        while "hansa_test_level 5" not in (page := path.read_text()):
            assert read(page) == {}
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(path.parent.iterdir()) == []


def test_files_of_several_agents_and_the_readers_own_figures_merge(tmp_path: Path) -> None:
    pages = [process_meter("node_exporter").text()]
    for process, member in (("agent", "a"), ("agent", "b"), ("node", "a"), ("executor", "")):
        meter = process_meter(process, lambda: [one(LEVEL, 1)], member=member)
        meter.observe(TIME, 0.2, "x")
        meter.add(COUNT, "k")
        with Exposure(meter, str(tmp_path / "it.prom")):
            pages.append((tmp_path / "it.prom").read_text())
    samples = [
        it for page in pages for family in text_string_to_metric_families(page) for it in family.samples
    ]
    series = [(it.name, tuple(sorted(it.labels.items()))) for it in samples]
    assert len(series) == len(set(series))
    found = {tuple(sorted(it.labels.items())) for it in samples if it.name == "hansa_test_level"}
    assert (("member", "b"), ("process", "agent")) in found
    assert (("process", "executor"),) in found


def test_what_every_process_shows_is_said_word_for_word_as_node_exporter_does() -> None:
    own = {it.name: it.documentation for it in ProcessCollector(registry=None).collect()}
    said = {it.name: it.documentation for it in text_string_to_metric_families(process_meter("agent").text())}
    shared = own.keys() & said.keys()
    assert len(shared) == 6
    assert {name: said[name] for name in shared} == {name: own[name] for name in shared}


@pytest.mark.parametrize("place", ["here", "127.0.0.1:x", ":9000", "127.0.0.1:70000", "/proc/none/it.prom"])
def test_a_place_that_will_not_do_is_an_error(place: str) -> None:
    with pytest.raises(InputError, match="--metrics"):
        Exposure(Meter(), place)


def test_a_bounded_mapping_forgets_what_was_used_longest_ago() -> None:
    kept: BoundedDict[str, int] = BoundedDict(2)
    kept["a"], kept["b"] = 1, 2
    assert kept["a"] == 1
    kept["c"] = 3
    assert dict(kept) == {"a": 1, "c": 3}
    assert "b" not in kept
    newest = bounded_log(2)
    newest.extend([1, 2, 3])
    assert list(newest) == [2, 3]
    for made in (BoundedDict, bounded_log):
        with pytest.raises(ValueError, match="at least one"):
            made(0)
