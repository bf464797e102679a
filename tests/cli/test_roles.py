"""What is started for each role, as everybody on the machine sees it and as it is configured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_side import hansa, write_scenario

from hansa.cli import roles
from hansa.cli.instance import Instance, MemberFolder
from hansa.cli.provisioning import provision
from hansa.contract.scenario import read_scenario

PROXY = "http://user:password@proxy.example:3128"


@pytest.fixture
def made(tmp_path: Path) -> Instance:
    origin = write_scenario(tmp_path / "tiny")
    scenario, features = read_scenario(origin)
    return provision(scenario, features, origin=origin, out=tmp_path / "made")


def with_proxy(member: MemberFolder) -> MemberFolder:
    path = member.config_path
    path.write_text(f'proxy = "{PROXY}"\n{path.read_text()}')
    return member


@pytest.mark.parametrize("already", [None, "HTTPS_PROXY", "https_proxy"])
def test_a_proxys_password_is_in_no_command_line(
    made: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, already: str | None
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    if already is not None:
        monkeypatch.setenv(already, "http://elsewhere:1")
    spec = roles.node(with_proxy(made.member("a")), tmp_path)
    assert not any("proxy.example" in part for part in spec.argv)
    program = "import urllib.request; print(urllib.request.getproxies()['https'])"
    done = subprocess.run(
        [sys.executable, "-c", program], env=dict(spec.env), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == PROXY


def test_no_other_process_is_told_of_a_members_proxy(made: Instance, tmp_path: Path) -> None:
    agent = roles.agent(with_proxy(made.member("a")), tmp_path)
    assert PROXY not in agent.env.values()


def test_the_superlink_reads_its_nodes_from_the_signed_charter(made: Instance, tmp_path: Path) -> None:
    argv = roles.superlink(made.server_config_path, tmp_path).argv
    assert argv[argv.index("--charter") + 1] == str(made.charter)
    assert argv[argv.index("--signatures") + 1] == str(made.signatures)
    assert "--nodes" not in argv


def test_a_server_does_not_start_under_a_charter_that_was_changed_after_it_was_signed(
    made: Instance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made.charter.write_text(made.charter.read_text() + "\n# a word more\n")
    assert hansa(["server", "start", "--instance", str(made.folder), "--no-control"], monkeypatch) == 2
    assert "signature" in capsys.readouterr().err
