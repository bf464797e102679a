"""What bad input gets: one sentence on stderr that names file, field and expected value, and exit code 2."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from cli_side import hansa, still_running, write_scenario

from hansa.cli.addresses import free_addresses
from hansa.cli.instance import Instance
from hansa.cli.provisioning import provision
from hansa.contract.scenario import read_scenario

Say = Callable[..., str]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs a command that must fail with 2; returns its one line on stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        before = sorted(path.name for path in tmp_path.rglob("*"))
        assert hansa(arguments, monkeypatch) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert sorted(path.name for path in tmp_path.rglob("*")) == before, "something was half written"
        assert still_running(tmp_path) == []
        return lines[0]

    return run


@pytest.fixture
def made(tmp_path: Path) -> Instance:
    origin = write_scenario(tmp_path / "tiny")
    scenario, features = read_scenario(origin)
    return provision(scenario, features, origin=origin, out=tmp_path / "made", addresses=free_addresses())


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def test_an_unknown_scenario(say: Say) -> None:
    assert say("up", "nowhere").startswith(
        "hansa: scenario 'nowhere' is not known; known are banks, consortium"
    )


def test_an_unknown_organisation(say: Say, made: Instance) -> None:
    said = "hansa: no organisation 'zz' in made; the organisations there are a, b, c"
    assert say("client", "start", "--instance", "made", "--org", "zz") == said
    assert say("data", "check", "--instance", "made", "--org", "zz") == said


def test_a_folder_of_another_organisation(say: Say, made: Instance) -> None:
    line = say("client", "start", "--folder", "made/members/a", "--org", "b")
    assert line == "hansa: made/members/a/member.toml: belongs to 'a', not to 'b'"


def test_no_instance(say: Say) -> None:
    assert "no instance under .hansa in this directory; run: hansa up" in say("status")
    assert "gone: no instance here" in say("down", "--instance", "gone")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rounds = 3", "rounds = '3'", "field 'job.rounds': should be a valid integer (got '3')"),
        ("rounds = 3", "rouns = 3", "field 'job.rouns' is not known here; remove it or correct its name"),
        (
            'mode = "masked"',
            'mode = "open"',
            "field 'protection.mode': should be 'clear', 'masked' or 'he' (got 'open')",
        ),
        ('title = "A tiny federation"', "", "field 'title' is missing"),
        ('name = "tiny"', 'name = "tiny', "not valid TOML"),
    ],
)
def test_a_scenario_file_that_does_not_fit(tmp_path: Path, say: Say, old: str, new: str, said: str) -> None:
    edit(write_scenario(tmp_path / "tiny") / "scenario.toml", old, new)
    for command in (("up", "tiny"), ("provision", "tiny")):
        line = say(*command)
        assert line.startswith("hansa: tiny/scenario.toml: ")
        assert said in line


def test_a_setting_that_does_not_fit(say: Say, made: Instance) -> None:
    assert say("up", "tiny", "--set", "steps=none") == (
        "hansa: --set steps=none: field 'job.steps': should be a valid integer (got 'none')"
    )


def test_a_rule_over_single_updates(say: Say, made: Instance) -> None:
    for command in (("up", "tiny"), ("jobs", "submit", "--instance", str(made.folder))):
        line = say(*command, "--set", "rule=krum")
        assert "rule.name': 'krum' compares single updates" in line
        assert "the server sees their sum only" in line


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("steps=999999", "field 'steps'"),
        ("reask_s=90", "field 'job.reask_s': expected at most deadline_s = 60"),
    ],
)
def test_a_job_that_is_refused_leaves_the_instance_of_the_last_run(
    say: Say, tmp_path: Path, setting: str, said: str
) -> None:
    origin = write_scenario(tmp_path / "tiny")
    scenario, features = read_scenario(origin)
    out = tmp_path / ".hansa" / "tiny"
    last = provision(scenario, features, origin=origin, out=out, addresses=free_addresses(), passing=True)
    before = last.charter.read_bytes()
    assert said in say("up", "tiny", "--set", setting)
    assert last.charter.read_bytes() == before


def test_a_server_file_that_is_not_there(say: Say, made: Instance) -> None:
    (made.server / "server.crt").unlink()
    line = say("server", "start", "--instance", "made")
    assert (
        line
        == "hansa: made/server/server.crt: no such file; made/server/server.toml names it as tls_certificate"
    )


def test_a_port_in_use(say: Say, made: Instance) -> None:
    address = made.server_config.fleet
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))):
        line = say("server", "start", "--instance", "made")
    assert (
        line
        == f"hansa: made/server/server.toml: fleet = {address}: something listens there already; name another port"
    )


@pytest.mark.parametrize("address", ["superlink", "superlink:", ":9443", "superlink:99999", "a:b:1"])
def test_an_address_that_is_none(tmp_path: Path, say: Say, address: str) -> None:
    write_scenario(tmp_path / "tiny")
    assert say("provision", "tiny", "--server", address).startswith(
        f"hansa: --server {address}: expected HOST:PORT"
    )


def test_a_member_name_that_cannot_be_one(say: Say) -> None:
    line = say("provision", "member", "--name", "Deutsche Bank", "--out", "own")
    assert line.startswith("hansa: provision member: field 'name': ")


def test_records_that_depart_from_the_contract(
    tmp_path: Path, made: Instance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    edit(tmp_path / "tiny" / "b.csv", ",north,", ",west,")
    assert hansa(["data", "check", "--instance", "made", "--org", "a"], monkeypatch) == 0
    assert hansa(["data", "check", "--instance", "made", "--org", "b"], monkeypatch) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "b.csv: column 'ward'" in last
    assert "west" in last


def test_a_departure_is_said_below_the_table_whatever_the_screen_s_width(
    tmp_path: Path, made: Instance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    lines = (tmp_path / "tiny" / "a.csv").read_text().splitlines()
    narrow = [lines[0]] + [f"0.{number % 9},{line.split(',', 1)[1]}" for number, line in enumerate(lines[1:])]
    (tmp_path / "tiny" / "a.csv").write_text("\n".join(narrow) + "\n")
    assert hansa(["data", "check", "--instance", "made", "--org", "a"], monkeypatch) == 0
    printed = capsys.readouterr().out.splitlines()
    [warning] = [line for line in printed if line.startswith("warning: ")]
    assert warning.startswith("warning: column 'age': the declared range ")
    assert warning.endswith("let jobs begin with the contract check")
    framed = [line for line in printed if line[0] in "┏┃┡│└"]
    # One line for each column of the contract and four of the frame.
    assert len(framed) == 3 + 4
    assert max(len(line) for line in framed) <= 80


def in_a_database(folder: Path) -> None:
    with sqlite3.connect(folder / "b.sqlite") as connection:
        connection.execute("CREATE TABLE records AS SELECT 0.5 AS age, 'west' AS ward, 1 AS y")
    connection.close()
    source = '{ kind = "sql", url = "sqlite:///b.sqlite", query = "SELECT * FROM records" }'
    edit(folder / "scenario.toml", '{ kind = "csv", path = "b.csv" }', source)


def in_parquet(folder: Path) -> None:
    pl.DataFrame({"age": [0.5], "ward": ["west"], "y": [1]}).write_parquet(folder / "b.parquet")
    edit(folder / "scenario.toml", 'kind = "csv", path = "b.csv"', 'kind = "parquet", path = "b.parquet"')


BAD_TABLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a category": (lambda it: edit(it / "b.csv", ",north,", ",west,"), "b.csv: column 'ward', row"),
    "no file": (lambda it: (it / "b.csv").unlink(), "b.csv: no such file"),
    "no text": (lambda it: (it / "b.csv").write_bytes(b"\xff\xfe\x00\x01,y\n1,0\n"), "b.csv: not a CSV file"),
    "parquet": (in_parquet, "b.parquet: column 'ward', row 1"),
    "sqlite": (in_a_database, "SQL query: column 'ward', row 1"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_up_says_that_a_table_is_bad_before_it_makes_anything(tmp_path: Path, say: Say, name: str) -> None:
    spoil, sentence = BAD_TABLES[name]
    spoil(write_scenario(tmp_path / "tiny"))
    assert sentence in say("up", "tiny")


def test_up_checks_the_records_of_an_instance_that_is_there_too(
    tmp_path: Path, say: Say, made: Instance
) -> None:
    edit(tmp_path / "tiny" / "b.csv", ",north,", ",west,")
    assert "b.csv: column 'ward'" in say("up", "--instance", "made")


def test_a_job_that_no_grant_could_pay_is_refused_before_anything_is_made(say: Say) -> None:
    for command in (("provision", "consortium", "--set", "rounds=2"), ("up", "--rounds", "2")):
        assert "privacy.fewest_rounds = 3 rounds" in say(*command)
    assert "steps at home" in say("up", "--set", "noise=distributed", "--set", "privacy.s=1")
    assert "grant.delta = 0.001 is above" in say("up", "--set", "grant.delta=1e-3")
