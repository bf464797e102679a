"""What an agent holds in memory of mode `masked`: its prekeys, and the newest attempt of each job (PROTOCOL 3, 4).

Shares of an attempt that nobody unmasks are dropped after a while, and nothing outlives the process. A
restarted agent has no attempt here, so it gives no share of any prekey that an earlier one may have given
a share of: it answers `attempt-lost`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hansa.clients.witnesses import Witnesses
from hansa.contract.errors import RefusalError
from hansa.contract.keys import to_text
from hansa.contract.messages import (
    PREKEYS,
    Order,
    Seen,
    UnmaskReply,
    UnmaskRequest,
    WitnessReply,
    WitnessRequest,
)
from hansa.contract.wire import Segments
from hansa.secagg.member import MemberAttempt
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import Prekey, decode_prekeys, prekey_bytes
from hansa.secagg.ring import PrekeyRing

# Attempts whose shares are held, over all jobs; the oldest go.
KEPT_ATTEMPTS = 16
# An attempt's shares are held for at least so long after it was accepted, and so is the answer to its unmasking.
HELD_S = 600.0
# And for as many of its plan's deadlines: to upload, to agree on who did, and to unmask.
_DEADLINES = 3


@dataclass
class _Newest:
    """The newest attempt of a job; of its unmasking the request's hash and the answer, to say it again."""

    attempt: MemberAttempt
    accepted: float
    held_s: float
    asked: str = ""
    answer: UnmaskReply | None = None


class MaskedAttempts:
    """A member's part of masked attempts since the process began; attempts of one job come one at a time."""

    def __init__(
        self,
        parties: Parties,
        ring: PrekeyRing,
        monotonic: Callable[[], float] = time.monotonic,
        witnesses: Witnesses | None = None,
    ) -> None:
        self.ring = ring
        self._witnesses = witnesses
        self._monotonic = monotonic
        # Attempts of different jobs come at once.
        self._lock = threading.Lock()
        self._parties = parties
        self._newest: dict[str, _Newest] = {}

    @property
    def largest_segment(self) -> int:
        """Bytes of the prekeys of the largest cohort."""
        return len(self._parties.names) * prekey_bytes(self._parties)

    def prekeys(self, count: int, *, replacing: bool = False) -> Segments:
        """So many new prekeys as the segment of a reply, for used ones if `replacing`; no segment for none."""
        if count == 0:
            return {}
        return {PREKEYS: np.frombuffer(self.ring.make(count, replacing=replacing), np.uint8)}

    def witness(self, request: WitnessRequest) -> tuple[WitnessReply, Segments]:
        """Sign others' starts, take what others signed on this one, and make prekeys after that."""
        witnesses = self.ring.sign_starts(request.starts)
        self.ring.take_witnesses(request.shown)
        made = self.prekeys(request.prekeys)
        return WitnessReply(witnesses=witnesses, accepts=self.ring.accepts), made

    def decode(self, order: Order, segments: Segments) -> list[Prekey]:
        """One prekey of each of the cohort, in its order; signatures are still to be checked.

        Raises
        ------
        RefusalError : `mode-downgrade` where there are none, `bad-size` where there are not as many as members
        """
        content = segments.get(PREKEYS)
        if content is None or not order.prekeys:
            raise RefusalError(
                "mode-downgrade", "the charter asks for mode 'masked', the order has no prekeys"
            )
        expected = len(order.cohort) * prekey_bytes(self._parties)
        if content.dtype != np.uint8 or content.size != expected:
            raise RefusalError(
                "bad-size",
                f"segment '{PREKEYS}' has {content.size} values of {content.dtype}; "
                f"{len(order.cohort)} prekeys of this charter have {expected} bytes",
                {"expected": expected},
            )
        return decode_prekeys(content.data, self._parties, len(order.cohort))

    def accept(self, order: Order, prekeys: Sequence[Prekey], *, deadline_s: float) -> MemberAttempt:
        """Take part; the job's earlier attempt is over with that. Nothing is used up where it is refused.

        Parameters
        ----------
        deadline_s : of the plan that this member approved
        """
        # Before the ring's look at the starts: of one that is signed meanwhile it is not known what came first.
        accepted = self._monotonic()
        attempt = self.ring.accept(order, prekeys)
        with self._lock:
            self._drop_old()
            self._newest.pop(order.job, None)
            self._newest[order.job] = _Newest(attempt, accepted, max(HELD_S, _DEADLINES * deadline_s))
            while len(self._newest) > KEPT_ATTEMPTS:
                del self._newest[next(iter(self._newest))]
        return attempt

    def bind(self, job: str, number: int, active: Sequence[str]) -> None:
        """Take one active set for good; to be called before it is signed."""
        self._of(job, number).attempt.bind(active)

    def unmask(self, request: UnmaskRequest, asked: str) -> UnmaskReply:
        """The shares of an attempt, once; the very same request gets the very same answer again.

        Parameters
        ----------
        asked : hash of the request's bytes
        """
        newest = self._of(request.job, request.attempt)
        if newest.answer is not None and newest.asked == asked:
            return newest.answer
        given = newest.attempt.give(
            request.active, request.dropped, receipts=request.receipts, signatures=request.signatures
        )
        if self._witnesses is not None:
            # Where this raises the shares are gone: nobody gets them.
            order = newest.attempt.order
            self._witnesses.note(
                {
                    # Those that were checked; whatever else came with them was not.
                    name: Seen(
                        job=order.job,
                        attempt=order.attempt,
                        order=order.digest,
                        receipt=request.receipts[name],
                    )
                    for name in request.active
                },
                accepted=newest.accepted,
            )
        newest.asked = asked
        newest.answer = UnmaskReply(
            job=request.job,
            attempt=request.attempt,
            shares={name: to_text(opening) for name, opening in given.items()},
        )
        return newest.answer

    def forget(self, job: str) -> None:
        """The job is over."""
        with self._lock:
            self._newest.pop(job, None)

    def drop_old(self) -> None:
        """Give up the shares of attempts that nobody unmasked in time; any request does it."""
        with self._lock:
            self._drop_old()

    def _drop_old(self) -> None:
        now = self._monotonic()
        over = [job for job, newest in self._newest.items() if now - newest.accepted > newest.held_s]
        for job in over:
            del self._newest[job]

    def _of(self, job: str, number: int) -> _Newest:
        with self._lock:
            self._drop_old()
            newest = self._newest.get(job)
        if newest is None or newest.attempt.order.attempt != number:
            raise RefusalError(
                "attempt-lost",
                f"this agent holds nothing of attempt {number}: it started since, or the time to unmask is over",
                {"attempt": number},
            )
        return newest
