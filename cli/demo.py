"""The instance that `hansa up` runs: made afresh for each run, unless one is named or kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hansa.cli.addresses import free_addresses, is_free, move
from hansa.cli.federation import record_path
from hansa.cli.instance import DEFAULT_ROOT, Instance
from hansa.cli.overrides import override, override_job
from hansa.cli.provisioning import provision
from hansa.cli.run_record import is_held
from hansa.cli.starting import StartFile
from hansa.contract.charter import Charter, Mechanism, Mode, PrivacyPlan
from hansa.contract.errors import DataError, InputError
from hansa.contract.features import FeatureContract
from hansa.contract.jobs import JobPlan
from hansa.contract.library import scenario_folder
from hansa.contract.plan import check_mechanism, check_privacy, check_rule, make_plan
from hansa.contract.scenario import ScenarioJob, read_scenario
from hansa.contract.shown import protection_warnings
from hansa.contract.sources import Source, SqlSource, SyntheticSource
from hansa.contract.typed import read_toml


@dataclass(frozen=True)
class Demo:
    """An instance ready to be started, and the job that it is for."""

    instance: Instance
    plan: JobPlan
    # An earlier run's instance stood in its place.
    replaced: bool = False
    # A model to start from.
    start: StartFile | None = None


def prepare(
    scenario: str | None,
    *,
    instance: Path | None,
    settings: Sequence[str],
    keep: bool,
    place: Path | None = None,
) -> Demo:
    """Find or make the instance, on ports that are free.

    An instance that `hansa up` made for an earlier run is replaced, with new keys, unless `keep`;
    one that somebody provisioned is used as it is.

    Parameters
    ----------
    place : where it is made where no instance is named, in place of `.hansa/SCENARIO`

    Raises
    ------
    InputError : an unknown scenario, a setting or a job that does not fit, an instance that runs already
    DataError : records on this machine that depart from the feature contract; nothing was written
    """
    if instance is not None and Instance(instance).exists and scenario is None:
        return _go_on(Instance(instance), settings)
    folder = scenario_folder(scenario or "consortium")
    described, features = read_scenario(folder)
    found = Instance(instance or place or DEFAULT_ROOT / described.name)
    if found.exists:
        _check_not_running(found)
        if keep or not found.facts.passing or instance is not None:
            return _go_on(found, settings)
    changed = override(described, settings)
    for member in changed.members:
        _check_records(member.data, features, folder)
    plan = _plan(
        changed.name, changed.job, changed.protection.mode, changed.privacy, changed.training.mechanism
    )
    replaced = found.exists
    made = provision(
        changed,
        features,
        origin=folder,
        out=found.folder,
        addresses=free_addresses(),
        keep_scores=True,
        force=True,
        passing=True,
    )
    return Demo(made, plan, replaced)


def warnings_of(charter: Charter) -> list[str]:
    """What a person must know before this federation starts (PROTOCOL section 5)."""
    found = protection_warnings(charter)
    derived = sum(column.derived for column in charter.task.features.columns)
    if derived:
        found.append(
            f"{derived} columns of the feature contract are derived from the data; a real consortium declares them"
        )
    return found


def _go_on(instance: Instance, settings: Sequence[str]) -> Demo:
    _check_not_running(instance)
    charter = read_toml(instance.charter, Charter)
    job = override_job(instance.job, settings, instance.folder)
    plan = _plan(
        instance.facts.name, job, charter.protection.mode, charter.privacy, charter.training.mechanism
    )
    features = charter.task.features
    for name in instance.members:
        member = instance.member(name)
        _check_records(member.config.data, features, member.folder)
    config = instance.server_config
    if not all(is_free(address) for address in (config.superlink, config.fleet, config.control)):
        move(instance, free_addresses())
    return Demo(instance, plan)


def _plan(name: str, job: ScenarioJob, mode: Mode, privacy: PrivacyPlan, mechanism: Mechanism) -> JobPlan:
    """The job as control will be asked for it; what control would refuse is refused here, before all else."""
    plan = make_plan(name, job)
    check_rule(plan, mode)
    check_privacy(plan, privacy)
    check_mechanism(plan, mechanism)
    if plan.reask_s > plan.deadline_s:
        raise InputError(
            f"field 'job.reask_s': expected at most deadline_s = {plan.deadline_s:g} (got {plan.reask_s:g})"
        )
    return plan


def _check_records(source: Source, features: FeatureContract, folder: Path) -> None:
    """Refuse records on this machine that no agent could train on, before anything is made or started."""
    from hansa.clients.data.check import check_data

    if isinstance(source, SyntheticSource) or (
        isinstance(source, SqlSource) and not source.url.startswith("sqlite")
    ):
        return
    errors = check_data(source, features, folder).errors
    if errors:
        more = len(errors) - 1
        raise DataError(errors[0] + (f"; and {more} more problem{'s' if more > 1 else ''}" if more else ""))


def _check_not_running(instance: Instance) -> None:
    if is_held(record_path(instance.folder, "up")):
        raise InputError(
            f"{instance.folder}: runs already; stop it with: hansa down --instance {instance.folder}"
        )
