"""The systemd units: what they start parses, what they promise stands in them, and systemd itself reads them."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = sorted((Path(__file__).parent.parent.parent / "deploy" / "systemd").glob("*.service"))
HARDENING = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "CapabilityBoundingSet": "",
    "SystemCallArchitectures": "native",
}
ROLES = {"superlink", "control", "executor", "sidecar", "scaler", "agent@", "node@", "scoring@"}


def directives(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def command(path: Path) -> list[str]:
    started = (
        directives(path)["ExecStart"].replace("%i", "kontor-bank").replace("${HANSA_SERVER}", "a.org:9443")
    )
    return shlex.split(started)


def test_every_role_has_a_unit() -> None:
    assert {it.name.removeprefix("hansa-").removesuffix(".service") for it in UNITS} == ROLES


@pytest.mark.slow
@pytest.mark.parametrize("path", UNITS, ids=lambda it: it.stem)
def test_what_it_starts_takes_these_options(path: Path) -> None:
    python, *options, module_option, module = command(path)[: command(path).index("-m") + 2]
    assert (python, options, module_option) == ("/opt/hansa/bin/python3", ["-P", "-u"], "-m")
    arguments = command(path)[command(path).index("-m") + 2 :]
    if module == "hansa.cli":
        shown = subprocess.run(
            [sys.executable, "-m", module, *arguments[:2], "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "200", "PATH": "/usr/bin:/bin"},
        )
        assert all(it in shown.stdout for it in arguments[2:] if it.startswith("--"))
        return
    name = (
        f"{module}.__main__"
        if module in ("hansa.sidecar", "hansa.server.control", "hansa.clients.scoring")
        else module
    )
    parsed = importlib.import_module(name)
    if hasattr(parsed, "_parse"):
        parsed._parse(arguments)
    else:
        shown = subprocess.run(
            [sys.executable, "-m", name, "--help"], capture_output=True, text=True, check=True
        )
        assert all(it in shown.stdout for it in arguments if it.startswith("--"))


@pytest.mark.parametrize("path", UNITS, ids=lambda it: it.stem)
def test_it_is_hardened_and_no_user_is_root(path: Path) -> None:
    found = directives(path)
    assert {name: found[name] for name in HARDENING} == HARDENING
    assert found["User"].startswith("hansa-")
    assert found["RestartPreventExitStatus"] == "2"
    assert re.fullmatch(r"\d+M", found["MemoryMax"])


def test_the_agent_has_no_network_and_the_node_no_data() -> None:
    agent, node = (
        next(it for it in UNITS if it.name.startswith(f"hansa-{role}@")) for role in ("agent", "node")
    )
    assert directives(agent)["PrivateNetwork"] == "yes"
    assert directives(agent)["RestrictAddressFamilies"] == "AF_UNIX AF_NETLINK"
    assert directives(agent)["User"] != directives(node)["User"]
    assert directives(node)["TemporaryFileSystem"] == "/var/lib/hansa-member"
    assert "ledger" not in node.read_text()


def test_nothing_with_a_network_beside_an_agent_reads_its_figures() -> None:
    beside = {it.stem: directives(it) for it in UNITS if it.stem.endswith("@")}
    folder = Path(command(next(it for it in UNITS if it.stem == "hansa-agent@"))[-1]).parent
    networked = {name for name, it in beside.items() if it.get("PrivateNetwork") != "yes"}
    assert networked == {"hansa-node@", "hansa-scoring@"}
    for name in networked:
        assert beside[name]["InaccessiblePaths"] == f"-{folder}"
    installed = (UNITS[0].parents[2] / "docs" / "operations.md").read_text()
    assert f"install -d -m 2750 -o hansa-agent -g node_exporter {folder}" in installed


def test_control_alone_reads_the_operators_key() -> None:
    users = {it.stem: directives(it)["User"] for it in UNITS}
    assert [name for name, user in users.items() if user == users["hansa-control"]] == ["hansa-control"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_reads_every_directive(tmp_path: Path) -> None:
    for path in UNITS:
        # The program itself is not installed on this machine.
        text = (
            path.read_text()
            .replace("/opt/hansa/bin/python3", sys.executable)
            .replace("/opt/hansa/docs", "/usr")
        )
        name = path.name.replace("@.", "@kontor-bank.")
        (tmp_path / name).write_text(text)
        (tmp_path / path.name).write_text(text)
    names = [str(tmp_path / path.name.replace("@.", "@kontor-bank.")) for path in UNITS]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if "hansa-" in line]
    assert said == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_finds_little_exposed(tmp_path: Path) -> None:
    for path in UNITS:
        copy = tmp_path / path.name.replace("@.", "@x.")
        copy.write_text(path.read_text())
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(copy)],
            capture_output=True,
            text=True,
        )
        found = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
        if found is None:
            pytest.skip(f"this systemd-analyze looks at no files: {done.stderr[:80]}")
        assert float(found.group(1)) <= 3.0, path.name
