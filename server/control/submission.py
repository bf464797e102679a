"""Whether a plan may become a job under the charter; every reason is said before anything starts."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from hansa.contract.charter import Charter, unbuilt
from hansa.contract.errors import InputError
from hansa.contract.jobs import JobPlan
from hansa.contract.plan import check_mechanism, check_privacy, check_rule, check_tuning
from hansa.contract.scenario import ScenarioJob
from hansa.contract.segments import LARGEST_WEIGHT
from hansa.contract.typed import Slug, parse_document, parse_toml
from hansa.models.registry import load_model
from hansa.models.start import is_start


def read_plan(text: str, name: str, charter: Charter) -> JobPlan:
    """A plan with a new id, from TOML as it stands in a file; what it does not say is as in a scenario.

    Raises
    ------
    InputError : not TOML, or a field that a job does not have or may not have so
    """
    told = parse_toml(text.encode(), _Told, "the job")
    document = told.model_dump(mode="json")
    if "evaluate_every" not in told.model_fields_set:
        document["evaluate_every"] = charter.metrics.every
    document |= {"job": uuid4().hex, "name": told.name or name}
    return parse_document(document, JobPlan, "the job")


class _Told(ScenarioJob):
    """A job as a person writes it."""

    name: Slug | None = None
    pinned: dict[Slug, float] = {}


def check_plan(plan: JobPlan, charter: Charter, now: datetime) -> None:
    """Raise `InputError` for a plan that the charter does not allow."""
    if charter.expired(now):
        raise InputError(f"the charter expired on {charter.expires:%Y-%m-%d}; its members sign a new version")
    check_rule(plan, charter.protection.mode)
    check_privacy(plan, charter.privacy)
    check_mechanism(plan, charter.training.mechanism)
    check_tuning(plan, charter)
    for name, value in plan.pinned.items():
        check_knob(name, value, charter, field=f"pinned.{name}")
    if plan.reask_s > plan.deadline_s:
        raise InputError(
            f"field 'reask_s': expected at most deadline_s = {plan.deadline_s:g} (got {plan.reask_s:g})"
        )
    if plan.evaluate_every % charter.metrics.every:
        raise InputError(
            f"field 'evaluate_every': expected a multiple of the charter's metrics.every = {charter.metrics.every} "
            f"(got {plan.evaluate_every})"
        )
    check_named_start(plan, charter)
    if sentence := unbuilt(charter):
        raise InputError(sentence)


def check_named_start(plan: JobPlan, charter: Charter) -> None:
    """Raise `InputError` for a start under another feature contract, or where there is no start to train on from."""
    if plan.start is None:
        return
    if charter.training.mechanism == "moments":
        raise InputError("field 'start': mechanism 'moments' solves for the model; it starts from none")
    if plan.start.contract != charter.task.features.digest:
        raise InputError(
            "field 'start': the model was trained under another feature contract "
            f"({plan.start.contract[:8]}, the charter's is {charter.task.features.digest[:8]}): its columns mean others"
        )
    parameters = load_model(charter.task.model, charter.task.features).parameters
    if plan.start.parameters != parameters:
        raise InputError(
            f"field 'start': the model has {plan.start.parameters} weights, the charter's {parameters}"
        )


def check_start(plan: JobPlan, weights: NDArray[np.float64] | None, charter: Charter) -> None:
    """Raise `InputError` where weights do not come with the plan that names them, or may not come at all."""
    if charter.protection.blind:
        if weights is not None:
            raise InputError(
                "field 'start': in mode 'he' no weights may come to the server; members take their own"
            )
        return
    if plan.start is None or weights is None:
        if plan.start is not None or weights is not None:
            raise InputError(
                "field 'start': a model to start from comes with its weights, to /v1/jobs/started"
            )
        return
    if not (np.isfinite(weights).all() and np.abs(weights).max() <= LARGEST_WEIGHT):
        raise InputError(f"field 'weights': not finite, or above {LARGEST_WEIGHT:g}")
    if not is_start(weights, plan.start):
        raise InputError("field 'weights': not those that the plan names")


def check_knob(name: str, value: float, charter: Charter, *, field: str | None = None) -> None:
    """Raise `InputError` for a knob the charter does not open, or a value outside its range."""
    bounds = charter.knobs.get(name)
    if bounds is None:
        opened = ", ".join(sorted(charter.knobs)) or "none"
        raise InputError(f"field '{field or name}': the charter opens no knob '{name}'; it opens {opened}")
    if not bounds.low <= value <= bounds.high:
        raise InputError(
            f"field '{field or name}': the charter lets {name} move from {bounds.low:g} to {bounds.high:g}, "
            f"not to {value:g}"
        )
