"""From what a scenario proposes to a job that control takes."""

from __future__ import annotations

from uuid import uuid4

from hansa.contract.jobs import JobPlan
from hansa.contract.scenario import ScenarioJob
from hansa.contract.typed import parse_document


def make_plan(name: str, job: ScenarioJob, *, rounds: int | None = None) -> JobPlan:
    """A plan with a new id; `rounds` goes before what the scenario says.

    Raises
    ------
    InputError : a value that a plan may not have
    """
    document = job.model_dump(mode="json")
    if rounds is not None:
        document["rounds"] = rounds
    return parse_document(
        {"job": uuid4().hex, "name": name, **document}, JobPlan, f"job of scenario '{name}'"
    )
