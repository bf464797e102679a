"""`--set key=value`: change a scenario before it becomes a charter."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hansa.contract.charter import KNOBS
from hansa.contract.errors import InputError
from hansa.contract.scenario import Scenario, ScenarioJob
from hansa.contract.typed import parse_document

# Sections of a scenario that may be changed; who takes part and what a record is may not.
_SECTIONS = ("model", "protection", "training", "privacy", "grant", "knobs", "metrics", "job", "approval")
# Short names for what is changed most.
_SHORT = {
    "model": "model.name",
    "mode": "protection.mode",
    "noise": "privacy.noise",
    "epsilon": "grant.epsilon",
    "rule": "job.rule.name",
    **{f"knobs.{name}": f"knobs.{name}.default" for name in KNOBS},
    **{name: f"knobs.{name}.default" for name in KNOBS},
    **{name: f"job.{name}" for name in ScenarioJob.model_fields if name != "rule"},
}


def override(scenario: Scenario, settings: Sequence[str]) -> Scenario:
    """The scenario with each `key=value` applied; values are TOML, bare words are strings.

    Raises
    ------
    InputError : not key=value, a key that is not known, or a value that does not fit
    """
    document = scenario.model_dump(mode="json")
    follows = scenario.job.evaluate_every == scenario.metrics.every
    parsed = [parsed_setting(setting) for setting in settings]
    for key, value in parsed:
        _assign(document, key, value)
    if follows and all(_SHORT.get(key, key) != "job.evaluate_every" for key, _ in parsed):
        # As in a scenario file: a job that does not say otherwise is evaluated as often as the charter has it.
        document["job"]["evaluate_every"] = document["metrics"]["every"]
    return parse_document(document, Scenario, "--set " + " ".join(settings)) if settings else scenario


def override_job(job: ScenarioJob, settings: Sequence[str], origin: Path) -> ScenarioJob:
    """The job of an instance whose charter is signed: its own fields may still be changed.

    Raises
    ------
    InputError : as `override`, or a key that would change the charter
    """
    document = {"job": job.model_dump(mode="json")}
    for setting in settings:
        key, value = parsed_setting(setting)
        if not _SHORT.get(key, key).startswith("job."):
            raise InputError(
                f"--set {key}: the charter in {origin} is signed already; only the job can be changed"
            )
        _assign(document, key, value)
    return parse_document(document["job"], ScenarioJob, "--set " + " ".join(settings)) if settings else job


def parsed_setting(setting: str) -> tuple[str, Any]:
    """`key=value`, the value as TOML or a bare word."""
    key, separator, text = setting.partition("=")
    if not separator or not key.strip():
        raise InputError(f"--set {setting}: expected key=value, e.g. --set rounds=10")
    return key.strip(), _value(text.strip())


def _assign(document: dict[str, Any], key: str, value: Any) -> None:
    path = _SHORT.get(key, key).split(".")
    if path[0] not in _SECTIONS:
        known = ", ".join(sorted({*_SECTIONS, *_SHORT}))
        raise InputError(f"--set {key}: not a key that can be set; those are {known}, or section.field")
    place = document
    for name in path[:-1]:
        inner = place.get(name)
        if not isinstance(inner, dict):
            raise InputError(
                f"--set {key}: '{name}' is not there; expected one of {', '.join(sorted(place))}"
            )
        place = inner
    # Options of a model are the model's own; it checks them itself.
    if path[-1] not in place and path[:-1] != ["model", "options"]:
        raise InputError(
            f"--set {key}: '{path[-1]}' is not known; expected one of {', '.join(sorted(place))}"
        )
    if isinstance(place.get(path[-1]), dict):
        raise InputError(
            f"--set {key}: is a section; name one of its fields: {', '.join(sorted(place[path[-1]]))}"
        )
    place[path[-1]] = value


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
