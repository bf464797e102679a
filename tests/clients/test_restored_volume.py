"""Real agent processes, one of whose data volumes is put back as it was yesterday."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from noised_side import NoisedServer

from hansa.cli.instance import Instance
from hansa.cli.provisioning import provision
from hansa.clients.ledger import LEDGER, read_rows
from hansa.contract.charter import MetricsPolicy, PrivacyPlan, Protection
from hansa.contract.frames import WorkSocket
from hansa.contract.keys import SigningKey
from hansa.contract.library import scenario_folder
from hansa.contract.messages import RefusalReply
from hansa.contract.scenario import FirstGrant, MemberConfig, read_scenario
from hansa.contract.signatures import verify_charter
from hansa.contract.typed import read_toml
from hansa.models.registry import load_model
from hansa.privacy.records import ChargeRow
from hansa.privacy.verify import verify


@dataclass
class Process:
    """One member's agent process, asked through its two sockets."""

    folder: Path
    membership: Any
    _process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.config = read_toml(self.folder / "member.toml", MemberConfig)
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "hansa.clients.agent", "--folder", str(self.folder)]
        self._process = subprocess.Popen(
            [*command, "--ready-file", str(ready)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def handle(self, payload: bytes) -> bytes:
        return WorkSocket(self.folder / self.config.work_socket).ask(payload, 60)

    def command(self, command: str, **arguments: object) -> dict[str, Any]:
        payload = json.dumps({"command": command, **arguments}).encode()
        found: dict[str, Any] = json.loads(
            WorkSocket(self.folder / self.config.admin_socket).ask(payload, 60)
        )
        return found

    def close(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def spent(self) -> float:
        rows = read_rows(self.folder / LEDGER)
        return sum(it.body.amount for it in rows if isinstance(it.body, ChargeRow))


@dataclass
class Provisioned:
    """What the server's side of a test needs of a federation, from an instance's folders."""

    instance: Instance

    def __post_init__(self) -> None:
        verified = verify_charter(self.instance.charter, self.instance.signatures)
        self.charter, self.hash = verified.charter, verified.hash
        self.operator = SigningKey.load(self.instance.control / "operator.key")
        self.model = load_model(self.charter.task.model, self.charter.task.features)
        self.records = {member.name: None for member in self.charter.members}

    def agent(self, name: str, *_: object) -> Process:
        folder = self.instance.member_path(name)
        identity = SigningKey.load(folder / "identity.key")
        return Process(folder, SimpleNamespace(name=name, identity=identity))


def provisioned(root: Path) -> Provisioned:
    scenario, features = read_scenario(scenario_folder("hospitals"))
    small = scenario.model_copy(
        update={
            "protection": Protection(mode="masked"),
            "privacy": PrivacyPlan(noise="local"),
            "grant": FirstGrant(),
            "metrics": MetricsPolicy(seconds_floor=0),
            "members": scenario.members[:3],
        }
    )
    return Provisioned(provision(small, features, origin=root, out=root / "one"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_volume_restored_from_yesterday_charges_nothing_until_it_is_recovered(tmp_path: Path) -> None:
    federation = provisioned(tmp_path)
    server = NoisedServer(federation)  # type: ignore[arg-type]
    agents: dict[str, Process] = server.agents  # type: ignore[assignment]
    victim = list(agents)[-1]
    try:
        first = server.round(1)
        agents[victim].close()
        folder, copy = agents[victim].folder, tmp_path / "yesterday"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.sock"))
        agents[victim] = federation.agent(victim)
        server.exchange(victim)
        second = server.round(2, first)
        server.round(3, second)
        spent = agents[victim].spent()

        agents[victim].close()
        shutil.rmtree(folder)
        shutil.copytree(copy, folder)
        agents[victim] = federation.agent(victim)
        older = agents[victim].spent()
        assert older == pytest.approx(spent / 3)
        assert agents[victim].command("status")["missing"] == ""
        server.exchange(victim)
        assert "hansa budgets recover" in agents[victim].command("status")["missing"]
        answer = server.send(victim, server.start(4).request).body
        assert isinstance(answer, RefusalReply)
        assert answer.code == "ledger-behind-witness"
        assert agents[victim].spent() == older

        assert agents[victim].command("recover", by="officer", reason="restored")["ok"]
        assert agents[victim].spent() == pytest.approx(spent)
        server.exchange()
        server.round(5)
        assert agents[victim].spent() == pytest.approx(spent * 4 / 3)
        assert verify(read_rows(folder / LEDGER)).rows > 0
    finally:
        for agent in agents.values():
            agent.close()
