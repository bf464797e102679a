"""A real agent process of mode `masked`, killed with SIGKILL after its upload and started again over its folder."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from federation import make_plan

from hansa.cli.provisioning import provision
from hansa.clients.agent import build
from hansa.contract.charter import Protection
from hansa.contract.frames import WorkSocket
from hansa.contract.keys import SigningKey
from hansa.contract.library import scenario_folder
from hansa.contract.messages import (
    PREKEYS,
    AgreeRequest,
    HelloReply,
    HelloRequest,
    JobReply,
    JobRequest,
    Order,
    RefusalReply,
    Reply,
    RequestHeader,
    TrainRequest,
    UploadReply,
    WitnessReply,
    WitnessRequest,
)
from hansa.contract.scenario import MemberConfig, read_scenario
from hansa.contract.typed import read_toml
from hansa.contract.wire import Segments, describe, reply_header, seal, segments_of, unpack
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import Prekey, decode_prekeys

pytestmark = pytest.mark.slow


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The agent of a member's folder, ready to answer; killed at the end."""
    ready = folder / "ready"
    ready.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "hansa.clients.agent",
        "--folder",
        str(folder),
        "--ready-file",
        str(ready),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_killed_process_sends_its_upload_again_and_nothing_else(tmp_path: Path) -> None:
    scenario, features = read_scenario(scenario_folder("hospitals"))
    masked = scenario.model_copy(
        update={"protection": Protection(mode="masked"), "members": scenario.members[:3]}
    )
    instance = provision(masked, features, origin=tmp_path, out=tmp_path / "one")
    victim, *others = instance.members
    folder, operator = instance.member_path(victim), SigningKey.load(instance.control / "operator.key")
    configs = {name: read_toml(instance.member_path(name) / "member.toml", MemberConfig) for name in others}
    peers = {name: build(instance.member_path(name), configs[name], isolated=False) for name in others}
    membership = peers[others[0]].membership
    charter, parties = membership.charter, Parties.of(membership.charter, membership.charter_hash)
    socket = WorkSocket(folder / read_toml(folder / "member.toml", MemberConfig).work_socket)

    def ask(name: str, payload: bytes) -> tuple[Reply, Segments, bytes]:
        raw = socket.ask(payload, 30) if name == victim else peers[name].handle(payload)
        packed = unpack(raw)
        header = reply_header(packed)
        return header.body, segments_of(packed, header.segments), raw

    def request(body: object, segments: Segments | None = None) -> bytes:
        header = RequestHeader(
            charter=membership.charter_hash,
            body=body,  # type: ignore[arg-type]
            segments=describe(segments or {}),
        )
        return seal(header, segments or {}, operator)

    def exchange() -> dict[str, Prekey]:
        """Everybody signs everybody's start; one fresh prekey of each."""
        starts, fresh = {}, {}
        for name in instance.members:
            body, _, _ = ask(name, request(HelloRequest(nonce="n")))
            assert isinstance(body, HelloReply)
            starts[name] = body.start
        for name in instance.members:
            asked = {peer: start for peer, start in starts.items() if peer != name}
            body, _, _ = ask(name, request(WitnessRequest(starts=asked)))
            assert isinstance(body, WitnessReply)
            for word in body.witnesses:
                assert not isinstance(
                    ask(word.member, request(WitnessRequest(shown=(word,))))[0], RefusalReply
                )
        for name in instance.members:
            _, segments, _ = ask(name, request(WitnessRequest(prekeys=1)))
            (fresh[name],) = decode_prekeys(segments[PREKEYS].data, parties, 1)
        return fresh

    noise: dict[str, float] = {}

    def train(number: int, prekeys: dict[str, Prekey]) -> bytes:
        content = b"".join(prekeys[name].encoded for name in instance.members)
        weights = np.zeros(peers[others[0]]._work.parameters)
        arrays = {"weights": weights, PREKEYS: np.frombuffer(content, np.uint8)}
        order = Order(
            job=make_plan().job,
            attempt=number,
            kind="train",
            base=0,
            cohort=tuple(instance.members),
            prekeys={name: prekey.number for name, prekey in prekeys.items()},
            noise=noise,
            knobs={name: knob.default for name, knob in charter.knobs.items()},
            arrays={it.name: it.sha256 for it in describe(arrays)},
        )
        return request(TrainRequest(order=order), arrays)

    agree = request(AgreeRequest(job=make_plan().job, attempt=1, active=tuple(instance.members)))
    try:
        with running(folder):
            first = exchange()
            for name in instance.members:
                approved, _, _ = ask(name, request(JobRequest(plan=make_plan())))
                assert isinstance(approved, JobReply)
                noise["update"] = max(noise.get("update", 0.0), approved.noise.get("update", 0.0))
            asked = train(1, first)
            body, _, upload = ask(victim, asked)
            assert isinstance(body, UploadReply), body
        with running(folder):
            assert ask(victim, asked)[2] == upload
            for lie, code in ((agree, "attempt-lost"), (train(2, first), "prekey-unknown")):
                body, _, _ = ask(victim, lie)
                assert isinstance(body, RefusalReply)
                assert body.code == code
            second = exchange()
            body, _, _ = ask(victim, train(3, second | {others[0]: first[others[0]]}))
            assert isinstance(body, RefusalReply)
            assert body.code == "prekey-unknown"
            assert isinstance(ask(victim, train(3, second))[0], UploadReply)
    finally:
        for peer in peers.values():
            peer.attempts.close()
