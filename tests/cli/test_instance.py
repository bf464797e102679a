"""Which instance a command means where none is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cli_side import Commands, commands, write_scenario
from desks import open_test_desk
from served import serve

from hansa.cli.addresses import free_addresses
from hansa.cli.agent_client import command_agent
from hansa.cli.federation import record_path
from hansa.cli.instance import Instance, MemberFolder, find_instance
from hansa.cli.provisioning import provision
from hansa.cli.run_record import only_one
from hansa.contract.errors import ConnectionFailed
from hansa.contract.scenario import read_scenario

MEMBER = """name = "a"
server = "127.0.0.1:9"
data_set = "rows"
data = { kind = "csv", path = "rows.csv" }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("old", "new")):
        folder = Path(".hansa", name)
        folder.mkdir(parents=True)
        facts = folder / "instance.toml"
        facts.write_text(f'name = "{name}"\nscenario = "x"\ncreated = 2026-01-01T00:00:00Z\n')
        os.utime(facts, (1000.0 + number, 1000.0 + number))
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return commands(monkeypatch, capsys)


@pytest.mark.usefixtures("here")
def test_the_one_that_runs_is_meant_before_a_newer_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert find_instance().folder.name == "new"
    assert capsys.readouterr().err == ""
    with only_one(record_path(Path(".hansa/old"), "up"), "old"):
        assert find_instance().folder.name == "old"
        assert ".hansa/old is meant, which runs; .hansa/new is newer" in capsys.readouterr().err
        assert find_instance(Path(".hansa/new")).folder.name == "new"
        with only_one(record_path(Path(".hansa/new/server"), "server"), "new"):
            assert find_instance().folder.name == "new"
            assert ".hansa/new is meant, the newest that runs; .hansa/old runs too" in capsys.readouterr().err
    assert find_instance().folder.name == "new"


@pytest.mark.usefixtures("here")
def test_down_of_one_that_is_stopped_names_the_one_that_runs(run: Commands) -> None:
    with only_one(record_path(Path(".hansa/old"), "up"), "old"):
        said = run("down", "--instance", ".hansa/new")
    assert (said.code, "nothing was running" in said.out) == (0, True)
    assert ".hansa/old runs; stop it with: hansa down --instance .hansa/old" in said.err


@pytest.mark.usefixtures("here")
def test_an_agent_that_does_not_run_is_started_by_commands_that_submit_nothing() -> None:
    member = Instance(Path(".hansa/new")).member_path("a")
    member.mkdir(parents=True)
    (member / "member.toml").write_text(MEMBER)
    with pytest.raises(ConnectionFailed) as caught:
        command_agent(MemberFolder(member), "status")
    assert f"hansa client start --folder {member}" in str(caught.value)
    assert str(caught.value).endswith("hansa up --no-job --instance .hansa/new")


def test_status_says_that_control_refuses_its_token(
    tmp_path: Path, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = write_scenario(tmp_path / "scenario")
    scenario, features = read_scenario(origin)
    made = provision(scenario, features, origin=origin, out=tmp_path / "made", addresses=free_addresses())
    with open_test_desk(tmp_path) as desk, serve(desk) as url:
        monkeypatch.setattr(Instance, "control_url", url)
        said = run("status", "--json", "--instance", str(made.folder))
        found = json.loads(said.out)
        assert (found["control"], "refuses this token" in found["control_problem"]) == (None, True)
        assert found["control_problem"] in found["warnings"]
        assert "control refuses" in " ".join(run("status", "--instance", str(made.folder)).out.split())


@pytest.mark.usefixtures("here")
def test_what_belongs_to_a_job_is_refused_where_none_is_submitted(run: Commands) -> None:
    said = run("up", "--no-job", "--rounds", "3")
    assert (said.code, "--no-job submits no job: leave out --rounds" in said.err) == (2, True)
