"""A scenario: a consortium written down for people to read, before there are keys.

`hansa provision` turns it into a charter, keys and one configuration for each member.
A scenario is a folder with `scenario.toml`, `features.toml` and a `README.md`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hansa.contract.charter import (
    Charter,
    KnobRange,
    MetricsPolicy,
    ModelChoice,
    PrivacyPlan,
    Protection,
    Training,
)
from hansa.contract.features import FeatureContract
from hansa.contract.jobs import ServerRule, Tuning
from hansa.contract.sources import Source
from hansa.contract.typed import Frozen, Line, Slug, read_toml


class ScenarioMember(Frozen):
    """One organisation and where its records are."""

    name: Slug
    title: Line = ""
    sector: Line = ""
    # Who controls it; two members of one controller count once in a cohort.
    controller: Line = ""
    records: Annotated[int, Field(ge=1)] = 1000
    data: Source


class ScenarioJob(Frozen):
    """The job that `hansa up` submits."""

    rounds: Annotated[int, Field(ge=1)] = 3
    steps: Annotated[int, Field(ge=1)] = 1
    rule: ServerRule = ServerRule()
    seed: int = 0
    # A multiple of the charter's metrics.every; a scenario that does not say takes that itself.
    evaluate_every: Annotated[int, Field(ge=1)] = 1
    tuning: Tuning = "none"
    share: Annotated[float, Field(gt=0, le=1)] = 0.3
    check: bool = False
    deadline_s: Annotated[float, Field(gt=0)] = 60.0
    reask_s: Annotated[float, Field(gt=0)] = 2.0


class FirstGrant(Frozen):
    """A grant, and the lifetime cap of the data set, that an agent enters into an empty ledger at its start."""

    epsilon: Annotated[float, Field(gt=0, le=100)] = 8.0
    delta: Annotated[float, Field(gt=0, le=0.01)] = 1e-5
    currency: Literal["gdp", "rdp"] = "gdp"
    days: Annotated[int, Field(ge=1, le=36_500)] = 365
    # Of the cap, where it is more than the grant.
    cap_epsilon: Annotated[float, Field(gt=0, le=100)] | None = None
    purpose: Annotated[str, Field(min_length=1, max_length=500)] = "a demonstration"
    legal_basis: Annotated[str, Field(min_length=1, max_length=500)] = "synthetic data"


class Scenario(Frozen):
    """Everything of a consortium but its keys."""

    name: Slug
    title: str
    # Whose scenario it is, for `hansa scenario list`.
    industry: str = ""
    task: Line
    model: ModelChoice
    # File beside scenario.toml that holds the feature contract.
    features: str = "features.toml"
    members: Annotated[tuple[ScenarioMember, ...], Field(min_length=2)]
    protection: Protection
    training: Training = Training()
    privacy: PrivacyPlan = PrivacyPlan()
    # What each member grants at its agent's first start in a demo; a real organisation runs `hansa budgets grant`.
    grant: FirstGrant | None = None
    knobs: dict[str, KnobRange]
    metrics: MetricsPolicy = MetricsPolicy()
    approval: Literal["manual", "automatic"] = "automatic"
    job: ScenarioJob = ScenarioJob()

    @model_validator(mode="after")
    def _members_are_distinct(self) -> Scenario:
        names = [member.name for member in self.members]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"member '{name}' appears twice")
        return self

    @model_validator(mode="after")
    def _job_evaluates_as_the_charter_has_it(self) -> Scenario:
        every = self.metrics.every
        if "evaluate_every" not in self.job.model_fields_set:
            # The model is frozen for everybody else.
            object.__setattr__(self, "job", self.job.model_copy(update={"evaluate_every": every}))
        if self.job.evaluate_every % every:
            raise ValueError(
                f"job.evaluate_every = {self.job.evaluate_every} must be a multiple of metrics.every = {every}"
            )
        return self

    @model_validator(mode="after")
    def _grants_can_pay(self) -> Scenario:
        if self.privacy.noise == "none" or self.grant is None:
            return self
        if self.grant.delta > self.privacy.delta:
            raise ValueError(
                f"grant.delta = {self.grant.delta:g} is above the charter's bound, "
                f"privacy.delta = {self.privacy.delta:g}"
            )
        if self.grant.cap_epsilon is not None and self.grant.cap_epsilon < self.grant.epsilon:
            raise ValueError(
                f"grant.epsilon = {self.grant.epsilon:g} is above its data set's lifetime cap, "
                f"grant.cap_epsilon = {self.grant.cap_epsilon:g}"
            )
        if self.training.mechanism == "poisson" and self.grant.currency == "gdp":
            raise ValueError(
                "mechanism 'poisson' cannot be paid in the currency gdp; set grant.currency = 'rdp'"
            )
        return self


def read_scenario(folder: Path) -> tuple[Scenario, FeatureContract]:
    """Read a scenario folder: `scenario.toml` and the feature contract it names."""
    scenario = read_toml(folder / "scenario.toml", Scenario)
    return scenario, read_toml(folder / scenario.features, FeatureContract)


class MemberConfig(Frozen):
    """`member.toml`: one organisation's own settings, beside its keys; relative paths start at its folder."""

    name: Slug
    charter: str = "charter.toml"
    signatures: str = "charter.signatures.json"
    # Address of the members' listener, HOST:PORT, and the CA that signed its certificate.
    server: str
    root_certificates: str | None = "ca.crt"
    proxy: str | None = None
    data: Source
    # What its ledger calls these records, in all their versions.
    data_set: Slug = "records"
    # Only for demos: what an empty ledger begins with.
    grant: FirstGrant | None = None
    # `none`: the agent enters an empty network namespace where the kernel allows it.
    network: Literal["none", "host"] = "none"
    # Where its node shows its figures: HOST:PORT of this machine; default: a file, run/metrics/node-NAME.prom.
    node_metrics: str | None = None
    # Where its agent does, which has no network: a file that ends in .prom.
    agent_metrics: str = "metrics/agent.prom"
    work_socket: str = "work.sock"
    admin_socket: str = "admin.sock"
    # Keep exact held-out scores in this folder for a result table; only sensible in a demo.
    keep_scores: bool = False


__all__ = ["Charter", "MemberConfig", "Scenario", "ScenarioJob", "ScenarioMember", "read_scenario"]
