"""Jobs, attempts, rounds: the words of DESIGN section 4 as types.

A job outlives Flower's runs. An attempt is numbered within its job, only rises and is paid.
A round is a train attempt that was applied; `base` is the round an attempt starts from.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from hansa.contract.typed import Frozen, Slug

JobId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
AttemptKind = Literal["train", "evaluate", "statistics"]
JobStatus = Literal["queued", "running", "paused", "stopped", "finished", "failed"]
# `summed`: its sum is known, and the probe that tries it is under way. `undone`: it was applied or evaluated, and
# the job went back to a round before it.
AttemptStatus = Literal["open", "summed", "applied", "evaluated", "failed", "abandoned", "undone"]
Outcome = Literal["replied", "refused", "failed", "missing"]

SumRule = Literal["fedavg", "fedavgm", "fedadam", "fedyogi"]
# Rules that look at each member's update by itself; only mode `clear` shows them to the server.
PerUpdateRule = Literal["median", "trimmed_mean", "krum", "multikrum"]
PER_UPDATE_RULES: tuple[PerUpdateRule, ...] = get_args(PerUpdateRule)

# A job whose rate is looked for begins with iterates that are worth less than those of one whose rate is known.
TUNED_RECENCY = 2.0
# `probe`: members try several lengths of a step before one of them is taken (PROTOCOL 4.1).
Tuning = Literal["none", "probe"]
# Lengths of a step that one probe may try.
MOST_FACTORS = 9
# So many of the first rounds are probed as planned, as far as evaluations beyond those of the plan allow.
PROBED, MORE_EVALUATIONS = 6, 0.4


class ServerRule(Frozen):
    """How the server turns a mean update into the next state (Reddi et al. 2021, 2003.00295)."""

    name: SumRule | PerUpdateRule = "fedadam"
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.8
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.9
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    # The released model is the mean of this share of the last iterates; 0 releases the last one.
    tail: Annotated[float, Field(ge=0, le=1)] = 0.25
    # The k-th iterate of that mean counts about k to this power (Shamir and Zhang 2013, 1212.1824). 0, or none
    # said in a job that is not tuned, counts all alike.
    recency: Annotated[float, Field(ge=0, le=16)] | None = None
    # Ridge penalty decay/2 |w|² on the mean loss: its gradient is taken from the mean update.
    decay: Annotated[float, Field(ge=0)] = 0.0
    # Mean second derivative of the mean loss along a weight, from public numbers (`models.linear.curvature`). With
    # it the rule heeds how loud the noise is: more ridge, smaller steps (`strategies.apply`). 0: it does not.
    curvature: Annotated[float, Field(ge=0)] = 0.0


class WarmStart(Frozen):
    """The model that a job starts from, by what it is called: provenance, and never its weights."""

    # Job that made it; what it cost stays charged to that job in every ledger.
    job: JobId
    # Rounds of that job.
    rounds: Annotated[int, Field(ge=0)] | None = None
    # Hash of the charter it was made under; empty where its file does not say.
    charter: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    # Digest of its feature contract (`FeatureContract.digest`).
    contract: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    # SHA-256 of its weights as little-endian f64.
    weights: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    # How many weights.
    parameters: Annotated[int, Field(ge=1)]


class JobPlan(Frozen):
    """What a job sets out to do; fixed when it is submitted, sent to every member."""

    job: JobId
    name: Slug
    rounds: Annotated[int, Field(ge=1, le=100_000)]
    steps: Annotated[int, Field(ge=1, le=10_000)] = 1
    rule: ServerRule = ServerRule()
    # Public seed of the initial model.
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    evaluate_every: Annotated[int, Field(ge=1, le=100_000)] = 1
    # How much of its grant each member may spend on this job as planned (DESIGN section 6).
    share: Annotated[float, Field(gt=0, le=1)] = 0.3
    # Whether the job begins with a noised check of the contract's ranges, paid by a tenth of that.
    check: bool = False
    tuning: Tuning = "none"
    # Another model than the seed's to start from.
    start: WarmStart | None = None
    # Knobs that nobody may move during this job.
    pinned: Annotated[dict[Slug, float], Field(max_length=16)] = {}
    # A member that has not answered by then is left out of the attempt.
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    # An unanswered request is sent again, byte for byte, after this long.
    reask_s: Annotated[float, Field(gt=0, le=3_600)] = 2.0

    @model_validator(mode="after")
    def _what_it_starts_from_is_not_prepared_anew(self) -> JobPlan:
        if self.start is not None and self.check:
            raise ValueError(
                "a job that starts from a model has no contract check: its columns would come to mean others"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_before_there_were_starts(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A plan without one is written as it always was: members keep and compare what was written.
        document: dict[str, Any] = handler(self)
        if self.start is None:
            document.pop("start", None)
        return document

    @model_validator(mode="after")
    def _a_tuned_job_forgets_how_it_began(self) -> JobPlan:
        if self.tuning == "probe" and self.rule.recency is None:
            # The model is frozen for everybody else.
            object.__setattr__(self, "rule", self.rule.model_copy(update={"recency": TUNED_RECENCY}))
        return self


def evaluations(rounds: int, evaluate_every: int, tuning: Tuning = "none") -> int:
    """Evaluations of a job: ceil(rounds / evaluate_every), the final one, and probes beside them."""
    beside = [it for it in _probed(rounds, evaluate_every, tuning) if not _is_due(it, rounds, evaluate_every)]
    return math.ceil(rounds / evaluate_every) + 1 + len(beside)


def probe_due(number: int, rounds: int, evaluate_every: int, tuning: Tuning) -> bool:
    """Whether the plan has the step to this round probed; a probe takes the place of the round's own evaluation."""
    return number in _probed(rounds, evaluate_every, tuning)


