"""What the store remembers, as facts: read from the store, served by control, printed by the command line."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from hansa.contract.decisions import Decision
from hansa.contract.jobs import AttemptKind, AttemptStatus, JobPlan, JobStatus, MetricValue, Participation
from hansa.contract.messages import Receipt
from hansa.contract.scaling import ScalingEntry
from hansa.contract.typed import Frozen
from hansa.strategies.ports import Wanted


class JobRecord(Frozen):
    """A job and how far it has come."""

    job: str
    name: str
    status: JobStatus
    # Why it has that status; empty where nothing needs saying.
    reason: str
    wanted: Wanted
    # Who wanted that last, and why.
    wanted_by: str = "operator"
    wanted_reason: str = ""
    charter: str
    plan: JobPlan
    # Newest applied round and newest opened attempt; 0 before the first.
    round: int
    attempt: int
    created: datetime
    updated: datetime
    # When it was last queued: failures before that no longer count.
    queued: datetime
    # Whoever holds the lease, its number, and when the holder last said that it lives.
    holder: str
    epoch: int
    renewed: datetime


class RunRecord(Frozen):
    """One of Flower's runs that worked on a job."""

    id: int
    job: str
    run: str
    started: datetime
    ended: datetime | None
    # How it ended: finished, failed, stopped or unknown; empty while it lives.
    outcome: str
    # The job's newest round when the run started and when it ended: what the run achieved.
    round_before: int
    round_after: int | None


class AttemptRecord(Frozen):
    """One attempt, open or over."""

    job: str
    attempt: int
    kind: AttemptKind
    status: AttemptStatus
    base: int
    round: int | None
    cohort: tuple[str, ...]
    # Members whose upload counted; None until they are known.
    active: tuple[str, ...] | None
    left_out: dict[str, str]
    knobs: dict[str, float]
    seconds: float | None
    reason: str
    opened: datetime
    closed: datetime | None
    participation: tuple[Participation, ...] = ()


class RoundRecord(Frozen):
    """One applied train attempt, with the figures of the model it led to once they are known."""

    job: str
    round: int
    attempt: int
    base: int
    cohort: tuple[str, ...]
    active: tuple[str, ...]
    left_out: dict[str, str]
    knobs: dict[str, float]
    seconds: float
    applied: datetime
    # How far it moved the weights, Euclidean; None where members hold the model.
    step: float | None = None
    # Squared length of the mean update, what noise adds taken off; None there, too.
    slope: MetricValue | None = None
    metrics: dict[str, MetricValue]
    participation: tuple[Participation, ...] = ()


class MetricRecord(Frozen):
    """One released figure of the model after `round` (0: the initial one), as `attempt` measured it."""

    job: str
    round: int
    attempt: int
    name: str
    value: float
    error: float | None


class KnobRecord(Frozen):
    """One hyper-parameter of a job: its value, and who set it when and why."""

    name: str
    value: float
    pinned: bool
    set_by: str
    reason: str
    at: datetime


class DecisionRecord(Decision):
    """A decision as it was entered; `id` only rises."""

    id: int
    job: str
    at: datetime


class QueueRecord(Frozen):
    """Jobs that somebody wants to run: those that wait for an executor, and those that run in one."""

    waiting: int
    running: int


class ScalingRecord(ScalingEntry):
    """A decision about a service as it was entered; `id` only rises."""

    id: int


class MemberRecord(Frozen):
    """What is known of a member besides the charter: presence, and whether an operator holds it out."""

    name: str
    present: bool
    isolated: bool | None = None
    charter_version: int | None = None
    started: datetime | None = None
    seen: datetime | None = None
    # Reason for holding it out of selection; None where it is not held.
    held: str | None = None
    held_by: str = ""
    # Why it took no part in the newest attempt, in its own words where it refused, and since when; None where it did.
    apart: str | None = None
    apart_since: datetime | None = None


class EventRecord(Frozen):
    """One line of the append-only log; `id` only rises."""

    id: int
    at: datetime
    job: str | None
    kind: str
    member: str
    sentence: str
    facts: dict[str, str | int | float]


class BudgetRecord(Frozen):
    """One grant of one member as its newest receipt states it; amounts are in its currency."""

    id: int
    member: str
    grant: str
    data_set: str
    currency: Literal["gdp", "rdp"]
    # The one Rényi order; None in `gdp`.
    order: int | None
    epsilon: float
    delta: float
    amount: float
    training: float
    holdout: float
    # Amount less the larger of the two sums.
    remaining: float
    percent_left: float
    # What is spent, as epsilon at `delta`; None where it means nothing.
    epsilon_spent: float | None
    # The receipt that says so, and the number of the ledger's row.
    job: str
    attempt: int
    sequence: int
    at: datetime


class SpendingRecord(Frozen):
    """What a job took of one grant of one member, by the receipts that arrived: at least so much."""

    id: int
    member: str
    job: str
    grant: str
    training: float
    holdout: float
    charges: int
    # Training part of its newest round.
    round_cost: float


class ReceiptRecord(Frozen):
    """One receipt as it was signed; `order` is the digest that its signature covers."""

    id: int
    member: str
    job: str
    attempt: int
    order: str
    at: datetime
    receipt: Receipt
