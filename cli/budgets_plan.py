"""What a job would take of a grant, how much noise that brings, and whether it can teach anything."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hansa.contract.charter import Mechanism, PrivacyPlan, SamplingRate
from hansa.contract.errors import InputError
from hansa.contract.features import BinaryLabel
from hansa.contract.jobs import Tuning
from hansa.contract.plan import check_mechanism, check_privacy
from hansa.contract.typed import Frozen
from hansa.privacy.currency import GDP, Currency, rdp_currency, release
from hansa.privacy.planning import (
    JobBudget,
    Verdict,
    check_floor,
    evaluations,
    noise_floor,
    outlook,
    plan_noise,
)


class PlanInput(Frozen):
    """Public numbers of a consortium, of one member's grant and of a job."""

    rounds: Annotated[int, Field(ge=1, le=100_000)] = 60
    steps: Annotated[int, Field(ge=1, le=10_000)] = 1
    evaluate_every: Annotated[int, Field(ge=1, le=100_000)] = 1
    tuning: Tuning = "none"
    check: bool = False
    epsilon: Annotated[float, Field(gt=0, le=100)] = 8.0
    delta: Annotated[float, Field(ge=1e-15, lt=0.01)] = 1e-5
    currency: Literal["gdp", "rdp"] = "gdp"
    share: Annotated[float, Field(gt=0, le=1)] = 0.3
    sampling_rate: SamplingRate = 1.0
    mechanism: Mechanism = "gradient"
    noise: Literal["local", "distributed"] = "local"
    s: Annotated[int, Field(ge=1)] | None = None
    # The charter's: largest delta of a grant, fewest rounds of a job, most charges of one.
    most_delta: Annotated[float, Field(gt=0, le=0.01)] = 0.01
    fewest_rounds: Annotated[int, Field(ge=1)] = PrivacyPlan().fewest_rounds
    charges_per_job: Annotated[int, Field(ge=1)] = PrivacyPlan().charges_per_job
    members: Annotated[int, Field(ge=2, le=1000)] = 5
    # Training records of all members together.
    records: Annotated[float, Field(ge=1, le=1e12)] | None = None
    # Share of the positive class; without it there is no kappa.
    prevalence: Annotated[float, Field(ge=1e-9, lt=1)] | None = None
    # Length of the noised sum.
    parameters: Annotated[int, Field(ge=1, le=10**9)] | None = None


class BudgetPlan(Frozen):
    """What follows from it; amounts are in the grant's currency."""

    given: PlanInput
    # The one Rényi order; None in `gdp`.
    order: int | None
    amount: float
    most: float
    releases: int
    evaluations: int
    # Noise multipliers; None where nothing of that kind is released.
    check: float | None
    update: float
    evaluation: float
    floor: float
    round_cost: float
    # Of the grant: one round, and what is left of it after the job as planned.
    round_percent: float
    percent_left: float
    epsilon_spent: float
    mu: float
    kappa: float | None
    verdict: Verdict | None
    advice: str


def plan_budget(given: PlanInput) -> BudgetPlan:
    """Derive noise, costs and outlook.

    Raises
    ------
    InputError : numbers that do not go together, or a job that control or every member would refuse
    RefusalError : `wrong-currency`, `noise-below-floor`
    """
    currency = _currency(given)
    amount = currency.budget(given.epsilon, given.delta)
    budget = JobBudget(
        rounds=given.rounds,
        steps=given.steps,
        evaluations=evaluations(given.rounds, given.evaluate_every, given.tuning),
        check=given.check,
        share=given.share,
        sampling_rate=given.sampling_rate,
    )
    plan = plan_noise(currency, amount, budget)
    assert plan.train is not None
    assert plan.evaluate is not None
    training = budget.releases * plan.amounts.training
    spent = max(training + plan.amounts.check, budget.evaluations * plan.amounts.holdout)
    mu = currency.mu(training)
    round_cost = plan.round_cost(given.steps)
    floor = noise_floor(currency, amount, budget, given.fewest_rounds)
    _check(given, plan.train, floor)
    kappa, verdict, advice = _outlook(given, mu)
    return BudgetPlan(
        given=given,
        order=currency.order,
        amount=amount,
        most=plan.most,
        releases=budget.releases,
        evaluations=budget.evaluations,
        check=plan.check,
        update=plan.train,
        evaluation=plan.evaluate,
        floor=floor,
        round_cost=round_cost,
        round_percent=100.0 * round_cost / amount,
        percent_left=100.0 * (1.0 - spent / amount),
        epsilon_spent=currency.epsilon(spent, given.delta),
        mu=mu,
        kappa=kappa,
        verdict=verdict,
        advice=advice,
    )


