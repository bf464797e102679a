"""Masked jobs over real agents in memory; faults are functions put before a member's node."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from federation import JOB, make_federation, make_plan

from hansa.cli.simulation import LocalOperator, SimulatedFederation
from hansa.clients.protocol import Agent
from hansa.contract.messages import Reply, Request
from hansa.contract.wire import reply_header, request_header, seal, segments_of, unpack
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import _PREKEY_DOMAIN, Prekey, PrekeySecrets
from hansa.strategies.consortium import ConsortiumStrategy
from hansa.strategies.memory_grid import InMemoryGrid
from hansa.strategies.memory_journal import MemoryJob, MemoryJournal

Node = Callable[[bytes], bytes]
Fault = Callable[[Request, Node, bytes], bytes]


class MaskedJob:
    """A federation's agents and one job of theirs."""

    def __init__(
        self,
        members: int = 4,
        rounds: int = 1,
        *,
        mode: str = "masked",
        agents: Mapping[str, Agent] | None = None,
        simulated: SimulatedFederation | None = None,
        plan: Mapping[str, object] | None = None,
        **charter: object,
    ) -> None:
        changes = {"mode": mode, **charter}
        self.simulated = simulated or make_federation(members, **changes)  # type: ignore[arg-type]
        self._logs = tempfile.TemporaryDirectory()
        self.agents = dict(agents or {name: self._start(name) for name in self.simulated.records})
        self.faults: dict[str, Fault] = {}
        self.asked: list[tuple[str, Request]] = []
        knobs = {name: bounds.default for name, bounds in self.simulated.charter.knobs.items()}
        self.job = MemoryJob(make_plan(rounds, **(plan or {})), knobs)

    def _start(self, name: str) -> Agent:
        return self.simulated.agent(name, Path(self._logs.name) / f"{name}.sqlite")

    def restart(self, name: str) -> None:
        """The agent's process is gone; another one starts over the same log."""
        self.agents[name] = self._start(name)

    def strategy(self) -> ConsortiumStrategy:
        return ConsortiumStrategy(
            charter=self.simulated.charter,
            charter_hash=self.simulated.hash,
            model=self.simulated.model,
            journal=MemoryJournal(self.job),
            operator=LocalOperator(self.simulated.operator),
            gather_s=0.0,
            sleep=lambda _: None,
        )

    def grid(self, workers: int = 4) -> InMemoryGrid:
        nodes = {
            number: functools.partial(self._serve, name) for number, name in enumerate(self.agents, start=1)
        }
        return InMemoryGrid(nodes, workers=workers)

    def run(self, strategy: ConsortiumStrategy | None = None) -> ConsortiumStrategy:
        strategy, grid = strategy or self.strategy(), self.grid()
        try:
            strategy.start(grid)
        finally:
            grid.close()
        return strategy

    def _serve(self, name: str, payload: bytes) -> bytes:
        body = request_header(unpack(payload)).body
        self.asked.append((name, body))

        def honest(payload: bytes) -> bytes:
            return self.agents[name].handle(payload)

        fault = self.faults.get(name)
        return honest(payload) if fault is None else fault(body, honest, payload)

    def requests(self, kind: str) -> list[str]:
        """Who was sent a request of that type, in order."""
        return [name for name, body in self.asked if body.type == kind]

    def events(self, kind: str) -> list[tuple[str, str]]:
        """(member, sentence) of every event of a kind."""
        return [(member, sentence) for it, sentence, member, _ in self.job.events if it == kind]


def attempt_of(body: Request) -> int:
    """The attempt a request is about; 0 for any that is about none."""
    return body.order.attempt if body.type == "attempt" else getattr(body, "attempt", 0)


@functools.cache
def clear_weights(members: int, rounds: int, missing: frozenset[str] = frozenset()) -> bytes:
    """The weights that the same records reach in the clear, where these members miss the first attempt."""
    job = MaskedJob(members, rounds, mode="clear")
    for name in missing:
        job.faults[name] = vanish("attempt", 1)
    return job.run().state.weights.tobytes()


def vanish(kind: str, attempt: int, *, answered: bool = False) -> Fault:
    """A member that is gone from this request of an attempt on, up to the attempt's end.

    Parameters
    ----------
    answered : the agent does what it is asked and its answer is lost
    """
    order = ("attempt", "agree", "unmask")

    def fault(body: Request, honest: Node, payload: bytes) -> bytes:
        if attempt_of(body) == attempt and body.type in order[order.index(kind) :]:
            if answered and body.type == kind:
                honest(payload)
            raise ConnectionError("gone")
        return honest(payload)

    return fault


def resealed(job: MaskedJob, name: str, reply: bytes, body: Reply) -> bytes:
    """A reply with another body, signed by the member itself."""
    packed = unpack(reply)
    header = reply_header(packed)
    changed = header.model_copy(update={"sender": name, "body": body})
    return seal(changed, segments_of(packed, header.segments), job.simulated.identities[name])


def makes(job: MaskedJob, name: str, change: Callable[[Prekey], Prekey]) -> None:
    """From now on a member's agent changes each of its new prekeys before it signs it."""
    agent, parties = job.agents[name], Parties.of(job.simulated.charter, job.simulated.hash)
    ring = agent.ring
    assert ring is not None
    make = ring.make

    def changed(count: int, **named: object) -> bytes:
        before = set(ring._own)
        make(count, **named)  # type: ignore[arg-type]
        encoded = []
        for number in sorted(set(ring._own) - before):
            secrets = ring._own[number]
            prekey = change(secrets.prekey)
            statement = _PREKEY_DOMAIN + parties.charter_hash + prekey.content
            prekey = replace(prekey, signature=job.simulated.identities[name].sign(statement))
            ring._own[number] = PrekeySecrets(prekey, secrets.private, secrets.seed)
            encoded.append(prekey.encoded)
        return b"".join(encoded)

    ring.make = changed  # type: ignore[method-assign]


def bad_parcels(job: MaskedJob, victims: Collection[str]) -> Callable[[Prekey], Prekey]:
    """Prekeys whose parcels these members cannot open."""
    names = Parties.of(job.simulated.charter, job.simulated.hash).names

    def change(prekey: Prekey) -> Prekey:
        parcels = tuple(
            replace(parcel, sealed=bytes(len(parcel.sealed))) if names[index] in victims else parcel
            for index, parcel in enumerate(prekey.parcels)
        )
        return replace(prekey, parcels=parcels)

    return change


def single_process(job: MaskedJob, active: Collection[str]) -> np.ndarray:
    """The weights after one round of these members, computed in one piece and without a grid."""
    from hansa.strategies.apply import ModelState, apply

    simulated = job.simulated
    state = ModelState.start(simulated.model.initial(0))
    total = sum(
        -simulated.model.gradient_sum(
            state.weights,
            simulated.records[name].train.X,
            simulated.records[name].train.y,
            clip=simulated.charter.training.clip,
        )
        for name in active
    )
    records = sum(it.records for it in simulated.charter.members if it.name in active) * 0.8
    return apply(state, total / records, job.job.plan.rule, 0.2, job.job.plan.rounds).weights


__all__ = ["JOB", "MaskedJob", "attempt_of", "clear_weights", "vanish"]
