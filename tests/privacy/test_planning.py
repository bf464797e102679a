"""From a grant to noise, and whether it is worth it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from privacy_rows import JOB, Organisation, approval, charge

from hansa.contract.errors import InputError, RefusalError
from hansa.privacy.currency import GDP, rdp_currency, release
from hansa.privacy.planning import (
    JobBudget,
    check_floor,
    evaluations,
    noise_floor,
    outlook,
    plan_noise,
    rounds_left,
)
from hansa.privacy.records import FinishRow


# NOTES-training.md: sigma = sqrt(60) / (mu sqrt(.9)) (the notes round mu first: their 30.5 is 30.46).
@pytest.mark.parametrize(("epsilon", "sigma"), [(8.0, 4.90), (3.0, 11.35), (1.0, 30.46)])
def test_sixty_rounds_with_a_contract_check_need_the_noise_of_the_recipe(
    epsilon: float, sigma: float
) -> None:
    plan = plan_noise(GDP, GDP.budget(epsilon, 1e-5), JobBudget(rounds=60, check=True))
    assert plan.train == pytest.approx(sigma, abs=0.01)
    assert plan.check == pytest.approx(1 / (math.sqrt(0.1) * math.sqrt(GDP.budget(epsilon, 1e-5))))


def test_a_share_of_three_tenths_leaves_seventy_percent() -> None:
    for budget in (
        JobBudget(rounds=3, steps=10, evaluations=evaluations(3, 1), check=True, share=0.3),
        JobBudget(rounds=60, steps=1, evaluations=evaluations(60, 5), check=True, share=0.3),
    ):
        organisation = Organisation.with_grant(epsilon=8.0)
        spring = organisation.book.grants["spring"]
        plan = plan_noise(GDP, spring.amount, budget)
        assert plan.train is not None
        assert plan.check is not None
        assert plan.evaluate is not None
        organisation.record(approval(most=plan.most))
        organisation.charge(charge(1, purpose="check", event=release(plan.check)))
        organisation.record(FinishRow(job=JOB, attempt=1))
        for attempt in range(2, budget.rounds + 2):
            charges = [charge(attempt, event=release(plan.train, budget.steps))]
            if attempt - 1 <= budget.evaluations:
                charges.append(
                    charge(attempt, purpose="evaluate", part="holdout", event=release(plan.evaluate))
                )
            organisation.charge(*charges)
            organisation.record(FinishRow(job=JOB, attempt=attempt))
        assert spring.percent_left == pytest.approx(70.0, abs=1e-6)
        assert rounds_left(spring, plan.round_cost(budget.steps)) == int(budget.rounds * 7 / 3 / 0.9)


@settings(max_examples=80, deadline=None)
@given(
    epsilon=st.floats(0.5, 20),
    rounds=st.integers(1, 400),
    steps=st.integers(1, 30),
    every=st.integers(1, 50),
    check=st.booleans(),
    share=st.floats(0.01, 1),
    kind=st.sampled_from([(GDP, 1.0), ("rdp", 1.0), ("rdp", 0.05)]),
)
def test_all_planned_releases_fit_into_the_share_and_nearly_fill_it(
    epsilon: float, rounds: int, steps: int, every: int, check: bool, share: float, kind: tuple[object, float]
) -> None:
    currency = GDP if kind[0] is GDP else rdp_currency(epsilon, 1e-5)
    amount = currency.budget(epsilon, 1e-5)
    budget = JobBudget(
        rounds=rounds,
        steps=steps,
        evaluations=evaluations(rounds, every),
        check=check,
        share=share,
        sampling_rate=kind[1],
    )
    plan = plan_noise(currency, amount, budget)
    assert plan.train is not None
    assert plan.evaluate is not None
    training = rounds * currency.cost(release(plan.train, steps, kind[1]))
    training += currency.cost(release(plan.check)) if plan.check is not None else 0.0
    holdout = currency.cost(release(plan.evaluate, budget.evaluations))
    assert training <= plan.most
    assert holdout <= plan.most
    assert plan.most == share * amount
    assert holdout >= plan.most * (1 - 1e-9)
    if plan.train > 1e-3:
        assert training >= plan.most * (1 - 1e-9)


def test_the_floor_is_the_noise_of_the_fewest_rounds() -> None:
    amount = GDP.budget(3.0, 1e-5)
    few, many = JobBudget(rounds=5), JobBudget(rounds=30)
    floor = noise_floor(GDP, amount, many, fewest_rounds=20)
    check_floor(plan_noise(GDP, amount, many).train or 0, floor, 20)
    check_floor(plan_noise(GDP, amount, JobBudget(rounds=20)).train or 0, floor, 20)
    with pytest.raises(RefusalError, match=r"noise-below-floor.*at least as many"):
        check_floor(plan_noise(GDP, amount, few).train or 0, floor, 20)


def test_poisson_under_gdp_is_refused_when_it_is_planned() -> None:
    with pytest.raises(RefusalError, match="wrong-currency"):
        plan_noise(GDP, 1.0, JobBudget(rounds=3, sampling_rate=0.1))


def test_kappa_is_the_formula_of_the_notes_and_its_verdict_follows() -> None:
    # By hand: sqrt(12/6) * sqrt(30) / (12000 * .1 * .9 * .719) = .00998.
    good = outlook(members=12, colluding=6, parameters=30, records=12_000, prevalence=0.1, mu=0.719)
    assert good.kappa == pytest.approx(0.00998, abs=1e-5)
    assert (good.verdict, good.advice) == ("fine", "")
    # NOTES-training: 602 rows, 79 events, 28 columns: nothing works below epsilon 8.
    table = {"members": 3, "colluding": 2, "parameters": 29, "records": 602.0, "prevalence": 79 / 602}
    verdicts = [outlook(**table, mu=mu).verdict for mu in (0.268, 0.719, 1.666)]  # type: ignore[arg-type]
    assert verdicts == ["pointless", "pointless", "doubtful"]


@given(
    members=st.integers(1, 50),
    parameters=st.integers(1, 500),
    records=st.floats(10, 1e5),
    prevalence=st.floats(0.01, 0.99),
    mu=st.floats(0.01, 3),
)
def test_what_is_advised_helps(
    members: int, parameters: int, records: float, prevalence: float, mu: float
) -> None:
    given_ = {"members": members, "colluding": members - 1, "prevalence": prevalence}
    found = outlook(**given_, parameters=parameters, records=records, mu=mu)  # type: ignore[arg-type]
    assert (found.advice == "") == (found.verdict == "fine") == (found.kappa < 0.06)
    if found.advice:
        times = found.kappa / 0.06
        more = outlook(**given_, parameters=parameters, records=records * times * 1.0001, mu=mu)  # type: ignore[arg-type]
        assert more.verdict == "fine"
        louder = outlook(**given_, parameters=parameters, records=records, mu=mu * times * 1.0001)  # type: ignore[arg-type]
        assert louder.verdict == "fine"


def test_numbers_that_cannot_be_are_named() -> None:
    good = {"members": 4, "colluding": 3, "parameters": 10, "records": 100.0, "prevalence": 0.2, "mu": 1.0}
    for wrong in ({"colluding": 4}, {"prevalence": 0.0}, {"prevalence": 1.0}, {"mu": 0.0}, {"parameters": 0}):
        with pytest.raises(InputError):
            outlook(**(good | wrong))  # type: ignore[arg-type]


def test_evaluations_are_every_kth_round_and_the_last() -> None:
    assert [evaluations(3, 1), evaluations(60, 5), evaluations(7, 3)] == [4, 13, 4]
