"""What an agent answers: the member's side of PROTOCOL sections 2, 4 and 8.

Bytes in, bytes out. The agent obeys the charter it signed and the operator's signature, not
whoever speaks: both are checked before anything else, every refusal is typed and signed.
`Agent._obey` has what is checked of any request, in order; each kind has a module of its own:
`greeting`, `approval`, `orders`, `follow_ups`, `blind_requests` and `closing`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, assert_never

from hansa.clients.approval import approved, check_known, propose
from hansa.clients.attempt_log import AttemptLog
from hansa.clients.blind_requests import BlindRequests
from hansa.clients.budget import Budget
from hansa.clients.checks import check_charter, check_grids, check_operator
from hansa.clients.closing import Closing
from hansa.clients.follow_ups import FollowUps
from hansa.clients.forgotten import Forgotten
from hansa.clients.greeting import Greeting
from hansa.clients.leaving import Sender
from hansa.clients.masked import MaskedAttempts
from hansa.clients.membership import Membership
from hansa.clients.orders import Orders
from hansa.clients.outbox import Outbox
from hansa.clients.repeats import Repeats
from hansa.clients.seldom import Seldom
from hansa.clients.starting import check_start
from hansa.clients.subjects import concerns_of, subject_of
from hansa.clients.turns import Turn, Turns
from hansa.clients.witnesses import Witnesses
from hansa.clients.work import Forgetting, Work
from hansa.contract.blind_messages import ApplyRequest, Held, KeysRequest, ReloadRequest
from hansa.contract.errors import InputError, MessageError, RefusalError
from hansa.contract.jobs import JobPlan
from hansa.contract.logs import about, now_about, places_of
from hansa.contract.messages import (
    FACT_CHARACTERS,
    AgreeRequest,
    CloseRequest,
    HelloRequest,
    JobReply,
    JobRequest,
    RefusalReply,
    Reply,
    ReplyHeader,
    TrainRequest,
    UnmaskRequest,
    WitnessRequest,
)
from hansa.contract.statistics import preparation_length
from hansa.contract.typed import clipped
from hansa.contract.wire import (
    MAX_HEADER_BYTES,
    PREFIX,
    SIGNATURE_BYTES,
    Segments,
    describe,
    digest,
    request_header,
    seal,
    segments_of,
    unpack,
)
from hansa.secagg.parties import Parties
from hansa.secagg.ring import PrekeyRing
from hansa.secagg.starts import Starts

if TYPE_CHECKING:
    # It brings TenSEAL, which only mode `he` needs.
    from hansa.clients.blind import BlindJobs

log = logging.getLogger("hansa.agent")

# Refusals of requests that nobody we know has signed.
UNSIGNED = ("not-operator", "protocol-number")


def _clipped_facts(facts: Mapping[str, str | int]) -> dict[str, str | int]:
    """Facts as short as a reply's may be; they may quote the request."""
    return {key: clipped(it, FACT_CHARACTERS) if isinstance(it, str) else it for key, it in facts.items()}


