"""The list of connections against what Compose allows and what the code has as defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hansa.contract.scenario import MemberConfig
from hansa.server.config import ServerConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "connections.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith(("| from", "|---"))
]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
ADDRESS = re.compile(r"(?:http://)?([a-z][a-z-]*):(\d{4,5})\b")
LISTENS = {"--inner", "--fleet", "--metrics", "--server"}


def role(service: str) -> str:
    return "node" if service.startswith("node-") else "agent" if service.startswith("agent-") else service


def listed() -> set[tuple[str, str, str]]:
    """(from, to, port) of the page."""
    found = set()
    for start, to, ports, *_ in ROWS:
        for one in start.split(", "):
            for place, target in enumerate(to.split(", ")):
                given = ports.split(", ")
                found.add((one, target, given[min(place, len(given) - 1)]))
    return found


def opened() -> set[tuple[str, str, str]]:
    """(from, to, port) that Compose's command lines and environments name."""
    found = set()
    for name, it in SERVICES.items():
        words = [*it.get("entrypoint", []), *(str(value) for value in (it.get("environment") or {}).values())]
        for before, word in zip(["", *words], words, strict=False):
            for host, port in ADDRESS.findall(str(word)):
                # What it listens on itself, or writes for others to dial.
                own = host.removesuffix("-inner") == name or name == "provision"
                if not own and before not in LISTENS - {"--server"}:
                    found.add((role(name), host.removesuffix("-inner"), port))
    return found


def test_what_compose_opens_is_on_the_page() -> None:
    found = opened()
    assert {("node", "superlink", "9443"), ("sidecar", "control", "9480")} <= found
    known = {(a, b, c) for a, b, c in listed()} | {
        ("executor", "control", "9480"),
        ("job", "control", "9480"),
    }
    # A ServerApp is a process of the executor; `job` is the hansa command.
    assert ("serverapp", "control", "9480") in known
    assert found <= known


def test_who_is_on_no_common_network_is_connected_by_nothing() -> None:
    networks = {}
    for name, it in SERVICES.items():
        networks.setdefault(role(name), set()).update(it.get("networks") or [])
    assert networks["agent"] == set()
    for start, to, port in listed():
        if port.isdigit() and start in networks and to in networks:
            assert networks[start] & networks[to], f"{start} cannot reach {to}"
    assert not networks["node"] & networks["control"]


def test_nothing_leaves_an_agent_on_the_page_but_the_first_reading() -> None:
    assert [(to, port) for start, to, port in listed() if start == "agent"] == [
        ("database of the organisation", "as named")
    ]


@pytest.mark.parametrize(
    ("field", "who"), [("superlink", "superlink"), ("fleet", "superlink"), ("control", "control")]
)
def test_the_ports_are_the_defaults(field: str, who: str) -> None:
    port = ServerConfig.model_fields[field].default.rpartition(":")[2]
    assert any(to == who and at == port for _, to, at in listed())


def test_the_sockets_are_the_members() -> None:
    for field in ("work_socket", "admin_socket"):
        assert MemberConfig.model_fields[field].default in {port for _, _, port in listed()}
