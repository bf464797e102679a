"""The report: what ran stands in it, it asks nothing of anybody, and a part's failure is in all three files."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console
from typer.testing import CliRunner

from hansa.cli.enterprise import app
from hansa.cli.interrupts import Interruption
from hansa.cli.suite.after import CostPart, MemoryPart
from hansa.cli.suite.drawn import bars, lines
from hansa.cli.suite.found import Drawing, Fact, Found, Outcome, Rows
from hansa.cli.suite.report import Report
from hansa.cli.suite.running import Stage
from hansa.cli.suite.scenarios import ScenariosPart
from hansa.cli.suite.summary import run_and_show
from hansa.contract.errors import HansaError, InputError

pytestmark = pytest.mark.slow

OUTCOMES = [
    Outcome("first", "a part", "hansa first").ended(
        "done",
        1.5,
        found=Found(
            sentences=("told <so>",),
            headline=(Fact("cost", 12.5, "EUR"),),
            tables=(Rows("T", ("a|b", "c"), (("<1>", "2"),), "a note"),),
            drawings=(Drawing("first", "a drawing", bars("x & y", [("a", 1.0), ("b", 2.0)])),),
            data={"figure": 7},
        ),
    ),
    Outcome("second", "another", "hansa second").ended("failed", 0.1, "no room <left>"),
    Outcome("third", "a last one", "hansa third"),
]


class Checked(HTMLParser):
    """Every tag that is opened is closed; what would be asked for is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta",):
            self.open.append(tag)
        self.asked += [str(value) for name, value in attrs if name in ("src", "href") and value]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_all_three_files_say_what_ran_and_what_failed(tmp_path: Path) -> None:
    Report(tmp_path / "out", "hansa enterprise", datetime.now(UTC)).write(OUTCOMES)
    page = (tmp_path / "out/report.html").read_text()
    text = (tmp_path / "out/report.md").read_text()
    document = json.loads((tmp_path / "out/results.json").read_text())
    for words in ("cost 12.5 EUR", "hansa first", "not complete", "hansa 0.1.0"):
        assert words in page
        assert words in text
    assert "no room &lt;left&gt;" in page
    assert "no room <left>" in text
    assert "a\\|b" in text
    assert [it["status"] for it in document["parts"]] == ["done", "failed", "waiting"]
    assert document["parts"][0]["result"] == {"figure": 7}
    ElementTree.fromstring((tmp_path / "out/drawings/first.svg").read_text())


def test_the_page_is_whole_and_asks_nothing_of_anybody(tmp_path: Path) -> None:
    Report(tmp_path, "hansa enterprise", datetime.now(UTC)).write(OUTCOMES)
    page = (tmp_path / "report.html").read_text()
    checked = Checked()
    checked.feed(page)
    assert checked.open == []
    assert all(it.startswith("#") for it in checked.asked)
    assert not re.search(r"@import|<script|<link|url\(", page)
    assert "prefers-color-scheme:dark" in page


def test_a_second_report_in_a_folder_shows_nothing_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence/a.zip").write_text("")
    (tmp_path / "mine.txt").write_text("")
    found = replace(OUTCOMES[0].found, files=("evidence/a.zip", "mine.txt", "../outside"))
    Report(tmp_path, "hansa enterprise", datetime.now(UTC)).write([replace(OUTCOMES[0], found=found)])
    assert (tmp_path / "drawings/first.svg").exists()
    (tmp_path / "drawings/own.svg").write_text("")
    waiting = [Outcome(it.name, it.title, it.command) for it in OUTCOMES]
    Report(tmp_path, "hansa enterprise", datetime.now(UTC)).write(waiting)
    left = sorted(it.relative_to(tmp_path).as_posix() for it in tmp_path.rglob("*") if it.is_file())
    assert left == ["drawings/own.svg", "mine.txt", "report.html", "report.md", "results.json"]


def test_columns_of_numbers_are_ranged_on_the_right(tmp_path: Path) -> None:
    rows = (("a", "1.5 %", "-", "12 kB"), ("b", "12", "3", "refused"))
    found = Found(tables=(Rows("T", ("name", "share", "rounds", "size"), rows),))
    Report(tmp_path, "hansa enterprise", datetime.now(UTC)).write([replace(OUTCOMES[0], found=found)])
    assert "| --- | ---: | ---: | --- |" in (tmp_path / "report.md").read_text()
    assert (
        '<td>a</td><td class="n">1.5 %</td><td class="n">-</td><td>12 kB</td>'
        in (tmp_path / "report.html").read_text()
    )


def test_large_figures_have_all_their_digits() -> None:
    assert Fact("all processes", 12345.6, "MiB").shown == "12,346 MiB"
    assert Fact("cost", 12.345).shown == "12.35"
    assert "12,346 MiB" in bars("memory", [("a", 12345.6)], "MiB")


def test_what_a_part_found_is_there_for_others_where_something_in_it_does_not_hold() -> None:
    policies = {"ours": {"money": 1.0, "violations": 0.5}}
    with Interruption() as interruption:
        stage = Stage(interruption, Console(file=io.StringIO()))
        late = Found(data={"policies": policies}, problem="late")
        stage.earlier["scaling"] = OUTCOMES[2].ended("failed", 1.0, "late", late)
        assert CostPart(1.0).run(stage).headline[0].value == 1.0
        stage.earlier["scaling"] = OUTCOMES[2].ended("interrupted", 1.0, "interrupted", late)
        with pytest.raises(HansaError, match="did not come to its end"):
            CostPart(1.0).run(stage)


def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(app, ["--out", str(tmp_path / "file")])
    assert isinstance(done.exception, InputError)
    with pytest.raises(InputError, match="cannot be written"):
        Report(tmp_path / "file" / "deeper", "hansa", datetime.now(UTC)).write(OUTCOMES)


def test_what_needs_a_part_that_failed_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_and_show([MemoryPart(), CostPart(1.0)], as_json=True) == 1
    assert "memory: needs part 'federated', which did not come to its end" in capsys.readouterr().err


def test_scenarios_are_simulated_and_one_that_is_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_and_show([ScenariosPart(("banks", "no-such"))], as_json=True)
    [part] = json.loads(capsys.readouterr().out.splitlines()[-1])["parts"]
    assert (code, part["status"]) == (1, "failed")
    good, bad = part["result"]["scenarios"]
    assert good["local"]["auc"]["mean"] > 0.6
    assert "scenario 'no-such' is not known" in bad["problem"]


def test_drawings_are_svg_whatever_the_names_and_figures() -> None:
    for svg in (
        bars("a < b", [("x & y", float("nan")), ("z", 0.0)], "%"),
        lines("one", "round", [("a", [(1, 2.0), (2, float("nan"))]), ("b", [(1, 1.0)])]),
        lines("none", "round", []),
    ):
        assert ElementTree.fromstring(svg).tag.endswith("svg")
