"""What control's API takes and answers besides the store's records; served by control, read by its clients."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hansa.contract.charter import Mode, ModelChoice
from hansa.contract.decisions import Decision
from hansa.contract.errors import InputError
from hansa.contract.features import Label
from hansa.contract.jobs import JobPlan, MetricValue
from hansa.contract.typed import Frozen
from hansa.server.records import JobRecord

OPERATOR = "operator"
Sentence = Annotated[str, Field(min_length=1, max_length=1000)]
By = Annotated[str, Field(pattern=r"^[a-z][a-z0-9 -]{0,62}$")]


class Health(Frozen):
    """`ok` while jobs can be run; `degraded` while something they need does not answer."""

    status: Literal["ok", "degraded"]
    version: str
    store: bool
    superlink: bool
    # Number of the newest line of the event log.
    event: int


class KnobState(Frozen):
    """A knob's value, who set it, and how far the charter lets it move."""

    name: str
    value: float
    low: float
    high: float
    default: float
    pinned: bool
    set_by: str
    reason: str
    at: datetime


class KnobChange(Frozen):
    """New values, all or none, and why."""

    values: Annotated[dict[str, float], Field(min_length=1)]
    reason: Annotated[str, Field(max_length=1000)] = ""
    by: By = OPERATOR


class JobText(Frozen):
    """A job as it stands in a file, and the job that it is like, whose name it takes where it has none."""

    toml: Annotated[str, Field(max_length=20_000)]
    like: str | None = None


class Rollback(Frozen):
    """Which round a job is to go back to, by default the best evaluated one that is kept, and why."""

    to: Annotated[int, Field(ge=0, le=100_000)] | None = None
    reason: Sentence
    by: By = OPERATOR


class RolledBack(Frozen):
    """The job at the round that it went back to, and the one that it had reached."""

    job: JobRecord
    from_round: int


class KeptRound(Frozen):
    """A round whose state is kept, and whether it is the best evaluated one."""

    round: int
    best: bool


class CharterFacts(Frozen):
    """What the charter says that whoever steers must know."""

    name: str
    version: int
    hash: str
    mode: Mode
    noise: str
    # Least size of an audited group; None where the charter allows no audit.
    audit_groups: int | None
    minimum_cohort: int
    members: int
    controllers: int


class Wish(Frozen):
    """Who asks a job to pause or to go on, and why.

    Parameters
    ----------
    only_own : change nothing where the last word is somebody else's
    """

    by: By = OPERATOR
    reason: Annotated[str, Field(max_length=1000)] = ""
    only_own: bool = False


class Pins(Frozen):
    """Knobs to hold where they are, or to open again; without names all of them."""

    names: Annotated[list[str], Field(max_length=16)] = []
    pinned: bool
    reason: Annotated[str, Field(max_length=1000)] = ""
    by: By = OPERATOR


class Decided(Frozen):
    """A decision to enter; nothing of it is done where a knob has another value than expected."""

    decision: Decision
    expected: Annotated[dict[str, float], Field(max_length=16)] = {}


class Recovered(Frozen):
    """A decision to take a running job back to a kept round, and have it go on from there.

    Parameters
    ----------
    undoes : the attempt of the round that was the newest when this was decided
    """

    decision: Decision
    to: Annotated[int, Field(ge=0, le=100_000)]
    undoes: Annotated[int, Field(ge=1, lt=2**63)]
    expected: Annotated[dict[str, float], Field(max_length=16)] = {}


class Hold(Frozen):
    """Why a member is held out of selection, and by whom."""

    reason: Sentence
    by: By = OPERATOR


class MemberState(Frozen):
    """A member of the charter and what is known of it now."""

    name: str
    title: str
    sector: str
    controller: str
    present: bool
    # None for a member that has never been seen.
    isolated: bool | None
    charter_version: int | None
    started: datetime | None
    seen: datetime | None
    held: str | None
    held_by: str = ""
    # Why it took no part in the newest attempt, in its own words where it refused, and since when; None where it did.
    apart: str | None = None
    apart_since: datetime | None = None


class Release(Frozen):
    """Everything needed to use the weights; `figures` are what the federation knows of this model."""

    job: str
    name: str
    charter: str
    task: str
    mode: Mode
    round: int
    model: ModelChoice
    # Model columns in the order of the weights' input, without the intercept.
    columns: list[str]
    label: Label
    parameters: int
    # Whether the model needs its columns prepared, by the tensor `preparation` beside its weights.
    prepared: bool = False
    figures: dict[str, MetricValue]


class StartedJob(Frozen):
    """A plan that names a model to start from, and that model's weights: base64 of little-endian f64."""

    plan: JobPlan
    weights: str

    @classmethod
    def of(cls, plan: JobPlan, weights: NDArray[np.float64]) -> StartedJob:
        """With weights f64[d]."""
        raw = np.ascontiguousarray(weights, dtype="<f8").tobytes()
        return cls(plan=plan, weights=base64.b64encode(raw).decode())

    def array(self) -> NDArray[np.float64]:
        """The weights, f64[d]; raises `InputError` where they are not base64 of whole numbers."""
        try:
            raw = base64.b64decode(self.weights, validate=True)
            return np.frombuffer(raw, dtype="<f8").astype(np.float64)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"field 'weights': not base64 of 64-bit numbers: {error}") from None
