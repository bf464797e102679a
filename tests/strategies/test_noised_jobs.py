"""Jobs with noise over real agents: how much of it is in a sum, what it hides, and what becomes of small budgets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from federation import make_federation, names
from funded import SMALL
from masked_jobs import MaskedJob, vanish
from numpy.typing import NDArray
from scipy.stats import binom

from hansa.cli.simulation import SimulatedFederation
from hansa.clients.data.dataset import Dataset
from hansa.clients.data.split import split
from hansa.clients.grants import FreezeOrder, UnfreezeOrder
from hansa.clients.training import local_update
from hansa.contract.charter import ModelChoice, PrivacyPlan, Task, Training
from hansa.contract.features import BinaryLabel, FeatureContract, NumericColumn
from hansa.contract.scenario import FirstGrant
from hansa.contract.segments import EVALUATION, UPDATE
from hansa.models.registry import load_model
from hansa.models.scores import score_histogram
from hansa.privacy.noise import NoiseGenerator
from hansa.strategies.attempt import Attempt
from hansa.strategies.consortium import ConsortiumStrategy

LOCAL, SHARED = PrivacyPlan(noise="local"), PrivacyPlan(noise="distributed", s=2)
# So many coordinates tell a standard deviation to 2 %.
COLUMNS = 1200
WIDE = FeatureContract(
    columns=tuple(NumericColumn(name=f"x{number}", low=-2, high=2) for number in range(COLUMNS)),
    label=BinaryLabel(),
)


def wide(members: int = 5, *, grant: FirstGrant | None = None, **charter: object) -> SimulatedFederation:
    """Members with grants and a model of many weights."""
    task = Task(title="test", features=WIDE, model=ModelChoice(name="linear"))
    made = make_federation(members, **{"mode": "masked", "task": task, "training": SMALL, **charter})  # type: ignore[arg-type]
    records = {name: split(_records(seed), secret=b"", holdout=0.3) for seed, name in enumerate(made.records)}
    grant = grant or FirstGrant()
    return replace(made, model=load_model(task.model, WIDE), records=records, grant=grant)


def _records(seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, size=(60, COLUMNS))
    y = (X[:, 0] - X[:, 1] + rng.logistic(size=60) > 0).astype(np.float64)
    return Dataset(X, y, np.array([f"{seed}-{row}".encode() for row in range(60)]))


def granting(simulated: SimulatedFederation, epsilon: Mapping[str, float]) -> MaskedJob:
    """A job whose members have grants of different sizes."""
    agents = {
        name: replace(simulated, grant=FirstGrant(epsilon=epsilon.get(name, 8.0))).agent(name)
        for name in simulated.records
    }
    return MaskedJob(simulated=simulated, agents=agents, rounds=3)


def attempted(job: MaskedJob) -> tuple[Attempt, ConsortiumStrategy]:
    """One train attempt with an evaluation, unmasked and not applied yet."""
    strategy, grid = job.strategy(), job.grid()
    try:
        strategy.connect(grid)
        attempt = strategy.open("train", strategy.select())
        strategy.gather_uploads(attempt)
        strategy.unmask(attempt)
    finally:
        grid.close()
    assert attempt.shortfall() == ""
    return attempt, strategy


def exact(
    attempt: Attempt, simulated: SimulatedFederation, weights: NDArray[np.float64]
) -> dict[str, np.ndarray]:
    """What the active members' sums would be without noise."""
    update, histogram = np.zeros(weights.size), np.zeros(2 * simulated.charter.metrics.bins)
    for name in attempt.active:
        own = simulated.records[name]
        update += local_update(
            simulated.model,
            weights,
            own.train,
            charter=simulated.charter,
            plan=attempt.plan,
            member=name,
            knobs=attempt.order.knobs,
            generator=NoiseGenerator(),
            noise=None,
        )
        predicted = simulated.model.predict(weights, own.holdout.X)
        histogram += score_histogram(WIDE, own.holdout.y, predicted, own.holdout.entities, 10)
    return {UPDATE: update, EVALUATION: histogram}


def added(
    attempt: Attempt, simulated: SimulatedFederation, strategy: ConsortiumStrategy
) -> dict[str, np.ndarray]:
    """The noise in each decoded sum."""
    plain = exact(attempt, simulated, strategy.state.weights)
    return {name: attempt.decoded(name) - plain[name] for name in plain}


def assert_noise(noise: NDArray[np.float64], sd: float) -> None:
    """Mean, variance and tails of a Gaussian of that deviation, by as much as chance allows."""
    count, standard = noise.size, noise / sd
    assert abs(standard.mean()) < 5 / math.sqrt(count)
    # The cube root of a chi-square is normal, also of few coordinates (Wilson and Hilferty 1931).
    narrow = 2 / (9 * count)
    assert abs(np.cbrt((standard**2).mean()) - (1 - narrow)) < 5 * math.sqrt(narrow)
    # Of few coordinates, too: more of them come once in a million.
    assert (np.abs(standard) > 1.96).sum() <= binom.isf(1e-6, count, 0.05)


