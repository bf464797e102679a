"""Jobs that begin with a contract check, and jobs of moments, from the order to what every member keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federation import FEATURES, make_order, make_plan
from funded import funded, propose
from masked_jobs import MaskedJob, vanish
from masked_side import answer_of

from hansa.cli.simulation import SimulatedFederation
from hansa.clients.data.dataset import Dataset
from hansa.clients.data.split import Split, split
from hansa.clients.statistics import moments_sum, statistics_sum
from hansa.contract.charter import ModelChoice, PrivacyPlan, Task, Training
from hansa.contract.features import BinaryLabel, FeatureContract, NumericColumn
from hansa.contract.jobs import JobPlan
from hansa.contract.messages import RefusalReply
from hansa.contract.scenario import FirstGrant
from hansa.contract.segments import PREPARATION
from hansa.models.metrics import auc
from hansa.models.preparation import Preparation, predict
from hansa.models.registry import load_model
from hansa.strategies.contract_check import model_of, preparation_of, released
from hansa.strategies.moments import solve

# So much that noise is hardly there.
RICH = FirstGrant(epsilon=100.0, delta=1e-3)
MOMENTS = Training(mechanism="moments", max_entities=1000)
ONE_ROUND = PrivacyPlan(noise="local", fewest_rounds=1, delta=1e-3)


def narrow(federation: SimulatedFederation) -> SimulatedFederation:
    """The same members, whose first column uses an eighth of its declared range."""

    def squeezed(part: Split) -> Split:
        shape = np.array([0.125, 1.0])
        return Split(*(replace(it, X=it.X * shape + [0.5, 0.0]) for it in (part.train, part.holdout)))

    return replace(federation, records={name: squeezed(part) for name, part in federation.records.items()})


def checked(rounds: int = 1, *, model: str = "linear", mode: str = "masked", **charter: object) -> MaskedJob:
    """A job with a check over members with little noise."""
    task = Task(title="test", features=FEATURES, model=ModelChoice(name=model))
    made = funded(4, rows=1500, grant=RICH, mode=mode, **{"privacy": ONE_ROUND, "task": task, **charter})
    made = narrow(replace(made, model=load_model(task.model, FEATURES)))
    return MaskedJob(simulated=made, rounds=rounds, plan={"check": True})


def kinds(job: MaskedJob) -> list[str]:
    return [result.kind for result in job.job.results]


@pytest.mark.parametrize("mode", ["clear", "masked"])
def test_a_check_comes_first_once_and_says_what_it_found(mode: str) -> None:
    job = checked(rounds=3, mode=mode)
    state = job.run().state
    assert job.job.status == "finished"
    assert kinds(job) == ["statistics", "train", "train", "train", "evaluate"]
    first = job.job.results[0]
    assert (first.status, first.round, first.metrics) == ("evaluated", None, {})
    [(_, sentence)] = job.events("contract-check")
    assert "1 of 2 numeric ones" in sentence
    assert sentence.endswith("(age)")
    found = Preparation.read(state.preparation, FEATURES)
    # The members' sums without noise lead to the same, but for the noise that a large grant leaves.
    charter, records = job.simulated.charter, job.simulated.records
    sums = sum(statistics_sum(part.train, charter.task.features) for part in records.values())
    np.testing.assert_allclose(found.array, preparation_of(sums, 0.0, FEATURES).array, rtol=0.05, atol=0.05)


def test_held_out_records_have_no_part_in_the_check() -> None:
    job = checked()
    work = job.agents["a"]._work
    order = make_order(job.simulated, kind="statistics")
    sums = work._values("statistics", make_plan(check=True), order, {}, 1.0)
    strange = replace(work.records.holdout, X=work.records.holdout.X - 3.0, y=1.0 - work.records.holdout.y)
    other = replace(work, records=Split(work.records.train, strange))
    np.testing.assert_array_equal(other._values("statistics", make_plan(check=True), order, {}, 1.0), sums)


@pytest.mark.parametrize("model", ["linear", "additive"])
def test_everybody_keeps_a_model_that_the_contract_alone_explains(model: str, tmp_path: Path) -> None:
    job = checked(model=model)
    for name, agent in job.agents.items():
        object.__setattr__(agent._work, "folder", tmp_path / name)
        object.__setattr__(agent._work, "keep_scores", True)
    state = job.run().state
    charter, records = job.simulated.charter, job.simulated.records
    handed = released(state, charter)
    assert (PREPARATION in handed) == (model == "additive")
    trained, preparation = model_of(state, charter)
    assert preparation is not None
    for name, part in records.items():
        expected = trained.predict(state.released, preparation.apply(part.holdout.X))
        assert expected.std() > 0.02
        by_contract = predict(charter.task.model, FEATURES, handed, part.holdout.X)
        np.testing.assert_allclose(by_contract, expected, atol=1e-9)
        with np.load(tmp_path / name / "held_out.npz") as kept:
            np.testing.assert_allclose(kept["scores"], expected, atol=1e-9)
        with np.load(tmp_path / name / f"model-{job.job.plan.job}.npz") as kept:
            arrays = {"released" if key == "weights" else key: kept[key] for key in kept.files}
        assert arrays.pop("rounds").size == arrays.pop("contract").size == 1
        assert arrays.keys() == handed.keys()
        np.testing.assert_allclose(
            predict(charter.task.model, FEATURES, arrays, part.holdout.X), expected, atol=1e-9
        )


def test_a_run_that_dies_after_the_check_does_not_pay_for_another() -> None:
    job = checked()
    strategy = job.strategy()

    def killed() -> None:
        raise KeyboardInterrupt

    strategy.train_round = killed  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        job.run(strategy)
    assert kinds(job) == ["statistics"]
    before = strategy.state.preparation
    spent = {name: agent.budget.ledger.head for name, agent in job.agents.items()}
    # Another run, another lease, the same journal and agents.
    state = job.run().state
    assert kinds(job) == ["statistics", "train", "evaluate"]
    np.testing.assert_array_equal(state.preparation, before)
    for name, agent in job.agents.items():
        charged = [
            row.body for row in agent.budget.ledger.rows() if getattr(row.body, "purpose", "") == "check"
        ]
        assert len(charged) == 1, name
        assert agent.budget.ledger.head.sequence > spent[name].sequence


def test_a_check_that_comes_to_nothing_is_made_again() -> None:
    job = checked()
    for name in list(job.agents)[:2]:
        job.faults[name] = vanish("attempt", 1)
    job.run()
    assert [(it.kind, it.status) for it in job.job.results][:3] == [
        ("statistics", "failed"),
        ("statistics", "evaluated"),
        ("train", "applied"),
    ]


def test_a_check_recovers_most_of_what_too_wide_ranges_cost() -> None:
    features = FeatureContract(
        columns=tuple(NumericColumn(name=f"n{number}", low=0, high=1) for number in range(12)),
        label=BinaryLabel(),
    )
    task = Task(title="test", features=features, model=ModelChoice(name="linear"))
    made = replace(
        funded(4, grant=FirstGrant(epsilon=3.0), task=task), model=load_model(task.model, features)
    )

    def part(rows: int, seed: int, wide: float) -> Dataset:
        """Three columns say all there is to know, and their declared ranges are so many times too wide."""
        rng = np.random.default_rng(seed)
        X = np.clip(rng.normal(size=(rows, 12)), -2, 2)
        y = (X[:, :3] @ [1.2, -1.2, 1.0] + rng.logistic(size=rows) > 0).astype(float)
        X[:, :3] /= wide
        return Dataset(X, y, np.array([f"{seed}-{row}".encode() for row in range(rows)]))

    def reached(wide: float, check: bool) -> float:
        records = {name: part(2000, seed, wide) for seed, name in enumerate(made.records)}
        parts = {name: split(it, secret=name.encode(), holdout=0.2) for name, it in records.items()}
        plan = {"check": check, "share": 1.0, "evaluate_every": 8}
        job = MaskedJob(simulated=replace(made, records=parts), rounds=8, plan=plan)
        arrays = released(job.run().state, made.charter)
        assert job.job.status == "finished"
        held_out = [it.holdout for it in parts.values()]
        return float(np.mean([auc(predict(task.model, features, arrays, it.X), it.y) for it in held_out]))

    fits, wide, checked = reached(1.0, False), reached(8.0, False), reached(8.0, True)
    assert wide < fits - 0.03
    assert checked - wide > 0.5 * (fits - wide)


def refused(job: MaskedJob, plan: JobPlan, **fields: object) -> RefusalReply:
    """What a member says to an order of a job with that plan."""
    from federation import attempt_request

    agent = job.agents["a"]
    noise = propose(job.simulated, agent, plan)
    segments = fields.pop("segments", None)
    order = make_order(job.simulated, 1, noise=noise, **fields)
    body = answer_of(agent, attempt_request(job.simulated, order, segments)).body
    assert isinstance(body, RefusalReply), body
    return body


def test_columns_are_prepared_by_the_planned_check_and_by_nothing_else() -> None:
    weights = np.zeros(3)
    stretched = Preparation(np.array([0.5, 0.0]), np.array([4.0, 1.0]), start=0.0).array
    both = {"weights": weights, PREPARATION: stretched}
    plain, check = make_plan(share=1.0), make_plan(check=True, share=1.0)

    said = refused(checked(mode="clear"), plain, segments=both)
    assert (said.code, said.sentence) == (
        "not-approved",
        "the job plans no contract check, and the order brings a preparation of columns",
    )
    said = refused(checked(mode="clear"), check, segments={"weights": weights})
    assert said.code == "not-approved"
    assert "does not bring what came of it" in said.sentence
    said = refused(checked(mode="clear"), check, segments={"weights": weights, PREPARATION: 9 * stretched})
    assert said.code == "bad-size"
    said = refused(checked(mode="clear"), plain, kind="statistics", segments={})
    assert said.code == "not-approved"
    said = refused(checked(mode="clear"), check, kind="statistics", base=1, segments={})
    assert said.code == "not-approved"
    assert "what a job begins with" in said.sentence
    said = refused(checked(mode="clear"), check, kind="statistics", segments={"weights": weights})
    assert said.code == "bad-size"


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("model", ["linear", "additive"])
def test_one_round_of_moments_is_the_ridge_solution(model: str, check: bool) -> None:
    task = Task(title="test", features=FEATURES, model=ModelChoice(name=model))
    made = funded(4, rows=1500, grant=RICH, mode="masked", task=task, training=MOMENTS, privacy=ONE_ROUND)
    made = narrow(replace(made, model=load_model(task.model, FEATURES)))
    job = MaskedJob(simulated=made, rounds=1, plan={"share": 1.0, "check": check})
    state = job.run().state
    assert job.job.status == "finished"
    assert kinds(job) == ["statistics"] * check + ["train", "evaluate"]
    assert state.round == 1
    assert state.released is state.weights
    trained, preparation = model_of(state, made.charter)
    view = FEATURES if preparation is None else preparation.told(FEATURES)
    trains = [part.train for part in made.records.values()]
    if preparation is not None:
        trains = [replace(it, X=preparation.apply(it.X)) for it in trains]
    exact = solve(sum(moments_sum(trained, it, view, 0.5) for it in trains), 0.0, trained, view)
    # Noise is small beside 4,800 records, and the penalty with it.
    X = np.concatenate([it.X for it in trains])
    exactly, noised = (trained.predict(weights, X) for weights in (exact, state.weights))
    assert np.corrcoef(exactly, noised)[0, 1] > 0.99
    assert job.job.results[-1].metrics["auc"].value > 0.8


def test_moments_without_noise_are_exact() -> None:
    job = MaskedJob(4, 1, training=MOMENTS)
    state = job.run().state
    made = job.simulated
    sums = sum(moments_sum(made.model, part.train, FEATURES, 0.5) for part in made.records.values())
    np.testing.assert_allclose(state.weights, solve(sums, 0.0, made.model, FEATURES), rtol=1e-3, atol=1e-3)
