"""From what a scenario proposes to a job that control takes."""

from __future__ import annotations

from uuid import uuid4

from hansa.contract.charter import Charter, Mechanism, Mode, PrivacyPlan
from hansa.contract.errors import InputError
from hansa.contract.jobs import PER_UPDATE_RULES, JobPlan, WarmStart, evaluations
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


def with_start(plan: JobPlan, start: WarmStart) -> JobPlan:
    """The plan of a job that starts from a model; raises `InputError` where that does not go together."""
    document = {**plan.model_dump(mode="json"), "start": start.model_dump(mode="json")}
    return parse_document(document, JobPlan, "--from")


def check_rule(plan: JobPlan, mode: Mode) -> None:
    """Raise `InputError` for a rule over single updates where nobody sees single updates."""
    if plan.rule.name in PER_UPDATE_RULES and mode != "clear":
        raise InputError(
            f"field 'rule.name': '{plan.rule.name}' compares single updates, and in mode '{mode}' "
            "the server sees their sum only; use fedavg, fedavgm, fedadam or fedyogi"
        )


def check_privacy(job: JobPlan | ScenarioJob, privacy: PrivacyPlan) -> None:
    """Raise `InputError` for a job that no member could ever pay for under the charter's privacy plan."""
    if privacy.noise == "none":
        if job.check:
            raise InputError(
                "field 'check': the contract check is a noised release, and the charter has no noise; set it to false"
            )
        return
    if job.rounds < privacy.fewest_rounds:
        raise InputError(
            f"field 'rounds': the charter spreads a job's share over at least privacy.fewest_rounds = "
            f"{privacy.fewest_rounds} rounds, so that no round takes what was meant for many (got {job.rounds})"
        )
    if privacy.noise == "distributed" and job.steps > 1:
        raise InputError(
            f"field 'steps': {job.steps} steps at home draw their noise at home at each step, which noise "
            "'distributed' cannot share; use steps = 1, or noise 'local'"
        )
    charges = job.rounds + evaluations(job.rounds, job.evaluate_every, job.tuning) + int(job.check)
    if charges > privacy.charges_per_job:
        raise InputError(
            f"field 'rounds': {job.rounds} rounds take {charges} charges of each member, and the charter allows "
            f"privacy.charges_per_job = {privacy.charges_per_job}"
        )


def check_tuning(job: JobPlan, charter: Charter) -> None:
    """Raise `InputError` for probes of a step that nothing may lengthen or shorten."""
    if job.tuning == "none":
        return
    if charter.training.mechanism == "moments":
        raise InputError(
            "field 'tuning': mechanism 'moments' takes no step that could be probed; use \"none\""
        )
    if "server_rate" not in charter.knobs:
        raise InputError(
            "field 'tuning': the charter opens no knob 'server_rate' for probes to move; use \"none\""
        )
    bounds = charter.knobs["server_rate"]
    if not bounds.high > 0 or not bounds.low < bounds.high:
        raise InputError("field 'tuning': the charter lets server_rate move nowhere; use \"none\"")
    if "server_rate" in job.pinned:
        raise InputError(
            "field 'tuning': server_rate is pinned, so probes have nothing to move; use \"none\""
        )


def check_mechanism(job: JobPlan | ScenarioJob, mechanism: Mechanism) -> None:
    """Raise `InputError` for a job that the charter's mechanism cannot run."""
    if mechanism != "moments":
        return
    if job.rounds != 1:
        raise InputError(
            f"field 'rounds': mechanism 'moments' solves the model from one release; use rounds = 1 (got {job.rounds})"
        )
    if job.steps != 1:
        raise InputError(
            f"field 'steps': mechanism 'moments' takes no steps at home; use steps = 1 (got {job.steps})"
        )
