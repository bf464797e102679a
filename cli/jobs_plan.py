"""`hansa jobs submit`: the plan that a job's file, an instance and the command line make together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hansa.cli.instance import find_instance
from hansa.cli.overrides import override_job
from hansa.contract.charter import Charter, Mechanism, Mode, PrivacyPlan
from hansa.contract.errors import InputError
from hansa.contract.jobs import JobPlan
from hansa.contract.plan import check_mechanism, check_privacy, check_rule, make_plan
from hansa.contract.scenario import ScenarioJob
from hansa.contract.typed import read_toml


@dataclass(frozen=True)
class _Source:
    """A job as it was written down, with where that is and what its charter says of it."""

    job: ScenarioJob
    origin: Path
    name: str | None
    mode: Mode = "clear"
    mechanism: Mechanism = "gradient"
    privacy: PrivacyPlan = field(default_factory=PrivacyPlan)


def plan_of(
    name: str | None,
    file: Path | None,
    changes: Sequence[str],
    pins: Sequence[str],
    instance: Path | None,
    *,
    remote: bool,
) -> JobPlan:
    """The plan to submit.

    Parameters
    ----------
    file : TOML with the job; None: the instance's own
    changes, pins : `KEY=VALUE` of the command line
    remote : there is no instance here, and control alone knows the charter

    Raises
    ------
    InputError : what is wrong with the file or the command line, or what the charter does not allow
    """
    pinned = numbers("--pin", pins)
    source = _source(file, instance, remote=remote)
    plan = make_plan(name or source.name or "job", override_job(source.job, changes, source.origin))
    check_rule(plan, source.mode)
    check_privacy(plan, source.privacy)
    check_mechanism(plan, source.mechanism)
    return plan.model_copy(update={"pinned": pinned}) if pinned else plan


def numbers(option: str, settings: Sequence[str]) -> dict[str, float]:
    """`KNOB=NUMBER` of an option, by knob."""
    found = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        try:
            found[name.strip()] = float(text)
        except ValueError:
            separator = ""
        if not separator:
            raise InputError(f"{option} {setting}: expected KNOB=NUMBER, e.g. {option} server_rate=0.1")
    return found


def _source(file: Path | None, instance: Path | None, *, remote: bool) -> _Source:
    if file is not None:
        return _Source(read_toml(file, ScenarioJob), file, file.stem)
    if remote:
        return _Source(ScenarioJob(), Path("job"), None)
    found = find_instance(instance)
    here = _Source(found.job, found.folder, found.facts.name)
    # The charter lies with control; where it is not at hand control checks the rule alone.
    if not found.charter.exists():
        return here
    charter = read_toml(found.charter, Charter)
    return _Source(
        here.job,
        here.origin,
        here.name,
        mode=charter.protection.mode,
        mechanism=charter.training.mechanism,
        privacy=charter.privacy,
    )
