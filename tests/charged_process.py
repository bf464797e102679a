"""A real agent process with a budget, in mode `clear`, and who talks to it: for kills and traces."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from federation import make_plan

from hansa.cli.provisioning import provision
from hansa.clients.attempt_log import Upload
from hansa.clients.ledger import LEDGER, read_rows
from hansa.clients.uploads import AGENT_RECORDS, read_uploads
from hansa.contract.charter import Charter, MetricsPolicy, PrivacyPlan, Protection
from hansa.contract.frames import WorkSocket
from hansa.contract.jobs import JobPlan
from hansa.contract.keys import SigningKey, to_text
from hansa.contract.library import scenario_folder
from hansa.contract.messages import (
    HelloReply,
    HelloRequest,
    JobReply,
    JobRequest,
    Order,
    Reply,
    RequestHeader,
    TrainRequest,
    WitnessReply,
    WitnessRequest,
)
from hansa.contract.messages import Witness as Word
from hansa.contract.scenario import FirstGrant, MemberConfig, read_scenario
from hansa.contract.signatures import verify_charter
from hansa.contract.statements import witness_statement
from hansa.contract.typed import read_toml
from hansa.contract.wire import Segments, describe, reply_header, seal, unpack
from hansa.models.registry import load_model
from hansa.privacy.records import ChargeRow, Row

AGENT = (sys.executable, "-m", "hansa.clients.agent")


@dataclass
class ChargedProcess:
    """The folder of one member of three, its operator's key, and a job over many cheap rounds."""

    root: Path
    rounds: int = 400
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        scenario, features = read_scenario(scenario_folder("hospitals"))
        small = scenario.model_copy(
            update={
                "protection": Protection(mode="clear"),
                "privacy": PrivacyPlan(noise="local"),
                "grant": FirstGrant(),
                "metrics": MetricsPolicy(seconds_floor=0),
                "members": scenario.members[:3],
            }
        )
        instance = provision(small, features, origin=self.root, out=self.root / "one")
        self.folder = instance.member_path(instance.members[0])
        self.config = read_toml(self.folder / "member.toml", MemberConfig)
        self.peers = {
            name: SigningKey.load(instance.member_path(name) / "identity.key")
            for name in instance.members[1:]
        }
        self.operator = SigningKey.load(instance.control / "operator.key")
        verified = verify_charter(instance.charter, instance.signatures)
        self.charter: Charter = verified.charter
        self.hash = verified.hash
        self.plan: JobPlan = make_plan(self.rounds)
        self.weights = np.zeros(load_model(self.charter.task.model, self.charter.task.features).parameters)
        self.noise: dict[str, float] = {}

    @contextmanager
    def running(self, command: Sequence[str] = AGENT) -> Iterator[subprocess.Popen[bytes]]:
        """The agent, ready to answer; killed at the end."""
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        process = subprocess.Popen(
            [*command, "--folder", str(self.folder), "--ready-file", str(ready)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 60
            while not ready.exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            self._witness()
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def request(self, body: object, segments: Segments | None = None) -> bytes:
        """Bytes that the operator signed."""
        header = RequestHeader(charter=self.hash, body=body, segments=describe(segments or {}))  # type: ignore[arg-type]
        return seal(header, segments or {}, self.operator)

    def _witness(self) -> None:
        """The other members sign the agent's start; without that it takes part in nothing."""
        hello = read(self.send(self.request(HelloRequest(nonce="hello"))))
        assert isinstance(hello, HelloReply), hello
        words = []
        for name, key in self.peers.items():
            word = Word(witness=name, member=self.config.name, start=hello.start, made="00" * 16, first=0)
            signature = to_text(key.sign(witness_statement(self.hash, word)))
            words.append(word.model_copy(update={"signature": signature}))
        said = read(self.send(self.request(WitnessRequest(shown=tuple(words)))))
        assert isinstance(said, WitnessReply), said

    def propose(self) -> None:
        """Show the job; learn the member's noise."""
        body = read(self.send(self.request(JobRequest(plan=self.plan))))
        assert isinstance(body, JobReply), body
        self.noise = body.noise

    def order(self, number: int, *, evaluate: bool = False) -> bytes:
        """A request to train."""
        arrays = {"weights": self.weights}
        order = Order(
            job=self.plan.job,
            attempt=number,
            kind="train",
            base=0,
            cohort=tuple(member.name for member in self.charter.members),
            knobs={name: knob.default for name, knob in self.charter.knobs.items()},
            noise=self.noise,
            evaluate=evaluate,
            arrays={it.name: it.sha256 for it in describe(arrays)},
        )
        return self.request(TrainRequest(order=order), arrays)

    def send(self, payload: bytes) -> bytes:
        """Ask the node's socket; whatever comes back before it closes, also a part of an answer."""
        answer = bytearray()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(30)
                connection.connect(str(self.folder / self.config.work_socket))
                connection.sendall(struct.pack(">I", len(payload)) + payload)
                while part := connection.recv(1 << 16):
                    answer += part
        except (ConnectionError, FileNotFoundError):
            pass
        return bytes(answer)

    def command(self, command: str, **arguments: object) -> dict[str, Any]:
        """The organisation's own word."""
        payload = json.dumps({"command": command, **arguments}).encode()
        found: dict[str, Any] = json.loads(
            WorkSocket(self.folder / self.config.admin_socket).ask(payload, 30)
        )
        assert found["ok"], found
        return found

    def rows(self) -> list[Row]:
        """What stands in the ledger's file."""
        return list(read_rows(self.folder / LEDGER))

    def charges(self) -> list[ChargeRow]:
        """The charges among the rows."""
        return [row.body for row in self.rows() if isinstance(row.body, ChargeRow)]

    def record(self) -> list[Upload]:
        """The agent's own record of what may have left."""
        return list(read_uploads(self.folder / AGENT_RECORDS))

    def uploads(self) -> set[int]:
        """Attempts whose upload may have left."""
        return {it.attempt for it in self.record()}


def read(answer: bytes) -> Reply:
    """The body of a whole answer, its frame's length before it."""
    assert struct.unpack(">I", answer[:4]) == (len(answer) - 4,)
    return reply_header(unpack(answer[4:])).body


def is_whole(answer: bytes) -> bool:
    """Whether all of a frame came."""
    return len(answer) >= 4 and struct.unpack(">I", answer[:4]) == (len(answer) - 4,)
