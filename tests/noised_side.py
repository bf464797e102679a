"""The server's side of noised, masked attempts for tests, over agents whose files last: budgets are real here."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from federation import JOB, make_federation, make_plan, request
from masked_side import Answer, Attempt, MaskedServer

from hansa.cli.simulation import SimulatedFederation
from hansa.clients.protocol import Agent
from hansa.contract.charter import PrivacyPlan
from hansa.contract.messages import (
    PREKEYS,
    Finish,
    JobReply,
    JobRequest,
    Order,
    Seen,
    TrainRequest,
    UnmaskReply,
)
from hansa.contract.scenario import FirstGrant
from hansa.secagg.finishing import make_finish


@dataclass(frozen=True)
class OnDisk(SimulatedFederation):
    """A federation each of whose members has a folder of its own."""

    root: Path = Path()

    def agent(self, name: str, *_: object) -> Agent:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return super().agent(name, folder / "agent.sqlite", folder / "ledger.sqlite", folder / "heads.sqlite")


def on_disk(root: Path, members: int = 4, **charter: object) -> OnDisk:
    """Members with noise `local`, a grant of epsilon 8 each, and a folder each."""
    options = {"mode": "masked", "privacy": PrivacyPlan(noise="local"), **charter}
    made = make_federation(members, **options)  # type: ignore[arg-type]
    fields = {it.name: getattr(made, it.name) for it in dataclasses.fields(made)}
    return OnDisk(**{**fields, "grant": FirstGrant(), "root": root})


class NoisedServer(MaskedServer):
    """Talks to agents as the operator; knows how much noise each adds."""

    def __init__(self, federation: OnDisk, rounds: int = 10, jobs: tuple[str, ...] = (JOB,)) -> None:
        super().__init__(federation)
        self.noise: dict[str, float] = {}
        self.rounds = rounds
        self.jobs = jobs
        self.exchange()
        self.propose()

    @property
    def root(self) -> Path:
        assert isinstance(self.federation, OnDisk)
        return self.federation.root

    def propose(self, *names: str, job: str = "") -> None:
        for name in names or self.agents:
            for it in (job,) if job else self.jobs:
                body = self.ask(name, JobRequest(plan=make_plan(self.rounds, job=it))).body
                assert isinstance(body, JobReply), body
                for segment, noise in body.noise.items():
                    self.noise[segment] = max(noise, self.noise.get(segment, 0.0))

    def start(self, number: int, **fields: object) -> Attempt:
        """An attempt that trains, with the noise that all of the cohort need."""
        return self.begin(number, noise={"update": self.noise["update"]}, **fields)

    def with_proofs(self, attempt: Attempt, *finished: Finish) -> Attempt:
        """The same order with proofs of earlier attempts."""
        segments = self.arrays(attempt.order) | self.prekeys_of(attempt)
        body = TrainRequest(order=attempt.order, finished=finished)
        return dataclasses.replace(attempt, request=request(self.federation, body, segments))

    def prekeys_of(self, attempt: Attempt) -> dict[str, np.ndarray]:
        """The segment of an attempt's prekeys."""
        content = b"".join(it.encoded for it in attempt.prekeys.values())
        return {PREKEYS: np.frombuffer(content, np.uint8)}

    def collect(self, attempt: Attempt, *names: str) -> dict[str, str]:
        """Each of the cohort's answer to the order: the refusal's code, or `upload`."""
        return {name: self.send(name, attempt.request).said for name in names or attempt.order.cohort}

    def unmasked(self, attempt: Attempt) -> dict[str, Answer]:
        """Each active member's answer to the unmasking, for the whole cohort."""
        body = attempt.unmask(attempt.order.cohort)
        return {name: self.ask(name, body) for name in attempt.order.cohort}

    def finished(self, attempt: Attempt) -> Finish:
        """The proof of an attempt that everybody unmasked."""
        signatures = {
            name: answer.body.finished
            for name, answer in self.unmasked(attempt).items()
            if isinstance(answer.body, UnmaskReply)
        }
        proof = make_finish(attempt.order, signatures, self.parties)
        assert proof is not None
        return proof

    def round(self, number: int, *proofs: Finish, **fields: object) -> Finish:
        """A whole attempt of everybody; the proof that it finished."""
        attempt = self.with_proofs(self.start(number, **fields), *proofs)
        self.train(attempt)
        return self.finished(attempt)

    # --- disks ----------------------------------------------------------------------------------

    def stop(self, name: str) -> None:
        """The agent's process ends."""
        self.agents[name].close()

    def start_agent(self, name: str) -> None:
        """Another process starts over the same folder."""
        self.agents[name] = self.federation.agent(name)

    def copied(self, name: str) -> Path:
        """Yesterday's copy of a member's folder, taken while its agent stands still."""
        self.stop(name)
        copy = self.root / f"copy of {name}"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.root / name, copy)
        self.start_agent(name)
        return copy

    def restored(self, name: str, copy: Path, *files: str) -> None:
        """The copy, or these files of it, are put back, and another process starts."""
        self.stop(name)
        folder = self.root / name
        kept = [] if not files else [it for it in folder.iterdir() if not it.name.startswith(files)]
        for it in folder.iterdir():
            if it not in kept:
                it.unlink()
        for it in copy.iterdir():
            if not files or it.name.startswith(files):
                shutil.copy(it, folder / it.name)
        self.start_agent(name)

    def spent(self, name: str) -> float:
        """What a member's own ledger says was taken of its one grant's training part."""
        budget = self.agents[name].budget
        assert budget is not None
        with budget.ledger.held() as book:
            return float(book.grants["first"].sums.training)

    def receipt_of(self, attempt: Attempt, name: str) -> Seen:
        """A member's receipt of an attempt with what its signature covers."""
        order: Order = attempt.order
        return Seen(job=order.job, attempt=order.attempt, order=order.digest, receipt=attempt.receipts[name])
