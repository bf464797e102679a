"""A consortium in mode `masked` in this process: real charter, keys, agents and messages, updates that are ready.

Nothing is trained: an agent's work only puts a given update on the grid, with noise where that is wanted. Everything
else is what an organisation runs, its log on disk included, and its ledger where there is noise; the server writes and
reads as the strategy does, without a network between.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from hansa.cli.simulation import LocalOperator
from hansa.clients.attempt_log import AttemptLog
from hansa.clients.budget import Budget
from hansa.clients.grants import Grants, Sides
from hansa.clients.heads import Heads
from hansa.clients.ledger import Ledger
from hansa.clients.membership import Membership, new_ring
from hansa.clients.protocol import Agent
from hansa.clients.witnesses import Witnesses
from hansa.contract.charter import Charter, Member, ModelChoice, PrivacyPlan, Protection, Task
from hansa.contract.errors import RefusalError
from hansa.contract.features import BinaryLabel, FeatureContract, NumericColumn
from hansa.contract.jobs import JobPlan
from hansa.contract.keys import SigningKey, from_text, to_text
from hansa.contract.messages import (
    PREKEY_STOCK,
    PREKEYS,
    HelloReply,
    HelloRequest,
    JobReply,
    JobRequest,
    Order,
    RefusalReply,
    Request,
    TrainRequest,
    UnmaskReply,
    UnmaskRequest,
    Witness,
    WitnessReply,
    WitnessRequest,
)
from hansa.contract.scenario import FirstGrant
from hansa.contract.segments import EVALUATION, UPDATE, segment_specs, update_bound
from hansa.contract.wire import Segments, describe, digest
from hansa.privacy.noise import NoiseGenerator
from hansa.privacy.people import sketch
from hansa.secagg.fixed_point import MODULUS, Grid
from hansa.secagg.prekeys import Prekey, prekey_bytes
from hansa.secagg.server import Unmasking
from hansa.strategies.attempt import Attempt
from hansa.strategies.grids import grid_of, noise_on
from hansa.strategies.requests import Desk, Reply
from hansa.strategies.stock import Stock

JOB = JobPlan(job="ab" * 16, name="secure-sum", rounds=1000)
# Made up: the charter's file does not exist.
HASH = "c" * 64


class Meter(Protocol):
    """Measures the blocks of one side, and nothing between them."""

    def running(self) -> AbstractContextManager[None]:
        """Count this block."""
        ...


@dataclass(frozen=True)
class ReadyWork:
    """Work without training: the update is there, and is encoded."""

    update: NDArray[np.float64]
    charter: Charter

    @property
    def parameters(self) -> int:
        """Coordinates of the update."""
        return self.update.size

    def check(self, order: Order, segments: Segments) -> None:
        """What `LocalWork` checks of the weights, and the released model, that come with an order."""
        for weights in segments.values():
            if weights.shape != self.update.shape or not np.isfinite(weights).all():
                raise RefusalError("bad-size", "these are not the model's weights")

    def run(self, plan: JobPlan, order: Order, segments: Segments, noise: Mapping[str, float]) -> Segments:
        """The update on the grid, with an empty histogram where one is asked for; noised as `LocalWork` does it."""
        summands = len(order.cohort)
        upload = {}
        for spec in segment_specs(self.charter, plan, order, self.parameters):
            values = self.update if spec.name == UPDATE else np.zeros(spec.length)
            upload[spec.name] = grid_of(spec, summands).encode(values)
            if spec.multiplier:
                added = noise_on(spec, self.charter, summands, noise[spec.name], member=None)
                upload[spec.name] = added.add(
                    upload[spec.name], NoiseGenerator(), modulus=MODULUS, summands=summands
                )
        return upload

    def keep(self, plan: JobPlan, segments: Segments) -> None:
        """There is no final model."""


@dataclass(frozen=True)
class Round:
    """What an attempt gave: the mean update, and the bytes of an upload's message."""

    mean: NDArray[np.float64]
    upload_bytes: int


