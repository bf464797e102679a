"""What an agent answers: the member's side of PROTOCOL sections 2, 4 and 8.

Bytes in, bytes out. The agent obeys the charter it signed and the operator's signature, not
whoever speaks: both are checked before anything else, every refusal is typed and signed.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, assert_never

from hansa.clients.attempt_log import AcceptedAttempt, AttemptLog
from hansa.clients.checks import (
    check_active_set,
    check_charter,
    check_knobs,
    check_mode,
    check_operator,
    check_order,
)
from hansa.contract.charter import Charter
from hansa.contract.errors import MessageError, RefusalError
from hansa.contract.jobs import JobPlan
from hansa.contract.keys import SigningKey, to_text
from hansa.contract.messages import (
    MAX_HEADER_BYTES,
    PREFIX,
    SIGNATURE_BYTES,
    AgreeReply,
    AgreeRequest,
    CloseReply,
    CloseRequest,
    HelloReply,
    HelloRequest,
    JobReply,
    JobRequest,
    Order,
    RefusalReply,
    Reply,
    ReplyHeader,
    RequestHeader,
    Segments,
    TrainRequest,
    UnmaskReply,
    UnmaskRequest,
    UploadReply,
    WitnessRequest,
    active_statement,
    describe,
    digest,
    request_header,
    seal,
    segments_of,
    unpack,
)

log = logging.getLogger("hansa.agent")


class Work(Protocol):
    """What a member does with its records; `clients.attempt.LocalWork` is the real one."""

    @property
    def parameters(self) -> int:
        """Coordinates of the charter's model."""
        ...

    def check(self, order: Order, segments: Segments) -> None:
        """Refuse segments that are not what the order needs, before the attempt is accepted."""
        ...

    def run(self, plan: JobPlan, order: Order, segments: Segments) -> Segments:
        """Compute an attempt's upload."""
        ...

    def keep(self, plan: JobPlan, segments: Segments) -> None:
        """Keep the final model."""
        ...


# Refusals of requests that nobody we know has signed.
UNSIGNED = ("not-operator", "protocol-number")
_SELDOM_S = 10.0


