"""The end of a job at a member: its model is kept, and nothing more is answered of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hansa.clients.approval import approved
from hansa.clients.attempt_log import AttemptLog
from hansa.clients.masked import MaskedAttempts
from hansa.clients.work import Work
from hansa.contract.errors import RefusalError
from hansa.contract.messages import CloseReply, CloseRequest
from hansa.contract.wire import Segments

if TYPE_CHECKING:
    # It brings TenSEAL, which only mode `he` needs.
    from hansa.clients.blind import BlindJobs


@dataclass(frozen=True)
class Closing:
    """Takes the final model, which came with the request or in mode `he` is held here.

    Parameters
    ----------
    work : what computes on the records now
    """

    attempts: AttemptLog
    work: Callable[[], Work]
    blind: BlindJobs | None
    masked: MaskedAttempts | None

    def answer(self, body: CloseRequest, segments: Segments) -> CloseReply:
        """Close a job that this member takes part in; again, where it was closed."""
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
        self.work().keep(plan, segments, body.rounds)
        if not self.attempts.finish(body.job, f"closed after {body.rounds} rounds"):
            approved(body.job, self.attempts)  # frozen meanwhile
        if self.masked is not None:
            self.masked.forget(body.job)
        return CloseReply(job=body.job)
