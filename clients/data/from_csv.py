"""A scenario out of a folder with one CSV an organisation."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from hansa.clients.data.derive import derive_features
from hansa.clients.data.derive_label import one_digit
from hansa.clients.data.recipe import recipe
from hansa.clients.data.sources import read_csv
from hansa.contract.charter import KnobRange, MetricsPolicy, ModelChoice, PrivacyPlan, Protection, Training
from hansa.contract.errors import InputError
from hansa.contract.features import FeatureContract
from hansa.contract.scenario import FirstGrant, Scenario, ScenarioJob, ScenarioMember
from hansa.contract.sources import CsvSource
from hansa.contract.typed import write_atomically
from hansa.models.registry import load_model

# Held-out records pay for each evaluation: the fewer, the less noise in each.
EVALUATE_EVERY = 10
DERIVED = (
    "The contract was derived from all organisations' tables, which a real consortium may not look at together: "
    "there the members declare columns, categories and ranges themselves."
)
TWO = (
    "With two organisations nothing is hidden from the other one: each can subtract its own update from the sum. "
    "protection.minimum_cohort = 2 says that both know it."
)


@dataclass(frozen=True)
class DerivedScenario:
    """What was written, and sentences a person should read."""

    folder: Path
    scenario: Scenario
    features: FeatureContract
    warnings: tuple[str, ...]


def derive_scenario(
    source: Path,
    *,
    label: str,
    out: Path,
    entity: str | None = None,
    model: str = "linear",
    overwrite: bool = False,
) -> DerivedScenario:
    """Write `scenario.toml`, `features.toml` and `README.md` into `out`; the CSVs stay where they are.

    Raises
    ------
    InputError : no folder, fewer than two CSVs, or a scenario stands in `out` already
    DataError : a table that cannot be read or has no label; nothing is written then
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; expected one with a CSV file for each organisation")
    paths = sorted(path for path in source.iterdir() if path.suffix.lower() == ".csv" and path.is_file())
    if len(paths) < 2:
        raise InputError(
            f"{source}: {len(paths)} CSV files found; a consortium needs one for each of at least two"
        )
    if not overwrite and (out / "scenario.toml").exists():
        raise InputError(f"{out / 'scenario.toml'} exists already; choose another folder or --force")
    tables = {str(path): read_csv(path) for path in paths}
    features, notes = derive_features(tables, label, entity=entity)
    names = member_names(paths)
    sizes = [table.height for table in tables.values()]
    members = tuple(
        ScenarioMember(
            name=name,
            title=path.stem,
            controller=name,
            records=int(one_digit(size)),
            data=CsvSource(path=str(path.resolve())),
        )
        for name, path, size in zip(names, paths, sizes, strict=True)
    )
    how = recipe(load_model(ModelChoice(name=model), features), features, sum(sizes))
    scenario = Scenario(
        name=slug(source.resolve().name),
        title=f"{len(members)} organisations from {source.resolve().name}",
        task=f"predict {label}",
        model=ModelChoice(name=model),
        members=members,
        protection=Protection(mode="masked", c=1, minimum_cohort=2 if len(members) == 2 else None),
        training=Training(clip=how.clip, max_entities=_round_up(max(sizes))),
        knobs={
            "client_rate": KnobRange(default=1.0, low=0.05, high=8.0),
            "server_rate": how.server_rate,
            "dropout": KnobRange(default=0.0, low=0.0, high=0.5),
        },
        privacy=PrivacyPlan(noise="local"),
        grant=FirstGrant(purpose=f"trying out {slug(source.resolve().name)}", legal_basis="none stated"),
        metrics=MetricsPolicy(every=EVALUATE_EVERY),
        job=ScenarioJob(rounds=how.rounds, rule=how.rule, check=True),
    )
    warnings = (DERIVED, *notes, *((TWO,) if len(members) == 2 else ()))
    write_atomically(out / "features.toml", contract_toml(features))
    write_atomically(out / "README.md", _readme(scenario, features, warnings).encode())
    write_atomically(out / "scenario.toml", scenario_toml(scenario))
    return DerivedScenario(out, scenario, features, warnings)


def member_names(paths: list[Path]) -> list[str]:
    """Names of members from file names, made distinct."""
    names: list[str] = []
    for path in paths:
        name, number = slug(path.stem), 2
        while name in names:
            name, number = f"{slug(path.stem)[:58]}-{number}", number + 1
        names.append(name)
    return names


def slug(text: str) -> str:
    """A text as a name that may become a folder or an argument."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-_")[:63] or "member"


def scenario_toml(scenario: Scenario) -> bytes:
    """A scenario as a person would write it: what is default stays out."""
    document = scenario.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    for member, fact in zip(document["members"], scenario.members, strict=True):
        member["data"] = {"kind": fact.data.kind, **member["data"]}
    return tomli_w.dumps(document).encode()


def contract_toml(features: FeatureContract) -> bytes:
    """A feature contract, one line a column where it fits."""
    columns = [_with_kind(column) for column in features.columns]
    document = features.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return tomli_w.dumps({**document, "label": _with_kind(features.label), "columns": columns}).encode()


def _with_kind(fact: Any) -> dict[str, Any]:
    return {"kind": fact.kind, **fact.model_dump(mode="json", exclude_none=True, exclude_defaults=True)}


def _round_up(size: int) -> int:
    """To one digit, so that the bound of the grid says no more than that."""
    unit: int = 10 ** int(math.log10(size))
    return -(-size // unit) * unit


def _readme(scenario: Scenario, features: FeatureContract, warnings: tuple[str, ...]) -> str:
    rows = "\n".join(f"| {member.name} | about {member.records} |" for member in scenario.members)
    notes = "\n".join(f"- {sentence}" for sentence in warnings)
    return f"""# {scenario.title}

The organisations learn to {scenario.task} ({features.label.kind}) from {len(features.columns)} columns,
{len(features.encoded)} model columns after encoding. Made by `hansa scenario from-csv`; run it with `hansa up` and
the path of this folder.

| organisation | records |
|---|---|
{rows}

{notes}

`scenario.toml` says who takes part, how updates are protected and how a job runs; `features.toml` is the feature
contract. Both are meant to be edited.
"""