class Seldom:
    """Logs the first of many alike, and later how many came meanwhile: a flood must not fill a disk."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._more: dict[str, int] = {}

    def note(self, error: RefusalError | MessageError) -> None:
        """Log `error`, unless one of its kind was logged a moment ago."""
        kind = error.code if isinstance(error, RefusalError) else "undecodable"
        with self._lock:
            now = self._monotonic()
            if now - self._last.get(kind, -_SELDOM_S) < _SELDOM_S:
                self._more[kind] = self._more.get(kind, 0) + 1
                return
            self._last[kind], more = now, self._more.pop(kind, 0)
        log.warning("refused: %s%s", error, f" ({more} more like it since the last line)" if more else "")


@dataclass(frozen=True)
class Membership:
    """Who this agent is and what it agreed to."""

    name: str
    charter: Charter
    charter_hash: str
    identity: SigningKey
    # Hashes of the charters this member has left behind.
    superseded: frozenset[str] = frozenset()


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
    ) -> None:
        self.membership = membership
        self.attempts = attempts
        self.isolated = isolated
        self.started = now().timestamp()
        self._work = work
        self._pace = pace
        self._monotonic = monotonic
        self._now = now
        self._strangers = Seldom(monotonic)
        self._jobs: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @property
    def largest_request(self) -> int:
        """Bytes of the largest request that can be in order: header, weights and released model."""
        return PREFIX.size + MAX_HEADER_BYTES + SIGNATURE_BYTES + 2 * 8 * self._work.parameters

    def handle(self, request: bytes) -> bytes:
        """Answer one request. Never raises: what cannot be obeyed is refused, typed and signed."""
        asked = digest(request)
        try:
            return self._obey(request, asked)
        except RefusalError as refusal:
            self._strangers.note(refusal)
            # What anybody can send leaves no trace on this member's disk but a line in the log now and then.
            if refusal.code not in UNSIGNED:
                self.attempts.event("", refusal.code, refusal.sentence)
            reply = RefusalReply(code=refusal.code, sentence=refusal.sentence, facts=refusal.facts)
        except MessageError as error:
            self._strangers.note(error)
            reply = RefusalReply(code="bad-size", sentence=str(error))
        except Exception as error:
            # What failed may quote a record; the details stay in this member's own log.
            log.exception("an attempt failed")
            reply = RefusalReply(
                code="training-failed",
                sentence=f"the agent failed ({type(error).__name__}); its own log says why",
            )
        return self._reply(asked, reply, {})

    def _obey(self, request: bytes, asked: str) -> bytes:
        packed = unpack(request)
        check_operator(packed, self.membership.charter)
        header = request_header(packed)
        membership = self.membership
        check_charter(
            header.charter, membership.charter_hash, membership.charter, self._now(), membership.superseded
        )
        body = header.body
        if isinstance(body, HelloRequest):
            return self._reply(asked, self._hello(body), {})
        if isinstance(body, WitnessRequest):
            raise RefusalError("not-approved", "mode 'clear' has no prekeys and no witnesses")
        if isinstance(body, JobRequest):
            return self._reply(asked, self._propose(body.plan), {})
        if isinstance(body, TrainRequest):
            began = self._monotonic()
            if body.order.arrays != {it.name: it.sha256 for it in header.segments}:
                raise RefusalError("bad-size", "the arrays are not those that the order names")
            with self._jobs[body.order.job]:
                return self._attempt(asked, body.order, segments_of(packed, header.segments), began)
        with self._jobs[body.job]:
            return self._reply(asked, self._follow_up(body, header, segments_of(packed, header.segments)), {})

    def _hello(self, body: HelloRequest) -> HelloReply:
        charter = self.membership.charter
        return HelloReply(
            nonce=body.nonce, charter_version=charter.version, started=self.started, isolated=self.isolated
        )

    def _propose(self, plan: JobPlan) -> JobReply:
        check_knobs(plan.pinned, self.membership.charter, None)
        state = self.attempts.ask(plan)
        if self.attempts.plan(plan.job) != plan:
            raise RefusalError(
                "not-approved", "the operator shows another plan for a job that was proposed before"
            )
        if state == "asked" and self.membership.charter.approval == "automatic":
            self.attempts.set_state(plan.job, "approved", "the charter approves jobs automatically")
        self._approved(plan.job)
        return JobReply()

    def _approved(self, job: str) -> JobPlan:
        state, plan = self.attempts.state(job), self.attempts.plan(job)
        if plan is None or state == "":
            raise RefusalError("not-approved", "this job was never proposed to this member", {"job": job})
        if state == "asked":
            raise RefusalError(
                "not-approved",
                f"this member has not approved the job yet: hansa jobs approve {job}",
                {"job": job},
            )
        if state == "closed":
            raise RefusalError("not-approved", "the job is closed", {"job": job})
        if state == "frozen":
            raise RefusalError("grant-frozen", "this member froze the job", {"job": job})
        return plan

    def _attempt(self, asked: str, order: Order, segments: Segments, began: float) -> bytes:
        plan = self._approved(order.job)
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
        check_mode(self.membership.charter)
        check_order(order, self.membership.charter, plan, self.membership.name)
        if order.kind == "statistics":
            raise RefusalError("not-approved", "the charter plans no statistics release")
        self._work.check(order, segments)
        self.attempts.accept(order.job, order.attempt, asked, order.cohort, order.digest)
        outgoing = self._work.run(plan, order, segments)
        reply = self._reply(asked, UploadReply(job=order.job, attempt=order.attempt), outgoing)
        self.attempts.keep_reply(order.job, order.attempt, reply)
        # Compute time tells batch and data-set sizes: the upload leaves on a public beat (PROTOCOL section 6).
        self._pace(self._monotonic() - began)
        return reply

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
        self, body: AgreeRequest | UnmaskRequest | CloseRequest, header: RequestHeader, segments: Segments
    ) -> Reply:
        if isinstance(body, CloseRequest):
            plan = self.attempts.plan(body.job)
            if plan is None:
                raise RefusalError(
                    "not-approved", "this job was never proposed to this member", {"job": body.job}
                )
            self._work.keep(plan, segments)
            self.attempts.set_state(body.job, "closed", f"closed after {body.rounds} rounds")
            return CloseReply(job=body.job)
        attempt = self._bind(body.job, body.attempt, body.active)
        if isinstance(body, AgreeRequest):
            statement = active_statement(body.job, body.attempt, attempt.order_digest, body.active)
            return AgreeReply(signature=to_text(self.membership.identity.sign(statement)))
        if isinstance(body, UnmaskRequest):
            return UnmaskReply(job=body.job, attempt=body.attempt)
        assert_never(body)

    def _bind(self, job: str, number: int, active: tuple[str, ...]) -> AcceptedAttempt:
        """The newest attempt, bound to one active set for good."""
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
        check_active_set(active, attempt.cohort, self.membership.charter, self.membership.name)
        if not self.attempts.agree(job, number, active):
            raise RefusalError(
                "second-active-set", f"attempt {number} has another active set already", {"attempt": number}
            )
        return attempt

    def _reply(self, asked: str, body: Reply, segments: Segments) -> bytes:
        header = ReplyHeader(
            charter=self.membership.charter_hash,
            sender=self.membership.name,
            request=asked,
            body=body,
            segments=describe(segments),
        )
        return seal(header, segments, self.membership.identity)
