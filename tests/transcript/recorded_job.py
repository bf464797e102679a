"""A recorded job with real agents, and the truth that only the members know."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from attacker import Colluder, Total, centred
from blind_truth import HeldTruth, noted_by_members
from federation import JOB, make_federation, make_plan
from numpy.typing import NDArray
from recorded import Recorder, Transcript
from server_half import serve, write_settings

from hansa.cli.simulation import SimulatedFederation
from hansa.clients import attempt as local_attempt
from hansa.clients.data.dataset import Dataset
from hansa.clients.data.split import split
from hansa.clients.protocol import Agent
from hansa.clients.work import Work
from hansa.contract.charter import Mode, ModelChoice, Task
from hansa.contract.features import BinaryLabel, FeatureContract, NumericColumn
from hansa.contract.frames import serve_frames
from hansa.contract.jobs import JobPlan
from hansa.contract.messages import Order, Request, TrainRequest, UnmaskRequest
from hansa.contract.segments import HE_PRIME, UPDATE, WORD_MODULUS
from hansa.contract.wire import Segments, request_header, unpack
from hansa.models.registry import load_model
from hansa.secagg import ring as members_side
from hansa.secagg.prekeys import PrekeySecrets
from hansa.server.records import AttemptRecord
from hansa.server.store import open_store

COLUMNS, ROWS = 199, 120
# Attempt number -> (members, each a letter, and what becomes of them): silent, late or vanishes.
Script = Mapping[int, tuple[str, str]]
_FEATURES = FeatureContract(
    columns=tuple(NumericColumn(name=f"x{number}", low=-2, high=2) for number in range(COLUMNS)),
    label=BinaryLabel(),
)


def wide_federation(members: int = 5, mode: Mode = "masked", **charter: object) -> SimulatedFederation:
    """A federation whose model has so many weights that a random sum never looks like a true one."""
    task = Task(title="test", features=_FEATURES, model=ModelChoice(name="linear"))
    made = make_federation(members, mode=mode, rows=ROWS, task=task, **charter)
    records = {
        name: split(_records(seed), secret=name.encode(), holdout=0.2)
        for seed, name in enumerate(made.records)
    }
    return replace(made, model=load_model(task.model, _FEATURES), records=records)


def _records(seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, size=(ROWS, COLUMNS))
    y = (X[:, 0] - X[:, 1] + rng.logistic(size=ROWS) > 0).astype(np.float64)
    return Dataset(X, y, np.array([f"{seed}-{row}".encode() for row in range(ROWS)]))


@dataclass
class Truth:
    """What members computed and made, noted where it comes into being."""

    # (member, attempt) -> plain upload.
    plain: dict[tuple[str, int], dict[str, NDArray[np.uint32]]] = field(default_factory=dict)
    # (member, update as real numbers)
    real: list[tuple[str, NDArray[np.float64]]] = field(default_factory=list)
    prekeys: list[PrekeySecrets] = field(default_factory=list)
    # Whether updates are summed modulo p: mode `he`.
    blind: bool = False
    held: HeldTruth = field(default_factory=HeldTruth)

    def modulus(self, segment: str) -> int:
        """What a segment is summed by."""
        return HE_PRIME if self.blind and segment == UPDATE else WORD_MODULUS

    def total(self, attempt: int, members: Sequence[str], segment: str) -> Total:
        """The true sum of these members' integers."""
        modulus = self.modulus(segment)
        return sum(
            (centred(self.plain[name, attempt][segment], modulus) for name in members),
            start=np.zeros(1, np.int64),
        )

    def colluder(self, federation: SimulatedFederation, name: str) -> Colluder:
        """All that one member's agent held."""
        index = list(federation.records).index(name)
        return Colluder(
            name=name,
            sealing_key=federation.sealing_keys[name],
            prekeys=tuple(it for it in self.prekeys if it.prekey.maker == index),
            plain={attempt: part for (member, attempt), part in self.plain.items() if member == name},
        )


@dataclass
class _NotedWork:
    """A member's work; notes each upload before it is masked in place."""

    name: str
    work: Work
    truth: Truth

    @property
    def parameters(self) -> int:
        return self.work.parameters

    def check(self, order: Order, segments: Segments) -> None:
        self.work.check(order, segments)

    def check_preparation(self, segments: Segments) -> None:
        self.work.check_preparation(segments)

    def run(self, plan: JobPlan, order: Order, segments: Segments, noise: Mapping[str, float]) -> Segments:
        made = self.work.run(plan, order, segments, noise)
        self.truth.plain[self.name, order.attempt] = {name: part.copy() for name, part in made.items()}
        return made

    def keep(self, plan: JobPlan, segments: Segments, rounds: int) -> None:
        self.work.keep(plan, segments, rounds)


@contextmanager
def noted(truth: Truth) -> Iterator[None]:
    """While this lasts, every prekey that is made and every update that is computed goes into `truth`."""
    make, compute = members_side.make_prekey, local_attempt.local_update

    def made(*args: object, **named: object) -> PrekeySecrets:
        truth.prekeys.append(make(*args, **named))  # type: ignore[arg-type]
        return truth.prekeys[-1]

    def computed(*args: object, **named: object) -> NDArray[np.float64]:
        update = compute(*args, **named)  # type: ignore[arg-type]
        truth.real.append((str(named["member"]), update.copy()))
        return update

    with noted_by_members(truth.held), pytest.MonkeyPatch.context() as patch:
        patch.setattr(members_side, "make_prekey", made)
        patch.setattr(local_attempt, "local_update", computed)
        yield


