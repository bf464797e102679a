"""The server's side of masked attempts for tests: it holds the operator's key and keeps everything it is given.

Honest where its methods are used as they stand; a test lies by changing what they make.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from federation import JOB, make_order, make_plan, request

from hansa.cli.simulation import SimulatedFederation
from hansa.clients.protocol import Agent
from hansa.contract.keys import SigningKey, from_text
from hansa.contract.messages import (
    PREKEYS,
    AgreeReply,
    AgreeRequest,
    HelloReply,
    HelloRequest,
    JobRequest,
    Order,
    Receipt,
    RefusalReply,
    Reply,
    TrainRequest,
    UnmaskReply,
    UnmaskRequest,
    UploadReply,
    Witness,
    WitnessReply,
    WitnessRequest,
)
from hansa.contract.wire import Segments, check_signature, describe, digest, reply_header, segments_of, unpack
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import Kind, Prekey, check_opening, decode_prekeys
from hansa.secagg.server import Summation, Unmasking

# Who gave a share of which prekey.
Gift = tuple[str, bytes]


@dataclass(frozen=True)
class Answer:
    """One signed reply."""

    body: Reply
    segments: Segments
    raw: bytes

    @property
    def said(self) -> str:
        """The refusal's code, or the type of the answer."""
        return self.body.code if isinstance(self.body, RefusalReply) else self.body.type


def answer_of(agent: Agent, payload: bytes) -> Answer:
    """What an agent answers; it must be signed by the member and name the request."""
    raw = agent.handle(payload)
    packed = unpack(raw)
    header = reply_header(packed)
    assert header.sender == agent.membership.name
    assert header.request == digest(payload)
    assert check_signature(packed, agent.membership.identity.public)
    return Answer(header.body, segments_of(packed, header.segments), raw)


@dataclass
class Attempt:
    """What the server has of one attempt."""

    order: Order
    prekeys: dict[str, Prekey]
    request: bytes
    uploads: dict[str, Segments] = field(default_factory=dict)
    receipts: dict[str, Receipt] = field(default_factory=dict)

    def unmask(self, active: Sequence[str], signatures: Mapping[str, str] | None = None) -> UnmaskRequest:
        """The request that an honest server sends for this active set."""
        return UnmaskRequest(
            job=self.order.job,
            attempt=self.order.attempt,
            active=tuple(active),
            dropped=tuple(name for name in self.order.cohort if name not in active),
            receipts={name: self.receipts[name] for name in active},
            signatures=dict(signatures or {}),
        )


