"""What the page is told: one shape of message, holding what changed since the message before."""

from __future__ import annotations

from typing import Literal

from hansa.contract.jobs import AttemptKind, AttemptStatus, JobPlan, JobStatus, Outcome
from hansa.contract.typed import Frozen
from hansa.server.control.processes import ProcessRecord
from hansa.server.records import DecisionRecord, EventRecord, QueueRecord, ScalingRecord
from hansa.server.replies import CharterFacts, KnobState, MemberState
from hansa.server.tokens import Scope
from hansa.strategies.ports import Wanted


class JobListed(Frozen):
    """A job in the list of jobs."""

    job: str
    name: str
    status: JobStatus
    round: int
    rounds: int


class JobShown(Frozen):
    """The job that is shown, without what changes every second and says nothing."""

    job: str
    name: str
    status: JobStatus
    reason: str
    wanted: Wanted
    wanted_by: str
    wanted_reason: str
    round: int
    attempt: int
    plan: JobPlan
    # Unix seconds, as all times of rounds and attempts here.
    created: float


class Part(Frozen):
    """What one member did in a round, and how long it took to answer."""

    outcome: Outcome
    seconds: float


class RoundShown(Frozen):
    """An applied round; `members` holds whoever was asked, `left_out` whoever was not, and why."""

    round: int
    attempt: int
    applied: float
    seconds: float
    members: dict[str, Part]
    left_out: dict[str, str]


class FigureShown(Frozen):
    """A released figure of the model after `round`; `error` is the standard error of the added noise."""

    round: int
    name: str
    value: float
    error: float | None


class AttemptShown(Frozen):
    """One of the newest attempts, open or over."""

    attempt: int
    kind: AttemptKind
    status: AttemptStatus
    base: int
    cohort: int
    reason: str
    opened: float
    seconds: float | None


class BudgetShown(Frozen):
    """A grant of a member by its newest receipt, and how long it would last.

    Parameters
    ----------
    percent_left, percent_job : of the grant, in the currency that adds up: what is left, what the shown job took
    rounds_left : rounds like those of the shown job that the rest would pay for; None where none was paid from it
    last_round : number of the last of these, counted on from the job's newest round
    """

    member: str
    grant: str
    data_set: str
    currency: str
    epsilon: float
    delta: float
    epsilon_spent: float | None
    percent_left: float
    percent_job: float
    rounds_left: int | None
    last_round: int | None
    at: float


class Opening(Frozen):
    """What does not change while control runs."""

    scope: Scope
    version: str
    charter: CharterFacts
    protection: str
    privacy: str
    warnings: list[str]


class PageChange(Frozen):
    """What changed; a field that is not there stayed as it was.

    Parameters
    ----------
    fresh : whether everything before this is to be forgotten: the first message, or another job
    newest : the job's newest round; rounds and figures above it were undone
    rounds, figures, events, decisions, scaling : those that are new; the same one may come twice
    """

    fresh: bool = False
    opening: Opening | None = None
    kind: Literal["change"] = "change"
    jobs: list[JobListed] = []
    job: JobShown | None = None
    newest: int = 0
    attempts: list[AttemptShown] = []
    members: list[MemberState] = []
    knobs: list[KnobState] = []
    budgets: list[BudgetShown] = []
    queue: QueueRecord | None = None
    processes: list[ProcessRecord] = []
    rounds: list[RoundShown] = []
    figures: list[FigureShown] = []
    events: list[EventRecord] = []
    decisions: list[DecisionRecord] = []
    scaling: list[ScalingRecord] = []