def scenario_facts(name: str) -> dict[str, object]:
    """What a scenario says of the numbers of a plan, by `PlanInput`'s fields."""
    from hansa.contract.library import scenario_folder
    from hansa.contract.scenario import FirstGrant, read_scenario
    from hansa.models.registry import load_model

    scenario, features = read_scenario(scenario_folder(name))
    grant, training, label = scenario.grant or FirstGrant(), scenario.training, features.label
    records = sum(member.records for member in scenario.members) * (1.0 - features.holdout)
    facts: dict[str, object] = {
        "rounds": scenario.job.rounds,
        "steps": scenario.job.steps,
        "evaluate_every": scenario.job.evaluate_every,
        "tuning": scenario.job.tuning,
        "check": scenario.job.check,
        "share": scenario.job.share,
        "epsilon": grant.epsilon,
        "delta": grant.delta,
        "currency": grant.currency,
        "sampling_rate": training.sampling_rate if training.mechanism == "poisson" else 1.0,
        "mechanism": training.mechanism,
        "most_delta": scenario.privacy.delta,
        "fewest_rounds": scenario.privacy.fewest_rounds,
        "charges_per_job": scenario.privacy.charges_per_job,
        "members": len(scenario.members),
        "records": records,
        "parameters": load_model(scenario.model, features).parameters,
        "s": scenario.privacy.s,
    }
    if isinstance(label, BinaryLabel):
        facts["prevalence"] = label.prevalence
    if scenario.privacy.noise != "none":
        facts["noise"] = scenario.privacy.noise
    return facts


def _currency(given: PlanInput) -> Currency:
    if given.currency == "gdp":
        return GDP
    return rdp_currency(given.epsilon, given.delta, [release(1.0, 1, given.sampling_rate)])


def _check(given: PlanInput, multiplier: float, floor: float) -> None:
    """Refuse a job that control, or every member, would refuse."""
    from hansa.contract.scenario import ScenarioJob

    if given.delta > given.most_delta:
        raise InputError(
            f"a delta of {given.delta:g} is above the charter's public bound, {given.most_delta:g}"
        )
    privacy = PrivacyPlan(
        noise=given.noise, fewest_rounds=given.fewest_rounds, charges_per_job=given.charges_per_job
    )
    job = ScenarioJob(
        rounds=given.rounds,
        steps=given.steps,
        evaluate_every=given.evaluate_every,
        tuning=given.tuning,
        check=given.check,
    )
    mechanism = "poisson" if given.sampling_rate < 1 else given.mechanism
    if mechanism == "poisson" and given.noise == "distributed":
        raise InputError("mechanism 'poisson' draws its noise at home at each step; use noise 'local'")
    check_privacy(job, privacy)
    check_mechanism(job, mechanism)
    check_floor(multiplier, floor, given.fewest_rounds)


def _outlook(given: PlanInput, mu: float) -> tuple[float | None, Verdict | None, str]:
    if given.records is None or given.prevalence is None or given.parameters is None:
        missing = [
            option
            for option, value in (
                ("--records", given.records),
                ("--prevalence", given.prevalence),
                ("--columns", given.parameters),
            )
            if value is None
        ]
        other = "; classes and numbers have none: see hansa simulate" if missing == ["--prevalence"] else ""
        return None, None, f"no verdict without {', '.join(missing)}{other}"
    colluding = given.members - 1
    if given.noise == "distributed":
        if given.s is None:
            raise InputError("--s: distributed noise needs the number that may collude or drop out together")
        colluding = given.s
    found = outlook(
        members=given.members,
        colluding=colluding,
        parameters=given.parameters,
        records=given.records,
        prevalence=given.prevalence,
        mu=mu,
    )
    return found.kappa, found.verdict, found.advice


def plan_lines(plan: BudgetPlan) -> list[tuple[str, str]]:
    """A plan for people."""
    given = plan.given
    counted = given.currency if plan.order is None else f"rdp at order {plan.order}"
    steps = f" of {given.steps} steps" if given.steps > 1 else ""
    multipliers = [("update", plan.update), ("evaluation", plan.evaluation)]
    if plan.check is not None:
        multipliers.insert(0, ("contract check", plan.check))
    verdict = plan.advice
    if plan.kappa is not None:
        helps = f"; {plan.advice}" if plan.advice else ""
        verdict = f"{plan.verdict} (kappa {plan.kappa:.3g}){helps}"
    return [
        ("grant", f"epsilon {given.epsilon:g} at delta {given.delta:g}, {plan.amount:.4g} in {counted}"),
        ("the job takes", f"{100 * given.share:g} % of it, epsilon {plan.epsilon_spent:.3g} on its own"),
        ("rounds", f"{given.rounds}{steps}: {plan.releases} noised sums, {plan.evaluations} evaluations"),
        (
            "noise",
            ", ".join(f"{name} {value:.4g}" for name, value in multipliers) + f" (noise {given.noise})",
        ),
        ("least noise", f"{plan.floor:.4g}, that of {given.fewest_rounds} rounds"),
        ("a round costs", f"{plan.round_percent:.3g} % of the grant"),
        ("left afterwards", f"{plan.percent_left:.1f} %"),
        ("worth it?", verdict),
    ]
