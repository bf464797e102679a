"""Lines of a log: text or JSON, what they are about, and the last line of a process that fails."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from hansa.cli.children import last_line
from hansa.contract.logs import JsonLines, about, now_about, places_of

_PROGRAM = """
import logging, sys, warnings
from hansa.contract.logs import about, say_failure, start_logging, log_prints
start_logging("agent", "debug", sys.argv[1] or None, member="kontor-bank")
log = logging.getLogger("hansa.agent")
flower = logging.getLogger("flwr"); flower.addHandler(logging.StreamHandler()); flower.propagate = False
log.debug("below")
with about(job="ab", attempt=3):
    log.info("two\\nlines")
flower.warning("of Flower")
warnings.warn("of Python")
log_prints("printed")
print("a print")
try:
    raise ValueError("no")
except ValueError as error:
    log.exception("failed")
say_failure("agent", ValueError("the end"), 2)
"""


def run(form: str, variable: str = "") -> list[str]:
    environment = {"HANSA_LOG": variable, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, form], capture_output=True, text=True, env=environment, check=True
    )
    return done.stderr.splitlines()


@pytest.mark.parametrize(("form", "variable"), [("json", ""), ("", "json"), ("", " JSON ")])
def test_every_line_is_one_object_with_what_it_is_about(form: str, variable: str) -> None:
    lines = [json.loads(line) for line in run(form, variable)]
    assert all({"time", "level", "logger", "message", "process", "member"} <= it.keys() for it in lines)
    by_message = {it["message"]: it for it in lines}
    assert by_message["two\nlines"]["job"] == "ab"
    assert by_message["two\nlines"]["attempt"] == 3
    assert "job" not in by_message["below"]
    assert by_message["of Flower"]["logger"] == "flwr"
    assert by_message["a print"]["logger"] == "printed"
    assert "ValueError" in by_message["failed"]["exception"]
    assert lines[-1]["message"] == "the end"
    assert lines[-1]["exit_code"] == 2
    assert [it["message"] for it in lines].count("of Flower") == 1


def test_without_the_variable_lines_are_text() -> None:
    lines = run("")
    assert lines[-1] == "hansa agent: the end"
    with pytest.raises(ValueError, match="Extra data"):
        json.loads(lines[0])


def test_the_supervisor_reads_the_last_words_of_either_form(tmp_path: Path) -> None:
    for form in ("json", "text"):
        path = tmp_path / form
        path.write_text("\n".join(run(form)))
        assert last_line(path) == "the end"


def test_what_a_line_is_about_ends_with_the_block() -> None:
    record = logging.makeLogRecord({"name": "hansa", "msg": "it", "levelname": "INFO"})
    with about(job="one"):
        now_about(round=2)
        assert json.loads(JsonLines().format(record))["round"] == 2
        now_about(round=None)
        assert "round" not in json.loads(JsonLines().format(record))
    assert "job" not in json.loads(JsonLines().format(record))


def test_places_are_without_the_message() -> None:
    try:
        raise ValueError("secret 4711")
    except ValueError as error:
        said = places_of(error)
    assert said.startswith("ValueError at test_logs.py:")
    assert "4711" not in said