@pytest.mark.parametrize("mode", ["clear", "masked"])
def test_local_noise_of_each_member_adds_up_in_the_sum(mode: str) -> None:
    simulated = wide(privacy=LOCAL, mode=mode)
    job = granting(simulated, {"a": 1.0, "b": 2.0, "c": 4.0})
    attempt, strategy = attempted(job)
    z, clip = strategy.roster.noise, simulated.charter.training.clip
    assert z["a"][UPDATE] > z["b"][UPDATE] > z["c"][UPDATE] > z["d"][UPDATE] == z["e"][UPDATE]
    assert attempt.order.noise == z["a"]
    found = added(attempt, simulated, strategy)
    for name, sensitivity in ((UPDATE, clip), (EVALUATION, 1.0)):
        # Rounding widens the sensitivity by sqrt(d) units, which are few here.
        stated = sensitivity * math.sqrt(sum(own[name] ** 2 for own in z.values()))
        assert stated < attempt.noise_sd(name) < 1.002 * stated
        assert_noise(found[name], attempt.noise_sd(name))


def test_shared_noise_is_that_of_one_member_alone_where_as_many_drop_as_may() -> None:
    simulated = wide(7, privacy=SHARED)
    attempt, strategy = attempted(MaskedJob(simulated=simulated, rounds=3))
    z = attempt.order.noise[UPDATE]
    clip = simulated.charter.training.clip
    assert attempt.noise_sd(UPDATE) == pytest.approx(z * clip * math.sqrt(7 / 5), rel=2e-3)
    assert_noise(added(attempt, simulated, strategy)[UPDATE], attempt.noise_sd(UPDATE))
    dropped = MaskedJob(simulated=simulated, rounds=3)
    dropped.faults["g"] = vanish("attempt", 1)
    attempt, strategy = attempted(dropped)
    assert len(attempt.active) == 6
    assert attempt.noise_sd(UPDATE) == pytest.approx(z * clip * math.sqrt(6 / 5), rel=2e-3)
    assert_noise(added(attempt, simulated, strategy)[UPDATE], attempt.noise_sd(UPDATE))


def test_too_few_active_for_shared_noise_are_not_even_asked() -> None:
    job = MaskedJob(simulated=wide(7, privacy=SHARED), rounds=3)
    for name in "fg":
        job.faults[name] = vanish("attempt", 1)
    strategy, grid = job.strategy(), job.grid()
    try:
        strategy.connect(grid)
        result = strategy.train_round()
    finally:
        grid.close()
    # What the charter asks of an active set without noise is there.
    assert strategy.charter.least_active == 5 == len(result.active)
    assert result.status == "failed"
    assert "noise that is shared needs at least 6 in one sum (privacy.s = 2)" in result.reason
    assert not {"agree", "unmask"} & {body.type for _, body in job.asked}


def test_each_step_at_home_has_its_noise() -> None:
    training = Training(max_entities=1000, delta_clip=1e6)
    simulated = wide(privacy=LOCAL, training=training)
    job = MaskedJob(simulated=simulated, rounds=3, plan={"steps": 4})
    attempt, strategy = attempted(job)
    z = [own[UPDATE] for own in strategy.roster.noise.values()]
    # At these weights a little noise changes no gradient much: what is left is the noise of the steps.
    per_member = (
        simulated.charter.members[0].records * training.clip / (0.8 * simulated.charter.members[0].records)
    )
    noise = added(attempt, simulated, strategy)[UPDATE]
    stated = per_member * math.sqrt(4 * sum(it**2 for it in z))
    assert 0.8 * stated < noise.std() < 1.6 * stated
    # It is not on the grid: the server adds no room for it.
    assert attempt.noise_sd(UPDATE) == 0.0


def test_the_job_ends_and_its_figures_say_how_sure_they_are() -> None:
    # So little noise that no figure of a few records drowns in it.
    job = MaskedJob(simulated=wide(privacy=LOCAL, grant=FirstGrant(epsilon=80.0)), rounds=3)
    job.run()
    assert job.job.status == "finished"
    assert len([it for it in job.job.results if it.metrics]) == 4
    for result in job.job.results:
        assert {"log_loss", "accuracy"} <= set(result.metrics)
        assert all(it.error is not None and it.error > 0 for it in result.metrics.values())


# --- two sums of one state ----------------------------------------------------------------------


