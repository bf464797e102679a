"""Orders, as a member obeys them: checked, paid for, computed, masked and answered (PROTOCOL 4.1, 4.2).

`Orders.obey` has all of it in the order in which it happens. An attempt is paid before it is computed,
and whatever could be refused is refused before anything is used up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from hansa.clients.approval import approved
from hansa.clients.attempt_log import AcceptedAttempt, AttemptLog
from hansa.clients.budget import Budget, Paid
from hansa.clients.checks import check_grid, check_groups, check_order, check_tried, check_unmasked
from hansa.clients.masked import MaskedAttempts
from hansa.clients.membership import Membership
from hansa.clients.starting import check_sent
from hansa.clients.turns import Turn
from hansa.clients.witnesses import Witnesses
from hansa.clients.work import Work
from hansa.contract.blind_messages import ENCRYPTED_SUM
from hansa.contract.bounded import BoundedDict
from hansa.contract.errors import RefusalError
from hansa.contract.jobs import JobPlan
from hansa.contract.keys import to_text
from hansa.contract.messages import (
    PREKEYS,
    Finish,
    Order,
    Receipt,
    Reply,
    Seen,
    TrainRequest,
    UploadReply,
)
from hansa.contract.segments import HE_PRIME, STEP, UPDATE
from hansa.contract.statements import receipt_statement
from hansa.contract.wire import Segments
from hansa.secagg.finishing import check_finish
from hansa.secagg.member import MemberAttempt
from hansa.secagg.parties import Parties
from hansa.secagg.starts import Starts

if TYPE_CHECKING:
    # It brings TenSEAL, which only mode `he` needs.
    from hansa.clients.blind import BlindJobs

_MOST_LIMITED = 1000
# An attempt under a charter without noise.
NOTHING_PAID = Paid(noise={}, receipt=Receipt())


class Orders:
    """Orders to one member; those of a job come one at a time.

    Parameters
    ----------
    work : what computes on the records now; it may leave some out from one order to the next
    reply : seals a body and its segments as the answer to the request of that hash
    """

    def __init__(
        self,
        membership: Membership,
        attempts: AttemptLog,
        parties: Parties,
        *,
        work: Callable[[], Work],
        reply: Callable[[str, Reply, Segments], bytes],
        starts: Starts | None,
        masked: MaskedAttempts | None,
        budget: Budget | None,
        witnesses: Witnesses | None,
        blind: BlindJobs | None,
    ) -> None:
        self._membership = membership
        self._attempts = attempts
        self._parties = parties
        self._work = work
        self._reply = reply
        self._starts = starts
        self._masked = masked
        self._budget = budget
        self._witnesses = witnesses
        self._blind = blind
        # Attempts whose upload is being computed now.
        self.computing: set[tuple[str, int]] = set()
        # Jobs whose newest order had too many unfinished attempts before it, with what it proved of them.
        self.limited: BoundedDict[str, None] = BoundedDict(_MOST_LIMITED)

    def obey(self, asked: str, body: TrainRequest, segments: Segments, turn: Turn, began: float) -> bytes:
        """Answer an order with an upload, once; the very same request gets the very same answer again.

        Checks come in the order of these lines, and all of them before anything is used up.

        Parameters
        ----------
        asked : hash of the request's bytes
        turn : told when computing begins
        began : when the request came
        """
        order = body.order
        plan = approved(order.job, self._attempts)
        known = self._attempts.accepted(order.job, order.attempt)
        if known is not None:
            return self._again(known, asked)
        newest = self._attempts.newest(order.job)
        if newest is not None and order.attempt <= newest.attempt:
            raise RefusalError(
                "attempt-not-rising",
                f"attempt {order.attempt} comes after attempt {newest.attempt} was accepted",
                {"asked": order.attempt, "newest": newest.attempt},
            )
        charter = self._membership.charter
        check_order(order, charter, plan, self._membership.name)
        check_groups(order, charter, self._membership.name)
        if order.kind == "statistics" and not (plan.check and self._budget is not None):
            raise RefusalError("not-approved", "the job plans no statistics release under noise")
        self._take_finished(order.job, body.finished)
        self._check_paid(plan, order)
        segments = self._with_model(plan, body, segments)
        masking, arrays = self._take_part(plan, order, segments)
        self._attempts.accept(order.job, order.attempt, asked, order.cohort, order.digest)
        # From here on the attempt is paid, whatever becomes of it.
        paid = NOTHING_PAID if self._budget is None else self._budget.charge(plan, order)
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
        self._attempts.keep_reply(reply, seen, released, charter.privacy.noise, paid.noise)
        return reply

    def _computed(self, plan: JobPlan, order: Order, arrays: Segments, paid: Paid) -> dict[str, NDArray[Any]]:
        computing = (order.job, order.attempt)
        # Noted before the work is looked up: whoever changes that sees who may have the one before.
        self.computing.add(computing)
        try:
            return dict(self._work().run(plan, order, arrays, paid.noise))
        finally:
            self.computing.discard(computing)

    def _with_model(self, plan: JobPlan, body: TrainRequest, segments: Segments) -> Segments:
        """What the order starts from: it comes with the order, or this member holds it and nothing of it may come."""
        order = body.order
        if self._blind is None:
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
            check_tried(order, body.pending, self._membership.charter, plan)
            self._blind.state(plan, order, segments)
            brought = self._blind.tried(plan, body.pending, segments, self._attempts)
            return {**{name: it for name, it in segments.items() if name != ENCRYPTED_SUM}, **brought}
        state = self._blind.state(plan, order, segments)
        model = {"weights": state.weights} if order.kind == "train" else {}
        if order.kind == "evaluate" or (order.evaluate and state.released is not state.weights):
            model["released"] = state.released
        return {**segments, **model}

    def _protect(self, order: Order, masking: MemberAttempt, outgoing: dict[str, NDArray[Any]]) -> None:
        """Mask an upload in place; in mode `he` the update gets its check words before and its envelope after."""
        if self._blind is None or UPDATE not in outgoing:
            masking.mask(outgoing)
            return
        outgoing[UPDATE] = self._blind.with_check_words(order, outgoing[UPDATE])
        masked = masking.mask(outgoing, {UPDATE: HE_PRIME})
        outgoing[UPDATE] = self._blind.encrypt(order, masked[UPDATE])

    def _check_paid(self, plan: JobPlan, order: Order) -> None:
        """Refuse what could not be paid while nothing is used up, so that the same request may come again."""
        if self._witnesses is not None:
            self._witnesses.check_cohort(order.cohort)
        if self._budget is not None:
            try:
                noise, charter = self._budget.check(plan, order), self._membership.charter
            except RefusalError as refusal:
                if refusal.code == "attempt-limit":
                    self.limited[order.job] = None
                raise
            self.limited.pop(order.job, None)
            check_grid(order, charter, plan, self._work().parameters, self._membership.name, noise)
        elif order.noise:
            raise RefusalError("not-approved", "the charter has no noise, and the order has some")

    def _take_finished(self, job: str, finished: Sequence[Finish]) -> None:
        """Enter which attempts finished, by proofs of t members; all are checked before one counts."""
        proved = []
        for finish in finished:
            # Of an attempt that this member was not asked in it has nothing to enter.
            known = self._attempts.accepted(job, finish.attempt)
            if known is not None:
                check_finish(finish, job, known.order_digest, self._parties)
                proved.append(finish.attempt)
        if self._budget is not None:
            for attempt in proved:
                self._budget.finish(job, attempt)

    def _take_part(
        self, plan: JobPlan, order: Order, segments: Segments
    ) -> tuple[MemberAttempt | None, Segments]:
        """The last checks; in mode `masked` the prekeys are used up from here on. Returns the other segments."""
        if self._masked is None:
            check_unmasked(order, segments)
            self._work().check(order, segments)
            if self._starts is not None:
                self._starts.check_witnessed()
            return None, segments
        prekeys = self._masked.decode(order, segments)
        arrays = {name: array for name, array in segments.items() if name != PREKEYS}
        self._work().check(order, arrays)
        return self._masked.accept(order, prekeys, deadline_s=plan.deadline_s), arrays

    def _receipt(self, order: Order, receipt: Receipt) -> Receipt:
        name = self._membership.name
        statement = receipt_statement(order.job, order.attempt, order.digest, name, receipt)
        return receipt.model_copy(update={"signature": to_text(self._membership.identity.sign(statement))})

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
