"""`hansa data forget` at a real agent: who is left out, what is said, and what stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from budget_side import Office, office
from cli_side import Commands, commands

from hansa.contract.scenario import FirstGrant


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return commands(monkeypatch, capsys)


@pytest.fixture
def a(tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path, grant=FirstGrant(), people=True) as made:
        yield made


def entities(a: Office) -> int:
    assert a.agent is not None
    return a.agent.entities


WHY = ("--reason", "erasure request 12")


def test_somebody_is_left_out_at_once_and_after_a_restart(run: Commands, a: Office) -> None:
    before = entities(a)
    said = run("data", "forget", "p7", *WHY, "--by", "dpo", "--folder", a.folder)
    assert (said.code, said.err) == (0, "")
    assert "1 forgotten, 1 in all" in said.out
    assert "what was spent on them stays spent" in said.out
    assert entities(a) == before - 1
    a.stop()
    a.start()
    assert entities(a) == before - 1
    again = run("data", "forget", "p7", *WHY, "--folder", a.folder)
    assert "0 forgotten, 1 in all" in again.out
    assert "1 of those named were forgotten before" in again.out
    listed = json.loads(run("data", "forget", "--list", "--json", "--folder", a.folder).out)
    assert [(it["entities"], it["by"], it["reason"]) for it in listed["decisions"]] == [(1, "dpo", WHY[1])]
    rows = json.loads(run("budgets", "history", "--json", "--folder", a.folder).out)
    assert [(it["body"]["total"], it["body"]["by"]) for it in rows if it["body"]["row"] == "forget"] == [
        (1, "dpo")
    ]
    assert run("budgets", "verify", "--folder", a.folder).code == 0


def test_a_name_that_no_record_has_is_said_and_nobody_is_forgotten(
    run: Commands, a: Office, tmp_path: Path
) -> None:
    before, names = entities(a), tmp_path / "names"
    names.write_text("p1\np2\nnobody\n")
    asked = ("data", "forget", "--file", str(names), *WHY, "--folder", a.folder)
    said = run(*asked)
    assert (said.code, said.out) == (2, "")
    assert "1 of 3 are in no record of column 'person' (number 3 of those named)" in said.err
    assert "nobody was forgotten" in said.err
    assert entities(a) == before
    assert run(*asked, "--absent-too").code == 0
    assert entities(a) == before - 2


def test_names_are_neither_in_the_log_nor_in_any_file(run: Commands, a: Office) -> None:
    name = "p-very-special-person"
    table = a.member.folder / a.member.config.data.path  # type: ignore[union-attr]
    table.write_text(f"{table.read_text()}0.5,north,1,{name}\n")
    a.stop()
    a.start()
    assert run("data", "forget", name, *WHY, "--folder", a.folder).code == 0
    a.stop()
    files = [it for it in a.member.folder.rglob("*") if it.is_file() and it != table]
    assert all(name.encode() not in it.read_bytes() for it in files)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("p1",), "--reason: say why"),
        ((*WHY,), "say whom"),
        (("p1", "--file", "x", *WHY), "say whom"),
        (("--file", "missing", *WHY), "no such file"),
        (("p1", "--list"), "leave ENTITY"),
        (("person-1", "--reason", "person-1 asked"), "name nobody in it"),
        ((" ", *WHY), "empty name"),
    ],
)
def test_wrong_input_is_a_sentence(
    run: Commands, a: Office, arguments: tuple[str, ...], sentence: str
) -> None:
    said = run("data", "forget", *arguments, "--folder", a.folder)
    assert (said.code, said.out) == (2, "")
    assert sentence in said.err


def test_without_an_entity_column_nobody_has_a_name(run: Commands, tmp_path: Path) -> None:
    with office(tmp_path) as a:
        said = run("data", "forget", "p1", *WHY, "--folder", a.folder)
    assert said.code == 2
    assert "names no entity column" in said.err