@dataclass
class Consortium:
    """Members with running agents, and the server's desk. Every member's update is the same array."""

    charter: Charter
    agents: dict[str, Agent]
    desk: Desk
    grid: Grid
    stock: Stock
    # Noise multipliers by segment; the same for everybody.
    noise: dict[str, float] = field(default_factory=dict)

    @classmethod
    def start(
        cls, members: int, update: NDArray[np.float64], folder: Path, *, noised: bool = False
    ) -> Consortium:
        """Make keys and charter, start the agents with logs in `folder`, let them sign each other's start.

        Parameters
        ----------
        noised : every member adds noise, charged to a ledger in `folder`
        """
        names = [f"member-{number:03}" for number in range(members)]
        operator = SigningKey.generate()
        identities = {name: SigningKey.generate() for name in names}
        sealing = {name: X25519PrivateKey.generate() for name in names}
        charter = _charter(identities, sealing, operator, noised=noised)
        agents = {
            name: _agent(
                Membership(name, charter, HASH, identities[name]),
                sealing[name],
                ReadyWork(update, charter),
                folder / name,
            )
            for name in names
        }
        desk = Desk(charter, HASH, LocalOperator(operator))
        grid = Grid(update_bound(charter, JOB), members)
        consortium = cls(charter, agents, desk, grid, Stock(desk.parties))
        consortium._exchange_starts()
        return consortium

    def ask(self, name: str, body: Request) -> Reply:
        """One request to one agent and its verified reply."""
        request = self.desk.write(JOB.job, body)
        prekeys = getattr(body, "prekeys", 0) * prekey_bytes(self.desk.parties)
        return accepted(self.desk.read(self.agents[name].handle(request), digest(request), prekeys))

    def attempt(
        self,
        number: int,
        weights: NDArray[np.float64],
        server: Meter,
        clients: Meter,
        released: NDArray[np.float64] | None = None,
    ) -> Round:
        """One undisturbed attempt of all members through real messages.

        Parameters
        ----------
        released : a model to evaluate along with training, as in the tail of a job; None evaluates nothing
        server, clients : measure each side. An agent's part is `Agent.handle` of the train and of the unmask
            request; the server's are both requests, every reply, the masks, and the sum as real numbers
        """
        with server.running():
            attempt = self._open(number, weights, released)
        size = 0
        for node, agent in enumerate(self.agents.values()):
            with clients.running():
                answer = agent.handle(attempt.request)
            size = len(answer)
            with server.running():
                attempt.receive(node, answer)
            del answer
        if len(attempt.active) != len(self.agents):
            raise SystemExit(
                f"the attempt failed: {attempt.shortfall() or attempt.result('failed', round_number=None)}"
            )
        with server.running():
            attempt.drop_request()
            unmasking = Unmasking(self.desk.parties, attempt.order, attempt.prekeys, attempt.active)
            request = self.desk.write(JOB.job, _unmask_request(attempt))
            asked = digest(request)
        for agent in self.agents.values():
            with clients.running():
                answer = agent.handle(request)
            if unmasking.missing:
                with server.running():
                    body = accepted(self.desk.read(answer, asked)).header.body
                    assert isinstance(body, UnmaskReply)
                    unmasking.receive(
                        agent.membership.name,
                        {name: from_text(share) for name, share in body.shares.items()},
                    )
        with server.running():
            unmasking.unmask(attempt.summation)
            mean = attempt.mean_update()
            attempt.metrics()
        return Round(mean, size)

    def take_order(self, number: int) -> tuple[Order, dict[str, Prekey]]:
        """The next order over all members, and the prekeys that it uses up."""
        names = tuple(self.agents)
        prekeys = self.stock.take({name: self.stock.starts[name].numbers[0] for name in names})
        numbers = {name: prekey.number for name, prekey in prekeys.items()}
        order = Order(job=JOB.job, attempt=number, kind="train", base=0, cohort=names, prekeys=numbers)
        return order, prekeys

    def _open(
        self, number: int, weights: NDArray[np.float64], released: NDArray[np.float64] | None
    ) -> Attempt:
        order, prekeys = self.take_order(number)
        together = b"".join(prekeys[name].encoded for name in order.cohort)
        segments = {"weights": weights, PREKEYS: np.frombuffer(together, np.uint8)}
        if released is not None:
            segments["released"] = released
        headers = describe(segments)
        order = order.model_copy(
            update={
                "arrays": {it.name: it.sha256 for it in headers},
                "evaluate": released is not None,
                "noise": self._noise(evaluate=released is not None),
            }
        )
        return Attempt(
            desk=self.desk,
            plan=JOB,
            order=order,
            request=self.desk.write(JOB.job, TrainRequest(order=order), segments, headers),
            specs=segment_specs(self.charter, JOB, order, weights.size),
            addresses={name: node for node, name in enumerate(self.agents)},
            prekeys=prekeys,
            restock=lambda name, segments: self.stock.add(name, segments[PREKEYS], 1),
            noise=dict.fromkeys(order.cohort, self.noise),
        )

    def _noise(self, *, evaluate: bool) -> dict[str, float]:
        """The multipliers that an order names: of the segments that it asks for."""
        wanted = {UPDATE, EVALUATION} if evaluate else {UPDATE}
        return {name: it for name, it in self.noise.items() if name in wanted}

    def _exchange_starts(self) -> None:
        """Job, hello, and the witnesses of every member on every other; prekeys come with the last answer."""
        starts = {}
        for name in self.agents:
            approval = self.ask(name, JobRequest(plan=JOB)).header.body
            assert isinstance(approval, JobReply)
            self.noise = dict(approval.noise)
            hello = self.ask(name, HelloRequest(nonce="00" * 16)).header.body
            assert isinstance(hello, HelloReply)
            starts[name] = hello.start
            self.stock.greet(name, hello.start, hello.accepts)
        witnesses: dict[str, list[Witness]] = {name: [] for name in self.agents}
        for name in self.agents:
            others = {peer: start for peer, start in starts.items() if peer != name}
            signed = self.ask(name, WitnessRequest(starts=others)).header.body
            assert isinstance(signed, WitnessReply)
            for witness in signed.witnesses:
                witnesses[witness.member].append(witness)
        for name in self.agents:
            reply = self.ask(name, WitnessRequest(shown=tuple(witnesses[name]), prekeys=PREKEY_STOCK))
            self.stock.add(name, reply.segments[PREKEYS], PREKEY_STOCK)

    def close(self) -> None:
        """Close the agents' logs."""
        for agent in self.agents.values():
            agent.close()


