"""Requests that a server may send: whatever it asks for, an organisation is owed the same noise and the same clip.

An audit that only ever sent one order would not see a mechanism that is broken in another kind of attempt, in
late rounds or in a smaller cohort. So it sends whatever an order and a job's plan may vary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from hansa.clients.auditing import Subject
from hansa.contract.charter import Charter
from hansa.contract.errors import InputError
from hansa.contract.jobs import AttemptKind, JobPlan
from hansa.contract.messages import Order
from hansa.contract.segments import PREPARATION, segment_specs, walks_at_home
from hansa.contract.wire import Segments
from hansa.models.model import Model
from hansa.models.preparation import Preparation
from hansa.strategies import groups
from hansa.strategies.grids import noise_on

Array = NDArray[np.float64]

# Number of an attempt late in a job, how much louder another member's noise may be, how far off other weights are.
LATE, LOUDER, FAR_OFF = 5000, 1.25, 8.0
KINDS: tuple[AttemptKind, ...] = ("train", "statistics", "evaluate")


@dataclass(frozen=True)
class Request:
    """One way to ask for an attempt.

    Parameters
    ----------
    where : in words, behind "there is less noise"
    order : of the first attempt; `at` numbers it
    weights : whether `weights`, or for an evaluation `released`, are others than the first ones
    late : attempts are numbered as late in a job
    repeated : all attempts are of the first round, as if the ones before had failed
    """

    where: str
    plan: JobPlan
    order: Order
    preparation: Array | None = None
    weights: Array | None = None
    late: bool = False
    repeated: bool = False

    def at(self, number: int, *, every: int) -> Order:
        """The order of the n-th attempt, in a round in which the charter has the model evaluated."""
        before = every * (number - 1 + (LATE if self.late else 0))
        # A contract check comes before all rounds.
        base = 0 if self.repeated or self.order.kind == "statistics" else before
        return self.order.model_copy(update={"attempt": before + 1, "base": base})

    def segments(self, weights: Array) -> Segments:
        """The arrays that come with the order."""
        sent = weights if self.weights is None else self.weights
        found: dict[str, NDArray[np.float64]] = {}
        if self.order.kind == "train":
            found["weights"] = sent
        if self.order.kind == "evaluate" or (self.order.evaluate and self.weights is not None):
            found["released"] = sent
        if self.preparation is not None:
            found[PREPARATION] = self.preparation
        return found


def requests(
    subject: Subject,
    charter: Charter,
    plan: JobPlan,
    model: Model,
    kind: AttemptKind,
    noise: Mapping[str, float],
    rng: np.random.Generator,
) -> list[Request]:
    """An attempt of that kind as it is planned, first, and in all the other ways in which it may be asked for."""
    everybody = tuple(member.name for member in charter.members)
    order = _order(charter, plan, kind, subject, everybody, noise, rng)
    what = {"train": "", "statistics": " of a contract check", "evaluate": " that only evaluate"}[kind]
    found = [
        Request(f"in attempts{what}", plan, order),
        Request(f"in attempts{what} late in a job", plan, order, late=True),
        Request(f"in attempts{what} that are repeated", plan, order, repeated=True),
    ]
    for cohort in _cohorts(charter, subject.name):
        smaller = _order(charter, plan, kind, subject, cohort, noise, rng)
        found.append(Request(f"in attempts{what} of a cohort that is not complete", plan, smaller))
    louder = order.model_copy(update={"noise": {name: LOUDER * it for name, it in noise.items()}})
    if _fine_enough(subject, charter, plan, louder, model, noise):
        found.append(Request(f"in attempts{what} where another member's noise is louder", plan, louder))
    if kind == "statistics":
        return found
    far = FAR_OFF * rng.normal(size=model.parameters)
    found.append(Request(f"in attempts{what} at weights far off", plan, order, weights=far))
    checked, untouched = plan.model_copy(update={"check": True}), Preparation.untouched(charter.task.features)
    found.append(
        Request(f"in attempts{what} after a contract check", checked, order, preparation=untouched.array)
    )
    return found + (_of_training(charter, plan, order) if kind == "train" else [])


def summands(order: Order, name: str) -> int:
    """How many members are summed together with this one."""
    return len(next(circle for circle in order.circles if name in circle))


def _fine_enough(
    subject: Subject,
    charter: Charter,
    plan: JobPlan,
    order: Order,
    model: Model,
    noise: Mapping[str, float],
) -> bool:
    """Whether this organisation's noise can be drawn on the order's grids."""
    try:
        for spec in segment_specs(charter, plan, order, model.parameters):
            if spec.multiplier:
                noise_on(spec, charter, summands(order, subject.name), noise[spec.name], member=subject.name)
    except InputError:
        return False
    return True


def _of_training(charter: Charter, plan: JobPlan, order: Order) -> list[Request]:
    """What only training varies: whether the model is evaluated, knobs, and steps at home."""
    found = [Request("in rounds without an evaluation", plan, order.model_copy(update={"evaluate": False}))]
    for end in ("low", "high"):
        knobs = {name: float(getattr(it, end)) for name, it in charter.knobs.items()}
        found.append(Request(f"where knobs stand {end}", plan, order.model_copy(update={"knobs": knobs})))
    for steps in (1, 2):
        fewer = plan.model_copy(update={"steps": steps})
        if steps < plan.steps and walks_at_home(charter, fewer):
            found.append(Request(f"where {steps} of the steps at home are taken", fewer, order))
    return found


def _order(
    charter: Charter,
    plan: JobPlan,
    kind: AttemptKind,
    subject: Subject,
    cohort: tuple[str, ...],
    noise: Mapping[str, float],
    rng: np.random.Generator,
) -> Order:
    return Order(
        job=plan.job,
        attempt=1,
        kind=kind,
        base=0,
        cohort=cohort,
        groups=groups.split(cohort, charter, Random(int(rng.integers(2**32)))),
        left_out={member.name: "no answer" for member in charter.members if member.name not in cohort},
        knobs=subject.knobs,
        noise=dict(noise),
        evaluate=kind == "train",
    )


def _cohorts(charter: Charter, name: str) -> list[tuple[str, ...]]:
    """Cohorts with this member that are not complete: without one other member, and as small as the charter allows."""
    names = [member.name for member in charter.members]
    found: list[tuple[str, ...]] = []
    for other in [it for it in reversed(names) if it != name]:
        smaller = [it for it in names if it != other]
        if len(charter.controllers(smaller)) < charter.minimum_cohort:
            continue
        names = smaller
        found.append(tuple(smaller))
    return found[:1] + found[1:][-1:]
