"""Hello and witness: who this member is, the start that others sign, and its new prekeys (PROTOCOL sections 2, 3)."""

from __future__ import annotations

from dataclasses import dataclass

from hansa.clients.budget import Budget
from hansa.clients.masked import MaskedAttempts
from hansa.clients.membership import Membership
from hansa.contract.errors import RefusalError
from hansa.contract.messages import HelloReply, HelloRequest, WitnessReply, WitnessRequest
from hansa.contract.wire import Segments
from hansa.secagg.starts import Starts


@dataclass(frozen=True)
class Greeting:
    """What a member says of itself.

    Parameters
    ----------
    starts : this agent's start; None where a member needs nobody's word
    started : when it did, in seconds since 1970
    isolated : whether it has no network
    """

    membership: Membership
    started: float
    isolated: bool
    starts: Starts | None
    masked: MaskedAttempts | None
    budget: Budget | None

    def spends(self, body: HelloRequest | WitnessRequest) -> bool:
        """Whether each answer has new prekeys, so that the same bytes must not have another one."""
        if self.masked is None or body.prekeys == 0:
            return False
        # Without a nonce the same bytes may well ask for new prekeys.
        return isinstance(body, HelloRequest) or bool(body.nonce)

    def answer(self, body: HelloRequest | WitnessRequest) -> tuple[HelloReply | WitnessReply, Segments]:
        """Say hello, or sign others' starts and take what others signed on this one."""
        if isinstance(body, HelloRequest):
            return self._hello(body)
        if self.masked is not None:
            return self.masked.witness(body)
        return self._witness(body), {}

    def _hello(self, body: HelloRequest) -> tuple[HelloReply, Segments]:
        reply = HelloReply(
            nonce=body.nonce,
            charter_version=self.membership.charter.version,
            started=self.started,
            isolated=self.isolated,
            head=None if self.budget is None else self.budget.ledger.head,
            start="" if self.starts is None else self.starts.start,
            accepts={} if self.starts is None else self.starts.accepts,
        )
        return reply, {} if self.masked is None else self.masked.prekeys(body.prekeys)

    def _witness(self, body: WitnessRequest) -> WitnessReply:
        """In mode `clear`: no prekeys go with it."""
        if self.starts is None or body.prekeys:
            raise RefusalError(
                "not-approved", "only mode 'masked' has prekeys, and without noise nobody needs witnesses"
            )
        witnesses = self.starts.sign_starts(body.starts)
        self.starts.take_witnesses(body.shown)
        return WitnessReply(witnesses=witnesses, accepts=self.starts.accepts)
