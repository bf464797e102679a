"""Agree and unmask: what is asked about an upload that left (PROTOCOL 4.3, 4.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hansa.clients.approval import check_not_frozen
from hansa.clients.attempt_log import AcceptedAttempt, AttemptLog
from hansa.clients.budget import Budget
from hansa.clients.masked import MaskedAttempts
from hansa.clients.membership import Membership
from hansa.clients.witnesses import Witnesses
from hansa.contract.errors import RefusalError
from hansa.contract.keys import to_text
from hansa.contract.messages import (
    AgreeReply,
    AgreeRequest,
    Receipt,
    Seen,
    UnmaskReply,
    UnmaskRequest,
)
from hansa.contract.statements import active_statement, finish_statement
from hansa.secagg.active_set import check_active_set, check_dropped
from hansa.secagg.parties import Parties
from hansa.secagg.starts import seen_valid


@dataclass(frozen=True)
class FollowUps:
    """Signs who answered, gives shares, and signs that the attempt finished; one active set an attempt, for good."""

    membership: Membership
    attempts: AttemptLog
    parties: Parties
    masked: MaskedAttempts | None
    budget: Budget | None
    witnesses: Witnesses | None

    def answer(self, body: AgreeRequest | UnmaskRequest, asked: str) -> AgreeReply | UnmaskReply:
        """Answer about this member's newest upload, in a job that it did not freeze.

        Parameters
        ----------
        asked : hash of the request's bytes
        """
        check_not_frozen(body.job, self.attempts)
        attempt = self._uploaded(body.job, body.attempt)
        if isinstance(body, AgreeRequest):
            return self._agree(attempt, body)
        return self._unmask(attempt, body, asked)

    def _agree(self, attempt: AcceptedAttempt, body: AgreeRequest) -> AgreeReply:
        if self.masked is not None:
            self.masked.bind(body.job, body.attempt, body.active)
        self._bind(attempt, body)
        statement = active_statement(body.job, body.attempt, attempt.order_digest, body.active)
        return AgreeReply(signature=to_text(self.membership.identity.sign(statement)))

    def _unmask(self, attempt: AcceptedAttempt, body: UnmaskRequest, asked: str) -> UnmaskReply:
        reply = UnmaskReply(job=body.job, attempt=body.attempt)
        if self.masked is not None:
            reply = self.masked.unmask(body, asked)
        elif self.witnesses is not None:
            self._look_at(attempt, body, self.witnesses)
        self._bind(attempt, body)
        if self.budget is None:
            return reply
        statement = finish_statement(body.job, body.attempt, attempt.order_digest)
        return reply.model_copy(update={"finished": to_text(self.membership.identity.sign(statement))})

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
            if not seen_valid(name, shown[name], self.parties):
                raise RefusalError(
                    "active-set-not-agreed",
                    f"no valid receipt shows that '{name}' uploaded in this attempt",
                    {"member": name},
                )
        # The server read the uploads as they came. Who of them began anew meanwhile, and was told less, is seen to
        # fork by this; not to keep it would help nobody.
        witnesses.note(shown, accepted=math.inf)

    def _bind(self, attempt: AcceptedAttempt, body: AgreeRequest | UnmaskRequest) -> None:
        """Bind the attempt to one active set, durably, before anything about it leaves."""
        check_active_set(body.active, attempt.cohort, self.membership.charter, self.membership.name)
        if not self.attempts.agree(body.job, attempt.attempt, body.active):
            raise RefusalError(
                "second-active-set",
                f"attempt {attempt.attempt} has another active set already",
                {"attempt": attempt.attempt},
            )
