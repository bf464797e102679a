"""What an agent answers: the member's side of PROTOCOL sections 2, 4 and 8.

Bytes in, bytes out. The agent obeys the charter it signed and the operator's signature, not
whoever speaks: both are checked before anything else, every refusal is typed and signed.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, assert_never

from numpy.typing import NDArray

from hansa.clients.approval import approved, check_known, check_not_frozen, propose
from hansa.clients.attempt_log import AcceptedAttempt, AttemptLog
from hansa.clients.budget import Budget, Paid
from hansa.clients.checks import (
    check_applied,
    check_charter,
    check_grid,
    check_grids,
    check_groups,
    check_operator,
    check_order,
    check_tried,
    check_unmasked,
)
from hansa.clients.forgotten import Forgotten
from hansa.clients.leaving import Sender
from hansa.clients.masked import MaskedAttempts
from hansa.clients.membership import Membership
from hansa.clients.outbox import Outbox
from hansa.clients.repeats import Repeats
from hansa.clients.seldom import Seldom
from hansa.clients.starting import check_sent, check_start
from hansa.clients.turns import Turn, Turns
from hansa.clients.witnesses import Witnesses
from hansa.clients.work import Forgetting, Work
from hansa.contract.blind_messages import (
    ENCRYPTED_SUM,
    SEALED_KEYS,
    SEALED_STATE,
    ApplyRequest,
    Held,
    KeysRequest,
    ReloadRequest,
)
from hansa.contract.bounded import BoundedDict
from hansa.contract.errors import InputError, MessageError, RefusalError
from hansa.contract.jobs import JobPlan
from hansa.contract.keys import to_text
from hansa.contract.logs import about, now_about, places_of
from hansa.contract.messages import (
    FACT_CHARACTERS,
    PREKEYS,
    AgreeReply,
    AgreeRequest,
    CloseReply,
    CloseRequest,
    Finish,
    HelloReply,
    HelloRequest,
    JobReply,
    JobRequest,
    Order,
    Receipt,
    RefusalReply,
    Reply,
    ReplyHeader,
    Request,
    Seen,
    TrainRequest,
    UnmaskReply,
    UnmaskRequest,
    UploadReply,
    WitnessReply,
    WitnessRequest,
)
from hansa.contract.segments import HE_PRIME, PREPARATION, STEP, UPDATE
from hansa.contract.statements import active_statement, finish_statement, receipt_statement
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
from hansa.secagg.active_set import check_active_set, check_dropped
from hansa.secagg.finishing import check_finish
from hansa.secagg.member import MemberAttempt
from hansa.secagg.parties import Parties
from hansa.secagg.ring import PrekeyRing
from hansa.secagg.starts import Starts, seen_valid

if TYPE_CHECKING:
    # It brings TenSEAL, which only mode `he` needs.
    from hansa.clients.blind import BlindJobs

log = logging.getLogger("hansa.agent")


# Refusals of requests that nobody we know has signed.
UNSIGNED = ("not-operator", "protocol-number")
_MOST_LIMITED = 1000
# An attempt under a charter without noise.
NOTHING_PAID = Paid(noise={}, receipt=Receipt())


def _clipped_facts(facts: Mapping[str, str | int]) -> dict[str, str | int]:
    """Facts as short as a reply's may be; they may quote the request."""
    return {key: clipped(it, FACT_CHARACTERS) if isinstance(it, str) else it for key, it in facts.items()}


def _subject(body: Request) -> dict[str, str | int | None]:
    """What lines about a request are about."""
    order = getattr(body, "order", None)
    if order is not None:
        return {"job": order.job, "attempt": order.attempt, "round": order.base}
    plan = getattr(body, "plan", None)
    job = plan.job if plan is not None else getattr(body, "job", None)
    return {"job": job, "attempt": getattr(body, "attempt", None)}