def may_probe(number: int, rounds: int, evaluate_every: int, tuning: Tuning) -> bool:
    """Whether the step to this round may be probed at no more than was planned: its model is evaluated anyway."""
    planned = probe_due(number, rounds, evaluate_every, tuning)
    return planned or (tuning == "probe" and _is_due(number, rounds, evaluate_every))


def _is_due(number: int, rounds: int, evaluate_every: int) -> bool:
    return number % evaluate_every == 0 or number == rounds


def _probed(rounds: int, evaluate_every: int, tuning: Tuning) -> list[int]:
    if tuning == "none":
        return []
    room = int(MORE_EVALUATIONS * (math.ceil(rounds / evaluate_every) + 1))
    found = []
    for number in range(1, min(PROBED, rounds) + 1):
        due = _is_due(number, rounds, evaluate_every)
        if due or room > 0:
            found.append(number)
            room -= not due
    return found


class MetricValue(Frozen):
    """One released figure; its standard error is that of the added noise, None where none was added."""

    value: float
    error: float | None = None


class Participation(Frozen):
    """What one member did in one attempt."""

    member: str
    outcome: Outcome
    seconds: float
    bytes_up: int = 0
    bytes_down: int = 0
    code: str = ""
    sentence: str = ""


class AttemptResult(Frozen):
    """Everything an attempt leaves behind; written to the store in one transaction."""

    job: JobId
    attempt: int
    kind: AttemptKind
    status: AttemptStatus
    base: int
    # The round this attempt became; None where nothing was applied.
    round: int | None
    cohort: tuple[str, ...]
    active: tuple[str, ...]
    left_out: dict[str, str] = {}
    participation: tuple[Participation, ...]
    knobs: dict[str, float]
    # Figures of the state `base`, which the members evaluated on arrival.
    metrics: dict[str, MetricValue] = {}
    # How far an applied one moved the weights, Euclidean; None where members hold the model.
    step: float | None = None
    # Squared length of the mean update that it applied, what noise adds taken off; None there, too.
    slope: MetricValue | None = None
    # In mode `he` the tag of the state that it led to, which t members hold.
    tag: str = ""
    seconds: float
    reason: str = ""
