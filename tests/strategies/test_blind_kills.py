"""A member of mode `he` killed with SIGKILL between the statements of what it keeps: nothing lost, nothing twice."""

from __future__ import annotations

import threading
from pathlib import Path
from random import Random

import pytest
from blind_jobs import BlindJob
from federation import JOB
from killed_member import KilledMember
from masked_jobs import Node

from hansa.clients.held import HeldJobs
from hansa.contract.blind_messages import Held
from hansa.contract.messages import ApplyReply, JobReply, KeysReply, Request, UploadReply
from hansa.contract.wire import reply_header, unpack
from hansa.strategies import blind_keys, roster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = 40
# So many rounds it lives through at the end, and comes in again.
QUIET = 4


class Killed:
    """Member a, in the place of its node: one process after the other, each held against what the ones before said."""

    def __init__(self, job: BlindJob, seed: int) -> None:
        job.agents["a"].close()
        log = Path(job._logs.name) / "a.sqlite"
        self.job, self.random = job, Random(seed)
        self.held = log.with_suffix(".held.sqlite")
        self.member = KilledMember(job.simulated, "a", log)
        self.deaths: list[str] = []
        self.lock = threading.Lock()
        # What it said last that it holds, and whether an upload left.
        self.said, self.uploaded = Held(), False
        self.next()

    def next(self) -> None:
        quiet = self.job.job.round >= ROUNDS - QUIET
        # A start is some twenty points, keys twenty more, a round some thirty.
        most = self.random.choice([20, 50, 80]) if self.said.ready else 45
        self.member.live(10**9 if quiet else self.random.randint(1, most))

    def __call__(self, body: Request, _: Node, payload: bytes) -> bytes:
        with self.lock:
            return self.asked(body, payload)

    def asked(self, body: Request, payload: bytes) -> bytes:
        answer = self.heard(body.type, payload)
        if not answer:
            raise ConnectionError("killed")
        if body.type == "apply":
            # What a server asks again whose answer was lost; it comes to the same.
            said = self.said
            self.heard("apply again", payload)
            assert self.said == said, "a sum was applied twice"
        return answer

    def heard(self, kind: str, payload: bytes) -> bytes:
        """What it answers, noted; empty where it died over it."""
        if answer := self.member.ask(payload):
            self.hear(reply_header(unpack(answer)).body)
            return answer
        self.deaths.append(kind)
        self.look()
        self.next()
        return b""

    def hear(self, body: object) -> None:
        if isinstance(body, JobReply):
            # No more than it said before, or what it kept when it died over a request.
            assert body.held.ready or not self.said.ready
            self.said = body.held
        elif isinstance(body, KeysReply):
            changed = {"epoch": body.epoch, "maker": body.maker, "ready": body.ready}
            self.said = self.said.model_copy(update=changed)
        elif isinstance(body, ApplyReply):
            self.said = self.said.model_copy(update={"round": body.round, "tag": body.tag})
        elif isinstance(body, UploadReply):
            self.uploaded = True

    def look(self) -> None:
        """Its file, now that nobody has it open."""
        held = HeldJobs(self.held)
        keys, states = held.keys(JOB), held.states(JOB)
        held.close()
        if self.said.tag:
            assert (self.said.round, self.said.tag) in [(it.round, it.tag) for it in states], (
                "a state was lost"
            )
        if self.said.ready:
            assert keys is not None
            assert (keys.epoch, keys.maker, keys.ready) == (self.said.epoch, self.said.maker, True)
        assert not self.uploaded or (keys is not None and keys.used), (
            "keys under which it uploaded are free again"
        )


@pytest.mark.parametrize("seed", [20270101, 20270102])
def test_killed_between_any_two_statements_a_member_loses_no_state_and_applies_none_twice(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not shortened: a new process takes a while, and has to be there for the last round.
    monkeypatch.setattr(blind_keys, "AGAIN_S", 0.0)
    monkeypatch.setattr(roster, "HELLO_AGAIN_S", 0.0)
    job = BlindJob(rounds=ROUNDS)
    killed = Killed(job, seed)
    job.faults["a"] = killed
    try:
        job.run()
    finally:
        killed.member.close()
    job.restart("a")
    job.assert_alike()
    assert job.events("other-model") == []
    assert job.events("bad-sum") == []
    # At what each round does with its file, and often enough; `test_held` has every single statement.
    assert {"attempt", "apply", "apply again"} <= set(killed.deaths), killed.deaths
    assert len(killed.deaths) >= ROUNDS // 4, killed.deaths
