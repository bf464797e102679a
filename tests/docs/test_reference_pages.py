"""Pages that are made from code are as the code would make them, and say something about everything in it."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def docs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.usefixtures("docs")
def test_made_pages_are_up_to_date() -> None:
    differ = [str(path.relative_to(DOCS.parent)) for path in module("generate").departures()]
    assert not differ, f"{', '.join(differ)}: run `python docs/generate.py`"


@pytest.mark.usefixtures("docs")
def test_the_pages_are_the_same_each_time_and_quick() -> None:
    begun = time.process_time()
    generate = module("generate")
    first = {name: make(DOCS) for name, make in generate.MADE.items()}
    assert time.process_time() - begun < 3.0
    assert first == {name: make(DOCS) for name, make in generate.MADE.items()}


@pytest.mark.usefixtures("docs")
def test_a_page_that_differs_is_named(tmp_path: Path) -> None:
    generate = module("generate")
    (tmp_path / "decisions").mkdir()
    (tmp_path / "reference").mkdir()
    for name, make in generate.MADE.items():
        (tmp_path / name).write_text(make(tmp_path))
    assert not generate.departures(tmp_path)
    (tmp_path / "reference" / "commands.md").write_text("# Commands\n")
    assert [path.name for path in generate.departures(tmp_path)] == ["commands.md"]


@pytest.mark.usefixtures("docs")
def test_every_field_says_what_it_means() -> None:
    missing, stale = module("configuration_page").undescribed()
    assert not missing, f"put a comment above {missing[0]}, or an entry into docs/field_meanings.py"
    assert not stale, (
        f"docs/field_meanings.py speaks of {stale[0]}, which has a comment of its own or is gone"
    )


@pytest.mark.usefixtures("docs")
def test_the_section_on_the_scaler_speaks_of_all_that_its_reader_asks_for() -> None:
    scaler = module("scaler_fields")
    asked: set[str] = set()
    for signals in scaler.SIGNALS:
        for actuator in scaler.ACTUATORS:
            asked |= set(scaler.asked(signals, actuator))
    assert asked == set(scaler.MEANINGS)


@pytest.mark.usefixtures("docs")
def test_every_command_and_option_has_a_line() -> None:
    for path, command in module("commands_page").commands():
        assert command.help or len(path) == 2, f"{' '.join(path)} has no help"
        for param in command.params:
            assert getattr(param, "help", None) or param.param_type_name == "argument", (path, param.name)


def test_the_program_says_what_differs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    generate = module("generate")
    monkeypatch.setattr(generate, "departures", lambda: {DOCS / "README.md": ""})
    with pytest.raises(SystemExit) as ended:
        generate.main()
    assert ended.value.code == 1
    assert capsys.readouterr().out == "docs/README.md: differs\n"