class Agent:
    """Answers requests for one member; safe to call from several threads, one attempt of a job at a time."""

    def __init__(
        self,
        membership: Membership,
        attempts: AttemptLog,
        *,
        work: Work,
        pace: Callable[[float], None],
        monotonic: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        isolated: bool = False,
        ring: PrekeyRing | None = None,
        starts: Starts | None = None,
        budget: Budget | None = None,
        witnesses: Witnesses | None = None,
        blind: BlindJobs | None = None,
        outbox: Outbox | None = None,
        forgotten: Forgotten | None = None,
    ) -> None:
        if (ring is not None) != membership.charter.protection.masked:
            raise ValueError(
                "an agent has a ring of prekeys where its charter has uploads masked, and only there"
            )
        if (budget is not None) != (membership.charter.privacy.noise != "none"):
            raise ValueError("an agent has a budget where its charter has noise, and only there")
        if (witnesses is not None) != (budget is not None):
            raise ValueError("an agent has its ledger witnessed where it has one")
        if (starts is not None) != (ring is None and budget is not None):
            raise ValueError("an agent without prekeys has its start signed where its charter has noise")
        if (blind is not None) != membership.charter.protection.blind:
            raise ValueError("an agent holds models where its charter's mode is 'he', and only there")
        self.membership = membership
        self.attempts = attempts
        self.budget = budget
        self.witnesses = witnesses
        # This agent's start, and who signed it; None where a member needs nobody's word.
        self.starts: Starts | None = ring or starts
        self.isolated = isolated
        # Told of each new answer: the type of its body, or the code of a refusal.
        self.counted: Callable[[str], None] = lambda answer: None
        self.started = now().timestamp()
        self._work = work
        # Two people forgotten at once: neither's leaving is undone by the other's.
        self._forgetting = threading.Lock()
        self._monotonic = monotonic
        self._now = now
        parties = Parties.of(membership.charter, membership.charter_hash)
        # What leaves is written down there before it does; None where it does not leave this process.
        self.outbox = outbox
        self.forgotten = forgotten
        self._sender = Sender(membership.charter, attempts.plan)
        # Keys and models of mode `he`.
        self.blind = blind
        self._masked = None
        if ring is not None:
            self._masked = MaskedAttempts(parties, ring, monotonic, witnesses)
        self._strangers = Seldom(monotonic)
        self._jobs = Turns(pace, monotonic)
        self._repeats = Repeats()
        self._greeting = Greeting(membership, self.started, isolated, self.starts, self._masked, budget)
        self._orders = Orders(
            membership,
            attempts,
            parties,
            work=self._at_work,
            reply=self._reply,
            starts=self.starts,
            masked=self._masked,
            budget=budget,
            witnesses=witnesses,
            blind=blind,
        )
        self._follow_ups = FollowUps(membership, attempts, parties, self._masked, budget, witnesses)
        self._blind_requests = BlindRequests(membership.charter, attempts, self._at_work, blind)
        self._closing = Closing(attempts, self._at_work, blind, self._masked)
        # Where the ledger's file alone is an older copy, this member's own record of uploads says so at once.
        own = attempts.highest_receipt()
        if witnesses is not None and own is not None:
            witnesses.shown(own)

    @property
    def largest_request(self) -> int:
        """Bytes of the largest request that can be in order: header, two models and prekeys or what mode `he`
        brings, and a preparation."""
        prekeys = 0 if self._masked is None else self._masked.largest_segment
        segments = 16 * self._work.parameters
        if self.blind is not None:
            segments = max(segments, self.blind.largest_segments)
        preparation = 8 * preparation_length(self.membership.charter.task.features)
        return PREFIX.size + MAX_HEADER_BYTES + SIGNATURE_BYTES + segments + prekeys + preparation

    @property
    def ring(self) -> PrekeyRing | None:
        """The prekeys since this agent's start, and who signed that start; None in mode `clear`."""
        return None if self._masked is None else self._masked.ring

    def close(self) -> None:
        """Close what lies on the disk."""
        self.attempts.close()
        if self.budget is not None:
            self.budget.ledger.close()
        if self.witnesses is not None:
            self.witnesses.close()
        if self.blind is not None:
            self.blind.close()
        if self.outbox is not None:
            self.outbox.close()
        if self.forgotten is not None:
            self.forgotten.close()

    @property
    def entities(self) -> int:
        """How many entities are computed on."""
        return self._records.entities

    def known(self, entities: Collection[bytes]) -> frozenset[bytes]:
        """Those of these entities that there are records of."""
        return self._records.known(entities)

    def forget(self, entities: Collection[bytes]) -> list[tuple[str, int]]:
        """Compute on these entities no more; returns the attempts under way, which may still hold them."""
        with self._forgetting:
            self._work = self._records.without(entities)
        return sorted(self._orders.computing)

    def _at_work(self) -> Work:
        """What computes on the records now; whoever is forgotten meanwhile is in none that is looked up later."""
        return self._work

    @property
    def _records(self) -> Forgetting:
        if not isinstance(self._work, Forgetting):
            raise InputError("what this agent computes on has no records by entity")
        return self._work

    def handle(self, request: bytes) -> bytes:
        """Answer one request. What cannot be obeyed is refused, typed and signed.

        Raises
        ------
        HansaError : the answer could not be written into the outbox, so it must not leave
        """
        asked = digest(request)
        with about(), self._jobs.answer() as turn:
            answer = self._answer(request, asked, turn)
            if self.outbox is not None:
                self.outbox.enter(*self._sender.read(answer, turn.job, turn.attempt, turn.order))
            return answer

    def _answer(self, request: bytes, asked: str, turn: Turn) -> bytes:
        try:
            return self._obey(request, asked, turn)
        except RefusalError as refusal:
            self._strangers.note(refusal)
            # What anybody can send leaves no trace on this member's disk but a line in the log now and then.
            if refusal.code not in UNSIGNED and self._strangers.news(refusal):
                self.attempts.event("", refusal.code, clipped(refusal.sentence))
            reply = RefusalReply(
                code=refusal.code, sentence=clipped(refusal.sentence), facts=_clipped_facts(refusal.facts)
            )
        except MessageError as error:
            self._strangers.note(error)
            reply = RefusalReply(code="bad-size", sentence=clipped(str(error)))
        except Exception as error:
            # Its message may quote a record: no log has those, this member's own one neither.
            log.error("an attempt failed: %s", places_of(error))
            reply = RefusalReply(
                code="training-failed",
                sentence="the agent failed; its own log says why",
            )
        return self._reply(asked, reply, {})

    def _obey(self, request: bytes, asked: str, turn: Turn) -> bytes:
        """Check what every request must be, then what its kind must be, and answer it.

        First who speaks, under which charter; then, of a job, whether this member knows it; then, alone
        among the requests of that job, whatever its kind asks for.
        """
        began = self._monotonic()
        if self._masked is not None:
            self._masked.drop_old()
        packed = unpack(request)
        membership = self.membership
        check_operator(packed, membership.charter)
        header = request_header(packed)
        check_charter(
            header.charter, membership.charter_hash, membership.charter, self._now(), membership.superseded
        )
        body = header.body
        now_about(**subject_of(body))
        turn.about(*concerns_of(body))
        if isinstance(body, HelloRequest | WitnessRequest):
            return self._greet(body, asked)
        if isinstance(body, JobRequest):
            return self._reply(asked, self._proposed(body.plan), {})
        if isinstance(body, TrainRequest) and body.order.arrays != {
            it.name: it.sha256 for it in header.segments
        }:
            raise RefusalError("bad-size", "the arrays are not those that the order names")
        segments = segments_of(packed, header.segments)
        job = body.order.job if isinstance(body, TrainRequest | ApplyRequest) else body.job
        check_known(job, self.attempts)
        with self._jobs.alone(job, turn):
            if isinstance(body, TrainRequest):
                return self._orders.obey(asked, body, segments, turn, began)
            if isinstance(body, KeysRequest | ApplyRequest | ReloadRequest):
                plan = approved(job, self.attempts)
                return self._reply(asked, *self._blind_requests.answer(plan, body, segments, asked))
            if isinstance(body, CloseRequest):
                # What is kept of the records takes as long as there are many.
                turn.compute(began)
                return self._reply(asked, self._closing.answer(body, segments), {})
            if isinstance(body, AgreeRequest | UnmaskRequest):
                return self._reply(asked, self._follow_ups.answer(body, asked), {})
            assert_never(body)

    def _greet(self, body: HelloRequest | WitnessRequest, asked: str) -> bytes:
        if not self._greeting.spends(body):
            return self._reply(asked, *self._greeting.answer(body))
        return self._repeats.answer(asked, lambda: self._reply(asked, *self._greeting.answer(body)))

    def _proposed(self, plan: JobPlan) -> JobReply:
        """This member's yes to a job, with its noise and what it holds of it."""
        membership, parameters = self.membership, self._work.parameters
        limited = plan.job in self._orders.limited
        check_start(plan, membership.charter.task.features.digest, parameters)
        noise = propose(plan, self.attempts, membership.charter, self.budget, limited=limited)
        check_grids(plan, membership.charter, parameters, membership.name, noise)
        held = Held() if self.blind is None else self.blind.holds(plan.job)
        return JobReply(noise=noise, held=held)

    def _reply(self, asked: str, body: Reply, segments: Segments) -> bytes:
        self.counted(body.code if isinstance(body, RefusalReply) else body.type)
        header = ReplyHeader(
            charter=self.membership.charter_hash,
            sender=self.membership.name,
            request=asked,
            body=body,
            segments=describe(segments),
        )
        return seal(header, segments, self.membership.identity)
