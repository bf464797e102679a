"""What a round needs from outside, as protocols: a journal that lasts, and the operator's signature.

`server.store` implements the journal over SQL, `hansa simulate` in memory. The strategy knows neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hansa.contract.decisions import Decision
from hansa.contract.jobs import AttemptKind, AttemptResult, JobPlan, JobStatus
from hansa.contract.messages import Finish, Receipt

# Proofs of finished attempts that last, of each job: as many as one request shows.
KEPT_FINISHES = 8
# Why a member that nobody reaches is left out.
NOT_CONNECTED = "not connected"
# Fact of an event: the version of the charter that its member obeys, which is not the one in force.
CHARTER_VERSION = "charter_version"
Wanted = Literal["run", "pause", "stop"]
Arrays = Mapping[str, NDArray[np.float64]]


class LeaseLost(Exception):
    """Another process has taken over this job; whoever sees this stops at once and writes nothing."""


@dataclass(frozen=True)
class Progress:
    """How far a job has come: what a new run starts from."""

    # Number of the newest applied round; 0 before the first.
    round: int
    # Number of the newest attempt that was ever opened; 0 before the first.
    attempt: int
    # Arrays of `ModelState.arrays()` after `round`; None before the first round.
    state: Arrays | None
    # Whether the figures of `round` have been released already.
    evaluated: bool


@dataclass(frozen=True)
class MemberPresence:
    """What a member's signed hello said, for the store and the page."""

    name: str
    node_id: int
    isolated: bool
    charter_version: int
    started: float


class Journal(Protocol):
    """One job's durable memory, held under a lease. Every write raises `LeaseLost` once the lease is gone."""

    @property
    def plan(self) -> JobPlan:
        """What the job sets out to do."""
        ...

    def progress(self) -> Progress:
        """Where the job stands."""
        ...

    def open_attempt(
        self,
        kind: AttemptKind,
        *,
        base: int,
        cohort: Sequence[str],
        left_out: Mapping[str, str],
        knobs: Mapping[str, float],
        tries: AttemptResult | None = None,
    ) -> int:
        """Take the next attempt number, durably, before anything is sent. Older open attempts become abandoned.

        Parameters
        ----------
        tries : of a probe, the attempt whose step it tries, `summed`; that one stays under way
        """
        ...

    def commit(self, result: AttemptResult, state: Arrays | None) -> None:
        """Write an attempt's result, and the state it led to, in one transaction."""
        ...

    def adopt(
        self, train: AttemptResult, probe: AttemptResult | None, state: Arrays | None, decision: Decision
    ) -> None:
        """Write a step, what a probe found of it, and the knobs that this sets, in one transaction.

        A knob that somebody moved or pinned since the step's order stays. The probe's figures are those of the model
        that the step led to.
        """
        ...

    def decide(self, decision: Decision) -> bool:
        """Keep a decision that sets no knob; False where its key is there already."""
        ...

    def audited(self) -> tuple[int, int] | None:
        """First and last round of the newest audit that was asked for; None where none ever was."""
        ...

    def probe_wanted(self) -> bool:
        """Whether a probe was asked for, beyond those of the plan, since the last one."""
        ...

    def receipts(self, attempt: int, order: str, receipts: Mapping[str, Receipt]) -> dict[str, str]:
        """Keep what members signed that an attempt was charged; it is paid whatever becomes of the attempt.

        Receipts without a head say nothing and are not kept; the first one of a member in an attempt stands.

        Parameters
        ----------
        order : digest of the order, which the signatures cover

        Returns
        -------
        Members whose receipts show two hashes for one row of their ledger, each with a sentence.
        """
        ...

    def keep_finish(self, finish: Finish) -> None:
        """Keep the proof that an attempt finished; the newest few of a job last."""
        ...

    def finishes(self) -> list[Finish]:
        """The proofs that are kept, the oldest first."""
        ...

    def knobs(self) -> dict[str, float]:
        """Current values: the charter's defaults, moved by whoever may, pins applied."""
        ...

    def pinned(self) -> frozenset[str]:
        """Knobs that nobody may move now, by the plan or because somebody pinned them."""
        ...

    def held(self) -> dict[str, str]:
        """Members that an operator holds out of selection, each with the reason."""
        ...

    def present(self, members: Sequence[MemberPresence]) -> None:
        """Members that are connected now."""
        ...

    def wanted(self) -> Wanted:
        """What the operator wants of this job."""
        ...

    def wanted_by(self) -> tuple[str, str]:
        """Who wanted that, and why; the reason may be empty."""
        ...

    def set_status(self, status: JobStatus, reason: str = "", *, wanted: Wanted | None = None) -> None:
        """Write the job's status and why.

        A status that obeys the operator names what was `wanted`: where that is not wanted any more by the time
        of the write, the job is queued instead, so that what came after it is not forgotten.
        """
        ...

    def event(
        self,
        kind: str,
        sentence: str,
        *,
        member: str = "",
        facts: Mapping[str, str | int | float] | None = None,
    ) -> None:
        """Append to the event log."""
        ...


class Operator(Protocol):
    """Signs what is asked of members: control over HTTP, or a key in this process."""

    def sign_headers(self, job: str, headers: Sequence[bytes]) -> list[bytes]:
        """One 64-byte signature for each header (`messages.signed_part`).

        Raises
        ------
        HansaError : control refuses, with its reason
        """
        ...