def note_work(agent: Agent, truth: Truth) -> Agent:
    """Have an agent's uploads noted."""
    agent._work = _NotedWork(agent.membership.name, agent._work, truth)
    return agent


@dataclass
class RecordedJob:
    """A job that is over."""

    federation: SimulatedFederation
    plan: JobPlan
    transcript: Transcript
    truth: Truth
    attempts: list[AttemptRecord]
    weights: NDArray[np.float64]


class _Members:
    """The agents behind their nodes, with what befalls them."""

    def __init__(
        self, federation: SimulatedFederation, truth: Truth, recorder: Recorder, script: Script
    ) -> None:
        self._agents = {name: note_work(agent, truth) for name, agent in federation.agents().items()}
        self._recorder = recorder
        self._script = script
        self._opening: defaultdict[int, threading.Event] = defaultdict(threading.Event)

    def answer(self, name: str, payload: bytes) -> bytes:
        """What comes back from a member's node, when it comes back; an error where its connection broke."""
        self._recorder.frame(name, "to-member", payload)
        body = request_header(unpack(payload)).body
        attempt = _attempt_of(body)
        if isinstance(body, UnmaskRequest) and not self._opening[attempt].is_set():
            # The uploads are in the sum now, and no secret is known yet.
            self._recorder.look()
            self._opening[attempt].set()
        members, fate = self._script.get(attempt, ("", ""))
        if name in members and (
            (fate == "silent" and isinstance(body, TrainRequest))
            or (fate == "vanishes" and isinstance(body, UnmaskRequest))
        ):
            raise ConnectionError(f"{name} is gone")
        answer = self._agents[name].handle(payload)
        if name in members and fate == "late" and isinstance(body, TrainRequest):
            # Only when the others are asked to open the sum without this member.
            assert self._opening[attempt].wait(60.0)
        self._recorder.frame(name, "to-server", answer)
        return answer


def _attempt_of(body: Request) -> int:
    return body.order.attempt if isinstance(body, TrainRequest) else getattr(body, "attempt", 0)


def run_recorded(
    folder: Path,
    federation: SimulatedFederation,
    *,
    rounds: int,
    script: Script | None = None,
    own_process: bool = False,
    deadline_s: float = 8.0,
) -> RecordedJob:
    """Run a job to its end and record it; the server in this process, or in one whose memory is looked at.

    Parameters
    ----------
    deadline_s : so long members have to upload; the job waits for it where one is late
    """
    server = folder / "server"
    server.mkdir()
    plan = make_plan(rounds, deadline_s=deadline_s, reask_s=deadline_s)
    write_settings(server, federation.charter, federation.hash, federation.operator, plan)
    blind = federation.charter.protection.blind
    recorder, truth = Recorder(server), Truth(blind=blind)
    with noted(truth):
        members = _Members(federation, truth, recorder, script or {})
        if own_process:
            _serve_apart(server, list(federation.records), members, recorder)
        else:
            _serve_here(server, list(federation.records), members, recorder)
    recorder.pid = None
    recorder.look()
    store = open_store(f"sqlite:///{server}/store.sqlite")
    try:
        job = store.jobs.get(JOB)
        assert job.status == "finished", job.reason
        state = store.history.checkpoint(JOB, rounds)
        assert state is not None
        assert ("weights" in state) != blind
        weights = truth.held.state(rounds).weights if blind else state["weights"]
        return RecordedJob(federation, plan, recorder.transcript, truth, store.history.attempts(JOB), weights)
    finally:
        store.close()


def _serve_here(server: Path, names: Sequence[str], members: _Members, recorder: Recorder) -> None:
    """The server in this process: its log takes in what the agents log, too."""
    nodes = {
        number: lambda payload, name=name: members.answer(name, payload)
        for number, name in enumerate(names, start=1)
    }
    handler = logging.FileHandler(server / "server.log")
    root = logging.getLogger()
    level = root.level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(server / "tmp"))
        patch.setenv("TMPDIR", str(server / "tmp"))
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            serve(server, nodes, recorder.look)
        finally:
            root.setLevel(level)
            root.removeHandler(handler)
            handler.close()


def _serve_apart(server: Path, names: Sequence[str], members: _Members, recorder: Recorder) -> None:
    """The server in a process of its own, which knows of the members what comes through their sockets."""
    (server / "nodes").mkdir()

    def online(_payload: bytes, _peer: object) -> bytes:
        recorder.look()
        return b"all"

    with ExitStack() as sockets:
        for name in names:
            handler = lambda payload, _, name=name: members.answer(name, payload)  # noqa: E731
            sockets.enter_context(serve_frames(server / "nodes" / f"{name}.sock", handler, 0o600))
        sockets.enter_context(serve_frames(server / "superlink.sock", online, 0o600))
        here = Path(__file__).parent
        with (server / "output").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(here / "server_half.py"), str(server)],
                env={**os.environ, "TMPDIR": str(server / "tmp")},
                stdout=output,
                stderr=output,
            )
            recorder.pid = process.pid
            try:
                assert process.wait(100) == 0, (server / "output").read_text()
            finally:
                process.kill()
                process.wait()