def test_the_same_state_gives_another_sum_each_time() -> None:
    simulated = wide(privacy=LOCAL)
    job = MaskedJob(simulated=simulated, rounds=3)
    first, _ = attempted(job)
    second, _ = attempted(job)
    assert first.order.base == second.order.base
    difference = first.decoded(UPDATE) - second.decoded(UPDATE)
    assert_noise(difference, math.hypot(first.noise_sd(UPDATE), second.noise_sd(UPDATE)))


# --- what members say of their noise ------------------------------------------------------------


def unsaid(job: MaskedJob, name: str, noise: dict[str, float]) -> None:
    """The member approves jobs with that noise."""
    agent = job.agents[name]
    assert agent.budget is not None
    agent.budget.noise = lambda _: noise  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("noise", "reason"),
    [
        ({}, "it named none for segment 'evaluation'"),
        ({UPDATE: 5.0}, "it named none for segment 'evaluation'"),
        ({UPDATE: 5.0, EVALUATION: 5.0, "statistics": 5.0}, "it named noise for segment 'statistics'"),
        ({UPDATE: 5e4, EVALUATION: 5.0}, "needs so wide a grid that the noise of"),
    ],
)
def test_whoever_says_no_fitting_noise_stays_out_with_the_reason(
    noise: dict[str, float], reason: str
) -> None:
    job = MaskedJob(simulated=wide(privacy=LOCAL), rounds=3)
    unsaid(job, "b", noise)
    attempt, _ = attempted(job)
    assert attempt.active == ("a", "c", "d", "e")
    assert reason in attempt.order.left_out["b"]


def test_a_receipt_for_another_noise_than_was_said_is_no_upload() -> None:
    job = MaskedJob(simulated=wide(privacy=LOCAL), rounds=3)
    agent = job.agents["b"]
    assert agent.budget is not None
    said = agent.budget.noise
    agent.budget.noise = lambda it: {name: z * 0.9 for name, z in said(it).items()}  # type: ignore[method-assign]
    attempt, _ = attempted(job)
    assert "b" not in attempt.active
    result = attempt.result("failed", round_number=None)
    [entry] = [it for it in result.participation if it.member == "b"]
    assert (entry.outcome, entry.code) == ("failed", "bad-reply")
    assert "sent a receipt for noise" in entry.sentence


# --- budgets that do not pay --------------------------------------------------------------------


def freeze(job: MaskedJob, name: str) -> None:
    """The organisation freezes its grant."""
    budget = job.agents[name].budget
    assert budget is not None
    budget.grants.freeze(FreezeOrder(grant="first", reason="a question of ours", by="us"))


def test_a_member_whose_grant_is_frozen_stands_aside_and_is_not_asked_again() -> None:
    job = MaskedJob(simulated=wide(privacy=LOCAL), rounds=3)
    attempted(job)
    freeze(job, "b")
    job.asked.clear()
    strategy = job.run()
    assert (job.job.status, strategy.state.round) == ("finished", 3)
    mine = [body.type for name, body in job.asked if name == "b"]
    # It refuses the job, so that no order is wasted on it.
    assert mine.count("attempt") == 0
    assert all("grant-frozen" in it.left_out["b"] for it in job.job.results)
    assert [kind for kind, _, member, _ in job.job.events if member == "b"] == ["grant-frozen"]


def test_too_many_budgets_that_do_not_pay_pause_the_job_and_it_says_whose() -> None:
    job = MaskedJob(simulated=wide(privacy=LOCAL), rounds=3)
    attempted(job)
    for name in "bd":
        freeze(job, name)
    job.run()
    assert job.job.status == "paused"
    assert "the budgets of 2 members do not pay" in job.job.reason
    assert "b, d: grant-frozen: grant 'first' is frozen: a question of ours" in job.job.reason
    # Whoever resumes it asks again.
    for name in "bd":
        budget = job.agents[name].budget
        assert budget is not None
        budget.grants.unfreeze(UnfreezeOrder(grant="first", by="us"))
    job.run()
    assert job.job.status == "finished"


def test_members_without_a_grant_pause_a_job_before_anything_is_asked() -> None:
    simulated = wide(privacy=LOCAL)
    agents = {
        name: (replace(simulated, grant=None) if name in "ab" else simulated).agent(name) for name in names(5)
    }
    job = MaskedJob(simulated=simulated, agents=agents, rounds=3)
    job.run()
    assert job.job.status == "paused"
    assert "a, b: data-not-granted" in job.job.reason
    assert "attempt" not in {body.type for _, body in job.asked}


def test_noise_too_coarse_for_the_grid_is_said_before_anything_is_spent() -> None:
    huge = Training(max_entities=50_000_000)
    job = MaskedJob(simulated=wide(privacy=LOCAL, training=huge), rounds=3)
    job.run()
    assert job.job.status == "paused"
    assert "lower training.max_entities" in job.job.reason
    assert "attempt" not in {body.type for _, body in job.asked}
