"""Keys, sums and states of mode `he`, as they are asked for; they hang on no record of this member's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hansa.clients.attempt_log import AttemptLog
from hansa.clients.checks import check_applied
from hansa.clients.work import Work
from hansa.contract.blind_messages import (
    ENCRYPTED_SUM,
    SEALED_KEYS,
    SEALED_STATE,
    ApplyRequest,
    KeysRequest,
    ReloadRequest,
)
from hansa.contract.charter import Charter
from hansa.contract.errors import RefusalError
from hansa.contract.jobs import JobPlan
from hansa.contract.messages import Reply
from hansa.contract.segments import PREPARATION
from hansa.contract.wire import Segments, describe

if TYPE_CHECKING:
    # It brings TenSEAL, which only mode `he` needs.
    from hansa.clients.blind import BlindJobs


@dataclass(frozen=True)
class BlindRequests:
    """What is checked of them before `BlindJobs` answers.

    Parameters
    ----------
    blind : None in every other mode
    work : what computes on the records now
    """

    charter: Charter
    attempts: AttemptLog
    work: Callable[[], Work]
    blind: BlindJobs | None

    def answer(
        self, plan: JobPlan, body: KeysRequest | ApplyRequest | ReloadRequest, segments: Segments, asked: str
    ) -> tuple[Reply, Segments]:
        """Take keys, a sum or a state.

        Raises
        ------
        RefusalError : `mode-downgrade`, `bad-size`, or what the sum's own checks or `BlindJobs` say
        """
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
        check_applied(body, self.charter, plan)
        brought = {it.name: it.sha256 for it in describe(segments) if it.name == PREPARATION}
        # Later states hold it.
        named = {
            name: it for name, it in body.order.arrays.items() if name == PREPARATION and not body.order.base
        }
        if brought != named:
            raise RefusalError("bad-size", "the preparation is not the one that the order named")
        self.work().check_preparation(segments)
        return self.blind.apply(plan, body, segments, self.attempts, asked)