def accepted(reply: Reply) -> Reply:
    """The reply, which must not be a refusal."""
    if isinstance(reply.header.body, RefusalReply):
        raise SystemExit(f"{reply.header.sender} refused: {reply.header.body.sentence}")
    return reply


def _unmask_request(attempt: Attempt) -> UnmaskRequest:
    order = attempt.order
    return UnmaskRequest(
        job=order.job, attempt=order.attempt, active=attempt.active, receipts=attempt.receipts
    )


def _agent(membership: Membership, sealing_key: X25519PrivateKey, work: ReadyWork, files: Path) -> Agent:
    """An agent whose files are called `files` and what they are."""
    attempts, budget, witnesses = AttemptLog(files.with_suffix(".sqlite")), None, None
    charter = membership.charter
    if charter.privacy.noise != "none":
        people = sketch(f"{word:016x}" for word in range(100))
        grants = Grants(
            Ledger(files.with_suffix(".ledger")),
            charter,
            data_set="records",
            people=people,
            sides=Sides.of(charter.task.features, b"secret", charter.task.features.encoded),
        )
        grants.begin(FirstGrant())
        budget = Budget(grants, charter)
        heads = Heads(files.with_suffix(".heads"), charter)
        witnesses = Witnesses(heads, budget.ledger, event=lambda kind, sentence: None)
    return Agent(
        membership,
        attempts,
        work=work,
        # Uploads of real data leave on a beat; here that would only be waiting.
        pace=lambda _: None,
        monotonic=time.monotonic,
        ring=new_ring(membership, sealing_key, witnesses),
        budget=budget,
        witnesses=witnesses,
    )


def _charter(
    identities: dict[str, SigningKey],
    sealing: dict[str, X25519PrivateKey],
    operator: SigningKey,
    *,
    noised: bool,
) -> Charter:
    features = FeatureContract(columns=(NumericColumn(name="x", low=0, high=1),), label=BinaryLabel())
    return Charter(
        name="secure-sum",
        version=1,
        expires=datetime.now(UTC) + timedelta(days=1),
        operator_key=to_text(operator.public),
        members=tuple(
            Member(
                name=name,
                controller=name,
                identity_key=to_text(identity.public),
                sealing_key=to_text(sealing[name].public_key().public_bytes_raw()),
                node_key=f"ecdsa-sha2-nistp256 {name}",
            )
            for name, identity in identities.items()
        ),
        task=Task(title="none", features=features, model=ModelChoice(name="linear")),
        protection=Protection(mode="masked"),
        privacy=PrivacyPlan(noise="local" if noised else "none"),
        knobs={},
        approval="automatic",
    )
