"""Control as a process: what it says when it cannot start, and that it serves when it can."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from cli_side import write_scenario

from hansa.cli.instance import Instance
from hansa.cli.provisioning import Addresses, provision
from hansa.contract.scenario import read_scenario
from hansa.server.control.__main__ import main

ANYWHERE = "127.0.0.1:0"


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    folder = write_scenario(tmp_path / "tiny")
    scenario, features = read_scenario(folder)
    return provision(scenario, features, origin=folder, out=tmp_path / "instance", addresses=Addresses())


def start(instance: Instance, *options: str) -> int:
    return main(["--config", str(instance.control_config_path), "--no-keeper", *options])


def test_a_port_in_use_is_one_line_and_code_2(instance: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert start(instance, "--control", address) == 2
    assert (
        capsys.readouterr().err == f"hansa control: {address}: cannot listen here: Address already in use\n"
    )


def test_an_address_that_is_none_is_refused(instance: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    assert start(instance, "--control", "everywhere") == 2
    assert "expected HOST:PORT, got 'everywhere'" in capsys.readouterr().err


BROKEN = {
    "no key": ("operator.key", None, "operator.key: no such file"),
    "another key": ("operator.key", "A" * 43 + "=\n", "not the operator's key that the charter names"),
    "no tokens": ("tokens.json", None, "tokens.json: no such file"),
    "a token missing": ("tokens.json", '{"read": "rrrrrrrrrrrrrrrr"}', "field 'write' is missing"),
    "a changed charter": ("charter.toml", "", "charter.toml"),
    "an unknown field": ("server.toml", 'sotre = "x"', "field 'sotre' is not known"),
    "no such store": ("server.toml", 'store = "oracle://x"', "'oracle' is not supported"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_with_its_files_is_one_line_and_code_2(
    instance: Instance, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file, content, sentence = BROKEN[name]
    path = instance.control / file
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    assert start(instance, "--control", ANYWHERE) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1


@pytest.mark.e2e
def test_a_process_serves_says_so_and_ends_when_asked(instance: Instance, tmp_path: Path) -> None:
    ready = tmp_path / "control.ready"
    command = [sys.executable, "-m", "hansa.server.control", "--config", str(instance.control_config_path)]
    process = subprocess.Popen(
        [*command, "--control", ANYWHERE, "--ready-file", str(ready)], stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 60
        while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        facts = json.loads(ready.read_text())
        assert facts["pid"] == process.pid
        health = httpx.get(f"http://{facts['control']}/v1/health", trust_env=False).json()
        assert (health["store"], health["superlink"]) == (True, False)
    finally:
        os.kill(process.pid, signal.SIGTERM)
        _, printed = process.communicate(timeout=30)
    assert process.returncode == 0
    assert not any(token in printed.decode() for token in instance.tokens.values())