class MaskedServer:
    """Talks to agents as the operator; notes every prekey it ever saw and every share it was ever given."""

    def __init__(
        self, federation: SimulatedFederation, log: Callable[[str], Path | str] = lambda _: ":memory:"
    ) -> None:
        self.federation = federation
        self.parties = Parties.of(federation.charter, federation.hash)
        self.agents = {name: federation.agent(name, log(name)) for name in federation.records}
        self.stock: dict[str, list[Prekey]] = {name: [] for name in self.agents}
        self.seen: dict[bytes, Prekey] = {}
        self.given: dict[Gift, set[tuple[Kind, bytes]]] = {}
        self.starts: dict[str, str] = {}
        self.receipts: list[tuple[str, Receipt]] = []

    def ask(
        self, name: str, body: object, segments: Segments | None = None, key: SigningKey | None = None
    ) -> Answer:
        """Send any request to one agent."""
        return self.send(name, request(self.federation, body, segments, key))

    def send(self, name: str, payload: bytes) -> Answer:
        """Send bytes to one agent and keep what comes back."""
        answer = answer_of(self.agents[name], payload)
        if PREKEYS in answer.segments:
            made = decode_prekeys(answer.segments[PREKEYS].data, self.parties, 64)
            self.stock[name] += [it for it in made if it.id not in self.seen]
            self.seen |= {it.id: it for it in made}
        if isinstance(answer.body, UnmaskReply):
            self._note(name, answer.body)
        elif isinstance(answer.body, UploadReply):
            self.receipts.append((name, answer.body.receipt))
        return answer

    def _note(self, giver: str, reply: UnmaskReply) -> None:
        """Find out which secret of which prekey each share belongs to: nothing else would count as given."""
        index = self.parties.index(giver)
        for maker, text in reply.shares.items():
            opening, matches = from_text(text), 0
            for prekey in self.seen.values():
                for kind in ("key", "seed"):
                    if self.parties.names[prekey.maker] == maker and check_opening(
                        self.parties, prekey, index, kind, opening
                    ):
                        matches += 1
                        self.given.setdefault((giver, prekey.id), set()).add((kind, opening))
            assert matches == 1

    @property
    def twice_given(self) -> list[Gift]:
        """Prekeys of which a member gave two different shares; an honest one never does."""
        return [gift for gift, shares in self.given.items() if len(shares) > 1]

    def propose(self, *names: str, job: str = JOB) -> None:
        """Show a job's plan to these members, or to all."""
        for name in names or self.agents:
            assert self.ask(name, JobRequest(plan=make_plan(job=job))).said == "job"

    def hello(self, name: str, prekeys: int = 0) -> HelloReply:
        """Learn the nonce of an agent's start."""
        body = self.ask(name, HelloRequest(nonce="n", prekeys=prekeys)).body
        assert isinstance(body, HelloReply)
        self.starts[name] = body.start
        return body

    def words(self, witness: str, starts: Mapping[str, str]) -> tuple[Witness, ...]:
        """What a member signs on others' starts."""
        body = self.ask(witness, WitnessRequest(starts=dict(starts))).body
        assert isinstance(body, WitnessReply)
        return body.witnesses

    def exchange(self, *restarted: str, prekeys: int = 4) -> None:
        """The start exchange for these members, or for all, both ways, and fresh prekeys of everybody after it."""
        names = restarted or tuple(self.agents)
        for name in self.agents:
            self.hello(name)
        shown: dict[str, list[Witness]] = {name: [] for name in self.agents}
        for peer in self.agents:
            theirs = [it for it in self.agents if it != peer and (it in names or peer in names)]
            for word in self.words(peer, {name: self.starts[name] for name in theirs}):
                shown[word.member].append(word)
        for name, words in shown.items():
            assert self.ask(name, WitnessRequest(shown=tuple(words))).said == "witness"
        for name in self.agents:
            self.stock[name].clear()
            assert self.ask(name, WitnessRequest(prekeys=prekeys)).said == "witness"

    def restart(self, name: str, log: Path | str = ":memory:") -> None:
        """The agent's process is gone; another one starts over that log."""
        self.agents[name].attempts.close()
        self.agents[name] = self.federation.agent(name, log)

    def begin(self, number: int, prekeys: Mapping[str, Prekey] | None = None, **fields: object) -> Attempt:
        """An attempt with the next prekey of each of the cohort, or with those that are given."""
        cohort = make_order(self.federation, number, **fields).cohort
        used = {name: self.stock[name].pop(0) for name in cohort if prekeys is None or name not in prekeys}
        used = {name: used[name] if name in used else dict(prekeys or {})[name] for name in cohort}
        numbers = {name: prekey.number for name, prekey in used.items()}
        order = make_order(self.federation, number, **{"prekeys": numbers, **fields})
        return self.written(order, used)

    def written(self, order: Order, prekeys: Mapping[str, Prekey], segment: bytes | None = None) -> Attempt:
        """The request for an order, with its arrays; `segment` stands for the prekeys where it is given."""
        content = b"".join(it.encoded for it in prekeys.values()) if segment is None else segment
        segments = self.arrays(order) | {PREKEYS: np.frombuffer(content, np.uint8)}
        order = order.model_copy(update={"arrays": {it.name: it.sha256 for it in describe(segments)}})
        payload = request(self.federation, TrainRequest(order=order), segments)
        return Attempt(order, dict(prekeys), payload)

    def again(self, attempt: Attempt, **fields: object) -> Attempt:
        """The same attempt with other words in its order."""
        return self.written(attempt.order.model_copy(update=fields), attempt.prekeys)

    def arrays(self, order: Order) -> dict[str, np.ndarray]:
        """Weights, and the model to evaluate where the order wants that."""
        zeros = np.zeros(self.federation.model.parameters)
        wanted = {"weights": order.kind == "train", "released": order.evaluate or order.kind == "evaluate"}
        return {name: zeros for name, is_wanted in wanted.items() if is_wanted}

    def train(self, attempt: Attempt, names: Collection[str] | None = None) -> Attempt:
        """Collect the uploads of these members, or of the cohort; every one must come."""
        for name in attempt.order.cohort if names is None else names:
            answer = self.send(name, attempt.request)
            assert isinstance(answer.body, UploadReply), answer.body
            attempt.uploads[name] = {it: part for it, part in answer.segments.items() if it != PREKEYS}
            attempt.receipts[name] = answer.body.receipt
        return attempt

    def sign(self, attempt: Attempt, name: str, active: Sequence[str]) -> Answer:
        """Ask a member for its signature on an active set."""
        order = attempt.order
        return self.ask(name, AgreeRequest(job=order.job, attempt=order.attempt, active=tuple(active)))

    def agreed(
        self, attempt: Attempt, active: Sequence[str], signers: Sequence[str] | None = None
    ) -> dict[str, str]:
        """The signatures of these members, or of all active ones, on an active set."""
        signatures = {}
        for name in active if signers is None else signers:
            body = self.sign(attempt, name, active).body
            assert isinstance(body, AgreeReply), body
            signatures[name] = body.signature
        return signatures

    def opened(self, attempt: Attempt, active: Sequence[str]) -> dict[tuple[str, ...], dict[str, np.ndarray]]:
        """Agree where somebody is missing, unmask, and return the sums of each circle that opens."""
        complete = set(active) == set(attempt.order.cohort)
        request = attempt.unmask(active, {} if complete else self.agreed(attempt, active))
        summation = Summation(attempt.order.circles)
        for name in active:
            summation.add(name, attempt.uploads[name])
        unmasking = Unmasking(self.parties, attempt.order, attempt.prekeys, active)
        for name in active:
            body = self.ask(name, request).body
            assert isinstance(body, UnmaskReply), body
            unmasking.receive(name, {it: from_text(share) for it, share in body.shares.items()})
        unmasking.unmask(summation)
        return {circle: dict(summation.of(circle)) for circle in unmasking.circles}

    def expected(
        self, attempt: Attempt, circle: Sequence[str], active: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """The sum of what these members put on the grid, without any mask."""
        arrays = self.arrays(attempt.order)
        total: dict[str, np.ndarray] = {}
        for name in circle:
            if name in active:
                part = self.agents[name]._work.run(make_plan(), attempt.order, arrays, {})
                for segment, values in part.items():
                    total[segment] = total.get(segment, np.zeros_like(values)) + values
        return total


def ready(federation: SimulatedFederation, **options: Callable[[str], Path | str]) -> MaskedServer:
    """A server whose agents have signed each other's starts, have prekeys, and approved the job."""
    server = MaskedServer(federation, **options)
    server.exchange()
    server.propose()
    return server


def forged(prekey: Prekey, **fields: object) -> Prekey:
    """A prekey with some of it changed under the old signature."""
    return replace(prekey, **fields)  # type: ignore[arg-type]