def _concerns(body: Request) -> tuple[str, int, str]:
    """Job, attempt and digest of the order that a request is about; empty and 0 where it is about none."""
    if isinstance(body, TrainRequest | ApplyRequest):
        return body.order.job, body.order.attempt, body.order.digest
    if isinstance(body, JobRequest):
        return body.plan.job, 0, ""
    return getattr(body, "job", ""), getattr(body, "attempt", 0), ""


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
        self._parties = Parties.of(membership.charter, membership.charter_hash)
        # What leaves is written down there before it does; None where it does not leave this process.
        self.outbox = outbox
        self.forgotten = forgotten
        # Attempts whose upload is being computed now.
        self._computing: set[tuple[str, int]] = set()
        self._sender = Sender(membership.charter, attempts.plan)
        # Keys and models of mode `he`.
        self.blind = blind
        self._masked = None
        if ring is not None:
            self._masked = MaskedAttempts(self._parties, ring, monotonic, witnesses)
        self._strangers = Seldom(monotonic)
        self._jobs = Turns(pace, monotonic)
        self._repeats = Repeats()
        # Jobs whose newest order had too many unfinished attempts before it, with what it proved of them.
        self._limited: BoundedDict[str, None] = BoundedDict(_MOST_LIMITED)
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
        return sorted(self._computing)

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
        began = self._monotonic()
        if self._masked is not None:
            self._masked.drop_old()
        packed = unpack(request)
        check_operator(packed, self.membership.charter)
        header = request_header(packed)
        membership = self.membership
        check_charter(
            header.charter, membership.charter_hash, membership.charter, self._now(), membership.superseded
        )
        body = header.body
        now_about(**_subject(body))

        turn.about(*_concerns(body))
        if isinstance(body, HelloRequest):
            if self._masked is None or body.prekeys == 0:
                return self._reply(asked, *self._hello(body))
            return self._repeats.answer(asked, lambda: self._reply(asked, *self._hello(body)))
        if isinstance(body, WitnessRequest):
            if self._masked is None:
                return self._reply(asked, self._witness(body), {})
            masked = self._masked
            # Without a nonce the same bytes may well ask for new prekeys.
            if body.prekeys == 0 or not body.nonce:
                return self._reply(asked, *masked.witness(body))
            return self._repeats.answer(asked, lambda: self._reply(asked, *masked.witness(body)))
        if isinstance(body, JobRequest):
            limited = body.plan.job in self._limited
            check_start(body.plan, membership.charter.task.features.digest, self._work.parameters)
            noise = propose(body.plan, self.attempts, membership.charter, self.budget, limited=limited)
            check_grids(body.plan, membership.charter, self._work.parameters, membership.name, noise)
            held = Held() if self.blind is None else self.blind.holds(body.plan.job)
            return self._reply(asked, JobReply(noise=noise, held=held), {})
        if isinstance(body, TrainRequest):
            if body.order.arrays != {it.name: it.sha256 for it in header.segments}:
                raise RefusalError("bad-size", "the arrays are not those that the order names")
            order, segments = body.order, segments_of(packed, header.segments)
            check_known(order.job, self.attempts)
            with self._jobs.alone(order.job, turn):
                return self._attempt(asked, body, segments, turn, began)
        segments = segments_of(packed, header.segments)
        job = body.order.job if isinstance(body, ApplyRequest) else body.job
        check_known(job, self.attempts)
        with self._jobs.alone(job, turn):
            if isinstance(body, KeysRequest | ApplyRequest | ReloadRequest):
                plan = approved(job, self.attempts)
                return self._reply(asked, *self._held_jobs(plan, body, segments, asked))
            if isinstance(body, CloseRequest):
                # What is kept of the records takes as long as there are many.
                turn.compute(began)
            return self._reply(asked, self._follow_up(body, asked, segments), {})

    def _held_jobs(
        self, plan: JobPlan, body: KeysRequest | ApplyRequest | ReloadRequest, segments: Segments, asked: str
    ) -> tuple[Reply, Segments]:
        """In mode `he`: keys, sums and states; they hang on no record of this member's."""
        if self.blind is None:
            raise RefusalError("mode-downgrade", "the charter asks for another mode than 'he'")
        needed = {"keys": set[str](), "apply": {ENCRYPTED_SUM}, "reload": {SEALED_STATE}}[body.type]
        allowed = needed | {"keys": {SEALED_KEYS}, "apply": {PREPARATION}, "reload": set[str]()}[body.type]
        if not needed <= set(segments) <= allowed:
            raise RefusalError(
                "bad-size",
                f"a request '{body.type}' needs segments {sorted(needed)}, it has {sorted(segments)}",
            )
        if isinstance(body, KeysRequest):
            return self.blind.keys(body, segments)
        if isinstance(body, ReloadRequest):
            return self.blind.reload(plan, body, segments), {}
        check_applied(body, self.membership.charter, plan)
        brought = {it.name: it.sha256 for it in describe(segments) if it.name == PREPARATION}
        # Later states hold it.
        named = {
            name: it for name, it in body.order.arrays.items() if name == PREPARATION and not body.order.base
        }
        if brought != named:
            raise RefusalError("bad-size", "the preparation is not the one that the order named")
        self._work.check_preparation(segments)
        return self.blind.apply(plan, body, segments, self.attempts, asked)

    def _hello(self, body: HelloRequest) -> tuple[HelloReply, Segments]:
        masked = self._masked
        reply = HelloReply(
            nonce=body.nonce,
            charter_version=self.membership.charter.version,
            started=self.started,
            isolated=self.isolated,
            head=None if self.budget is None else self.budget.ledger.head,
            start="" if self.starts is None else self.starts.start,
            accepts={} if self.starts is None else self.starts.accepts,
        )
        return reply, {} if masked is None else masked.prekeys(body.prekeys)

    def _witness(self, body: WitnessRequest) -> WitnessReply:
        """In mode `clear`: sign others' starts, take what others signed on this one."""
        if self.starts is None or body.prekeys:
            raise RefusalError(
                "not-approved", "only mode 'masked' has prekeys, and without noise nobody needs witnesses"
            )
        witnesses = self.starts.sign_starts(body.starts)
        self.starts.take_witnesses(body.shown)
        return WitnessReply(witnesses=witnesses, accepts=self.starts.accepts)

    def _attempt(self, asked: str, body: TrainRequest, segments: Segments, turn: Turn, began: float) -> bytes:
        order = body.order
        plan = approved(order.job, self.attempts)
        known = self.attempts.accepted(order.job, order.attempt)
        if known is not None:
            return self._again(known, asked)
        newest = self.attempts.newest(order.job)
        if newest is not None and order.attempt <= newest.attempt:
            raise RefusalError(
                "attempt-not-rising",
                f"attempt {order.attempt} comes after attempt {newest.attempt} was accepted",
                {"asked": order.attempt, "newest": newest.attempt},
            )
        charter = self.membership.charter
        check_order(order, charter, plan, self.membership.name)
        check_groups(order, charter, self.membership.name)
        if order.kind == "statistics" and not (plan.check and self.budget is not None):
            raise RefusalError("not-approved", "the job plans no statistics release under noise")
        self._take_finished(order.job, body.finished)
        self._check_paid(plan, order)
        segments = self._with_model(plan, body, segments)
        masking, arrays = self._take_part(plan, order, segments)
        self.attempts.accept(order.job, order.attempt, asked, order.cohort, order.digest)
        # From here on the attempt is paid, whatever becomes of it.
        paid = NOTHING_PAID if self.budget is None else self.budget.charge(plan, order)
        # Compute time tells batch and data-set sizes: what leaves does so on a public beat (PROTOCOL section 6).
        turn.compute(began)
        outgoing = self._computed(plan, order, arrays, paid)
        released = {name: plan.steps if name == UPDATE else 1 for name in outgoing}
        if self._masked is not None and masking is not None:
            self._protect(order, masking, outgoing)
            outgoing |= self._masked.prekeys(1, replacing=True)
        receipt = self._receipt(order, paid.receipt)
        reply = self._reply(
            asked, UploadReply(job=order.job, attempt=order.attempt, receipt=receipt), outgoing
        )
        seen = Seen(job=order.job, attempt=order.attempt, order=order.digest, receipt=receipt)
        self.attempts.keep_reply(reply, seen, released, charter.privacy.noise, paid.noise)
        return reply

    def _computed(self, plan: JobPlan, order: Order, arrays: Segments, paid: Paid) -> dict[str, NDArray[Any]]:
        computing = (order.job, order.attempt)
        # Noted before the work is looked up: whoever changes that sees who may have the one before.
        self._computing.add(computing)
        try:
            return dict(self._work.run(plan, order, arrays, paid.noise))
        finally:
            self._computing.discard(computing)

    def _with_model(self, plan: JobPlan, body: TrainRequest, segments: Segments) -> Segments:
        """What the order starts from: it comes with the order, or this member holds it and nothing of it may come."""
        order = body.order
        if self.blind is None:
            if order.epoch or order.state or body.pending is not None:
                raise RefusalError(
                    "mode-downgrade", "the order names keys, and the charter's mode is not 'he'"
                )
            check_sent(plan, order, segments.get("weights"))
            return segments
        if {"weights", "released", STEP} & set(segments):
            raise RefusalError(
                "mode-downgrade", "the charter asks for mode 'he', and the order brings a model"
            )
        if (body.pending is not None) != bool(order.probes) or (ENCRYPTED_SUM in segments) != bool(
            order.probes
        ):
            raise RefusalError("bad-size", "a probe, and nothing else, brings the sum that it tries")
        if order.kind == "statistics":
            return segments
        if body.pending is not None:
            check_tried(order, body.pending, self.membership.charter, plan)
            self.blind.state(plan, order, segments)
            brought = self.blind.tried(plan, body.pending, segments, self.attempts)
            return {**{name: it for name, it in segments.items() if name != ENCRYPTED_SUM}, **brought}
        state = self.blind.state(plan, order, segments)
        model = {"weights": state.weights} if order.kind == "train" else {}
        if order.kind == "evaluate" or (order.evaluate and state.released is not state.weights):
            model["released"] = state.released
        return {**segments, **model}

    def _protect(self, order: Order, masking: MemberAttempt, outgoing: dict[str, NDArray[Any]]) -> None:
        """Mask an upload in place; in mode `he` the update gets its check words before and its envelope after."""
        if self.blind is None or UPDATE not in outgoing:
            masking.mask(outgoing)
            return
        outgoing[UPDATE] = self.blind.with_check_words(order, outgoing[UPDATE])
        masked = masking.mask(outgoing, {UPDATE: HE_PRIME})
        outgoing[UPDATE] = self.blind.encrypt(order, masked[UPDATE])

    def _check_paid(self, plan: JobPlan, order: Order) -> None:
        """Refuse what could not be paid while nothing is used up, so that the same request may come again."""
        if self.witnesses is not None:
            self.witnesses.check_cohort(order.cohort)
        if self.budget is not None:
            try:
                noise, charter = self.budget.check(plan, order), self.membership.charter
            except RefusalError as refusal:
                if refusal.code == "attempt-limit":
                    self._limited[order.job] = None
                raise
            self._limited.pop(order.job, None)
            check_grid(order, charter, plan, self._work.parameters, self.membership.name, noise)
        elif order.noise:
            raise RefusalError("not-approved", "the charter has no noise, and the order has some")

    def _take_finished(self, job: str, finished: Sequence[Finish]) -> None:
        """Enter which attempts finished, by proofs of t members; all are checked before one counts."""
        proved = []
        for finish in finished:
            # Of an attempt that this member was not asked in it has nothing to enter.
            known = self.attempts.accepted(job, finish.attempt)
            if known is not None:
                check_finish(finish, job, known.order_digest, self._parties)
                proved.append(finish.attempt)
        if self.budget is not None:
            for attempt in proved:
                self.budget.finish(job, attempt)

    def _take_part(
        self, plan: JobPlan, order: Order, segments: Segments
    ) -> tuple[MemberAttempt | None, Segments]:
        """The last checks; in mode `masked` the prekeys are used up from here on. Returns the other segments."""
        if self._masked is None:
            check_unmasked(order, segments)
            self._work.check(order, segments)
            if self.starts is not None:
                self.starts.check_witnessed()
            return None, segments
        prekeys = self._masked.decode(order, segments)
        arrays = {name: array for name, array in segments.items() if name != PREKEYS}
        self._work.check(order, arrays)
        return self._masked.accept(order, prekeys, deadline_s=plan.deadline_s), arrays

    def _receipt(self, order: Order, receipt: Receipt) -> Receipt:
        name = self.membership.name
        statement = receipt_statement(order.job, order.attempt, order.digest, name, receipt)
        return receipt.model_copy(update={"signature": to_text(self.membership.identity.sign(statement))})

    def _again(self, known: AcceptedAttempt, asked: str) -> bytes:
        if known.request != asked:
            raise RefusalError(
                "different-request-same-attempt",
                f"attempt {known.attempt} was asked for before, with another request",
                {"attempt": known.attempt},
            )
        if known.reply is None:
            raise RefusalError(
                "attempt-lost",
                f"attempt {known.attempt} was accepted but its reply is gone; ask for a new attempt",
                {"attempt": known.attempt},
            )
        return known.reply

    def _follow_up(
        self, body: AgreeRequest | UnmaskRequest | CloseRequest, asked: str, segments: Segments
    ) -> Reply:
        if isinstance(body, CloseRequest):
            # The answer may have been lost on its way: what is closed is closed, and its model stays.
            if self.attempts.state(body.job) == "closed":
                return CloseReply(job=body.job)
            plan = approved(body.job, self.attempts)
            if self.blind is not None and segments:
                raise RefusalError(
                    "mode-downgrade", "the charter asks for mode 'he', and a model comes with the end"
                )
            if self.blind is not None and body.rounds:
                segments = self.blind.released(plan.job, body.state, body.rounds)
            self._work.keep(plan, segments, body.rounds)
            if not self.attempts.finish(body.job, f"closed after {body.rounds} rounds"):
                approved(body.job, self.attempts)  # frozen meanwhile
            if self._masked is not None:
                self._masked.forget(body.job)
            return CloseReply(job=body.job)
        check_not_frozen(body.job, self.attempts)
        attempt = self._uploaded(body.job, body.attempt)
        if isinstance(body, AgreeRequest):
            if self._masked is not None:
                self._masked.bind(body.job, body.attempt, body.active)
            self._agree(attempt, body)
            statement = active_statement(body.job, body.attempt, attempt.order_digest, body.active)
            return AgreeReply(signature=to_text(self.membership.identity.sign(statement)))
        if isinstance(body, UnmaskRequest):
            reply = UnmaskReply(job=body.job, attempt=body.attempt)
            if self._masked is not None:
                reply = self._masked.unmask(body, asked)
            elif self.witnesses is not None:
                self._look_at(attempt, body, self.witnesses)
            self._agree(attempt, body)
            if self.budget is None:
                return reply
            statement = finish_statement(body.job, body.attempt, attempt.order_digest)
            return reply.model_copy(update={"finished": to_text(self.membership.identity.sign(statement))})
        assert_never(body)

    def _look_at(self, attempt: AcceptedAttempt, body: UnmaskRequest, witnesses: Witnesses) -> None:
        """In mode `clear` no share is given; what says that the attempt finished is checked and kept all the same."""
        check_active_set(body.active, attempt.cohort, self.membership.charter, self.membership.name)
        check_dropped(body.active, body.dropped, attempt.cohort)
        shown = {}
        for name in body.active:
            receipt = body.receipts.get(name, Receipt())
            shown[name] = Seen(
                job=body.job, attempt=body.attempt, order=attempt.order_digest, receipt=receipt
            )
            if not seen_valid(name, shown[name], self._parties):
                raise RefusalError(
                    "active-set-not-agreed",
                    f"no valid receipt shows that '{name}' uploaded in this attempt",
                    {"member": name},
                )
        # The server read the uploads as they came. Who of them began anew meanwhile, and was told less, is seen to
        # fork by this; not to keep it would help nobody.
        witnesses.note(shown, accepted=math.inf)

    def _uploaded(self, job: str, number: int) -> AcceptedAttempt:
        """The newest attempt, if this member's upload left for it."""
        attempt = self.attempts.newest(job)
        if attempt is None or attempt.attempt != number:
            raise RefusalError(
                "replayed", f"attempt {number} is not this member's newest", {"attempt": number}
            )
        if attempt.reply is None:
            raise RefusalError(
                "attempt-lost",
                f"this member never answered attempt {number}; it takes no part in it",
                {"attempt": number},
            )
        return attempt

    def _agree(self, attempt: AcceptedAttempt, body: AgreeRequest | UnmaskRequest) -> None:
        """Bind the attempt to one active set, durably, before anything about it leaves."""
        check_active_set(body.active, attempt.cohort, self.membership.charter, self.membership.name)
        if not self.attempts.agree(body.job, attempt.attempt, body.active):
            raise RefusalError(
                "second-active-set",
                f"attempt {attempt.attempt} has another active set already",
                {"attempt": attempt.attempt},
            )

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
