"""From what a scenario proposes to a job that control takes."""

from __future__ import annotations

from uuid import uuid4

from hansa.contract.charter import Mode
from hansa.contract.errors import InputError
from hansa.contract.jobs import PER_UPDATE_RULES, JobPlan
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


def check_rule(plan: JobPlan, mode: Mode) -> None:
    """Raise `InputError` for a rule over single updates where nobody sees single updates."""
    if plan.rule.name in PER_UPDATE_RULES and mode != "clear":
        raise InputError(
            f"field 'rule.name': '{plan.rule.name}' compares single updates, and in mode '{mode}' "
            "the server sees their sum only; use fedavg, fedavgm, fedadam or fedyogi"
        )
