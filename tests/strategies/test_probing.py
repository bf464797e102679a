"""Probes: members try several lengths of a step, in every mode, for one evaluation's charge; one or none is taken."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from blind_jobs import BlindJob
from funded import funded
from hypothesis import given
from hypothesis import strategies as st
from masked_jobs import MaskedJob, Node, attempt_of

from hansa.contract.charter import KnobRange
from hansa.contract.errors import InputError
from hansa.contract.jobs import MORE_EVALUATIONS, PROBED, evaluations, may_probe, probe_due
from hansa.contract.messages import Request
from hansa.server.control.submission import check_plan
from hansa.strategies import blind_keys, custody, roster
from hansa.strategies.apply import ModelState

PLAN = {"tuning": "probe"}


def knobs(rate: float, low: float = 1e-4, high: float = 1e4) -> dict[str, KnobRange]:
    return {
        "server_rate": KnobRange(default=rate, low=low, high=high),
        "client_rate": KnobRange(default=1.0, low=0.1, high=2.0),
    }


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "PATIENCE_S", 0.2)
    monkeypatch.setattr(blind_keys, "AGAIN_S", 0.0)
    monkeypatch.setattr(roster, "HELLO_AGAIN_S", 0.0)


def factor_of(job: MaskedJob, number: int) -> float:
    return float(job.job.decisions[number].inputs["factor"])  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["clear", "masked", "he"])
def test_a_rate_that_is_far_too_small_is_found_in_every_mode(mode: str) -> None:
    job = MaskedJob(4, 6, mode=mode, plan=PLAN, knobs=knobs(0.002))
    job.run()
    assert job.job.status == "finished", job.job.reason
    rates = [it.knobs["server_rate"] for it in job.job.results if it.status == "applied"]
    assert rates[0] == 0.002
    assert rates[-1] > 0.005
    kinds = [it.kind for it in sorted(job.job.results, key=lambda it: it.attempt)]
    if mode == "he":
        # A probe is the evaluation of the model it leads to: no other one is asked for.
        assert kinds == ["train", "evaluate"] * 6
        assert [it.by for it in job.job.decisions] == ["probe"] * 6
    else:
        # After the first one the sums say how the steps were, and cost nothing.
        assert kinds == ["train", "evaluate", *["train"] * 5, "evaluate"]
        assert [it.by for it in job.job.decisions] == ["probe", *["tuner"] * 5]
    assert set(job.job.figures) == set(range(7))
    assert job.job.figures[6]["log_loss"] < job.job.figures[0]["log_loss"] - 0.05


def test_clear_and_masked_jobs_take_the_same_steps_and_the_members_of_he_are_alike() -> None:
    ends = {}
    for mode in ("clear", "masked", "he"):
        job = (BlindJob if mode == "he" else MaskedJob)(
            4, 3, plan=PLAN, knobs=knobs(0.002), **({} if mode == "he" else {"mode": mode})
        )
        strategy = job.run()
        assert job.job.status == "finished", job.job.reason
        if isinstance(job, BlindJob):
            assert len({job.held(name).tag for name in job.agents}) == 1
            continue
        assert isinstance(strategy.state, ModelState)
        ends[mode] = strategy.state.weights
    np.testing.assert_array_equal(ends["clear"], ends["masked"])


def test_a_step_that_led_too_far_is_taken_back_in_a_round_of_its_own() -> None:
    job = MaskedJob(
        4, 8, mode="masked", plan={**PLAN, "rule": {"name": "fedavg", "tail": 0.0}}, knobs=knobs(1.0)
    )

    def spoils(body: Request, honest: Node, payload: bytes) -> bytes:
        # Somebody makes the rate far too large, once the job is under way.
        if body.type == "attempt" and body.order.base == 3 and job.job.knobs["server_rate"] < 1e3:
            job.job.knobs["server_rate"] = 3e3
        return honest(payload)

    job.faults["a"] = spoils
    job.run()
    assert job.job.status == "finished", job.job.reason
    back = [it for it in job.job.decisions if it.by == "tuner" and it.inputs["kept"] != 1.0]
    assert back
    assert "is kept" in back[0].sentence
    assert back[0].knobs["server_rate"] < 3e3
    assert [it.round for it in job.job.results if it.status == "applied"] == list(range(1, 9))
    assert job.job.figures[8]["log_loss"] < job.job.figures[0]["log_loss"]


def test_the_figures_of_a_probe_are_those_of_the_model_it_led_to() -> None:
    job = MaskedJob(4, 2, mode="he", plan={**PLAN, "rule": {"name": "fedavg", "tail": 0.0}}, knobs=knobs(0.5))
    job.run()
    probed = job.job.figures[2]
    plain = MaskedJob(
        4, 2, mode="clear", simulated=job.simulated, plan={"rule": {"name": "fedavg", "tail": 0.0}}
    )
    # The same steps without probes: each at the rate that was in force times the factor that was taken.
    taken = [it.knobs["server_rate"] for it in job.job.results if it.status == "applied"]
    rates = [rate * nearest for rate, nearest in zip(taken, _taken(job), strict=True)]
    plain.job.plan = plain.job.plan.model_copy(update={"rounds": 2})
    numbers = iter(rates)
    plain.job.knobs["server_rate"] = next(numbers)

    def next_rate(body: Request, honest: Node, payload: bytes) -> bytes:
        if attempt_of(body) == 1:
            plain.job.knobs["server_rate"] = rates[1]
        return honest(payload)

    plain.faults["a"] = next_rate
    plain.run()
    assert plain.job.figures[2] == pytest.approx(probed)


def _taken(job: MaskedJob) -> list[float]:
    """Of each probe the factor that was tried and is nearest to what was chosen."""
    found = []
    for it in job.job.decisions:
        factors, wanted = it.inputs["factors"], it.inputs["factor"]
        found.append(min(factors, key=lambda factor: abs(math.log(factor / wanted))))  # type: ignore[arg-type,operator,union-attr]
    return found


def test_a_step_that_only_harms_is_dropped_and_the_rate_cut() -> None:
    # So far away that even the shortest step that is tried leads to a worse model.
    job = MaskedJob(
        4, 2, mode="masked", plan={**PLAN, "rule": {"name": "fedavg"}}, knobs=knobs(1e6, high=1e8)
    )
    job.run()
    assert job.job.decisions[0].inputs["factor"] == 0.0
    # It counts as a round, which it costs, and the model stays.
    assert [it.round for it in job.job.results if it.status == "applied"] == [1, 2]
    np.testing.assert_array_equal(job.job.states[1]["weights"], job.simulated.model.initial(0))
    assert not job.job.states[1]["first"].any()
    assert job.job.figures[1] == job.job.figures[0]
    assert job.job.knobs["server_rate"] < 1e4
    assert job.job.status == "finished", job.job.reason
    assert all(np.isfinite(it["log_loss"]) for it in job.job.figures.values())


@pytest.mark.parametrize("mode", ["masked", "he"])
def test_training_does_not_hang_on_probes(mode: str) -> None:
    job = MaskedJob(4, 2, mode=mode, plan=PLAN)

    def fault(body: Request, honest: Node, payload: bytes) -> bytes:
        if body.type == "attempt" and body.order.factors:
            raise ConnectionError("gone")
        return honest(payload)

    for name in job.agents:
        job.faults[name] = fault
    job.run()
    assert job.job.status == "finished", job.job.reason
    assert [it.round for it in job.job.results if it.status == "applied"] == [1, 2]
    # Those that answer a probe are charged for it: after one that came to nothing there is none for a while.
    [failed] = [it for it in job.job.decisions if it.by == "probe"]
    assert (failed.knobs, "came to nothing" in failed.sentence) == ({}, True)
    assert [it.kind for it in job.job.results].count("evaluate") == 2


def test_a_server_that_is_gone_between_step_and_probe_takes_neither_twice() -> None:
    job = MaskedJob(4, 3, mode="he", plan=PLAN)
    first = job.strategy()

    def gone(*_: object) -> None:
        raise ConnectionError("the server's process is gone")

    adopt, number = first.journal.adopt, iter(range(9))
    first.journal.adopt = lambda *them: gone() if next(number) else adopt(*them)  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        job.run(first)
    job.run()
    assert job.job.status == "finished", job.job.reason
    assert [it.round for it in job.job.results if it.status == "applied"] == [1, 2, 3]
    assert job.job.opened[3].status == "abandoned"
    assert job.job.opened[4].status == "abandoned"
    assert len({it.key for it in job.job.decisions}) == len(job.job.decisions)


def test_a_pinned_rate_is_not_probed() -> None:
    job = MaskedJob(4, 2, mode="clear", plan={**PLAN, "pinned": {"server_rate": 0.2}})
    job.run()
    assert [it.kind for it in job.job.results] == ["train", "train", "evaluate"]
    assert job.job.decisions == []


def test_probes_under_noise_cost_what_evaluations_cost() -> None:
    plain, probed = (
        MaskedJob(4, 3, mode="masked", simulated=funded(4, mode="masked"), plan={"tuning": tuning})
        for tuning in ("none", "probe")
    )
    spent = {}
    for job in (plain, probed):
        job.run()
        assert job.job.status == "finished", job.job.reason
        seen = [seen for it in job.job.receipts.values() for seen in it if seen.receipt.charges]
        spent[job] = sorted(
            (charge.purpose, round(charge.noise_multiplier, 9))
            for it in seen
            for charge in it.receipt.charges
        )
    assert spent[plain] == spent[probed]
    probes = [it for it in probed.job.decisions if it.by == "probe"]
    assert len(probes) == 1
    for it in probes:
        losses, errors = it.inputs["losses"], it.inputs["errors"]
        # What noise hides is left out with its error.
        assert [loss is None for loss in losses] == [error is None for error in errors]  # type: ignore[union-attr]


@given(st.integers(1, 300), st.integers(1, 40))
def test_probes_add_at_most_two_evaluations_to_five(rounds: int, every: int) -> None:
    plain, probed = evaluations(rounds, every), evaluations(rounds, every, "probe")
    due = [it for it in range(1, rounds + 1) if probe_due(it, rounds, every, "probe")]
    assert plain <= probed <= (1 + MORE_EVALUATIONS) * plain
    assert all(it <= PROBED for it in due)
    assert probed == plain + len([it for it in due if it % every and it != rounds])
    assert not any(probe_due(it, rounds, every, "none") or may_probe(it, rounds, every, "none") for it in due)
    if every == 1:
        assert due == list(range(1, min(PROBED, rounds) + 1))


def test_a_plan_is_refused_that_probes_what_it_may_not() -> None:
    job = MaskedJob(4, 2, mode="clear", plan={**PLAN, "pinned": {"server_rate": 0.2}})
    with pytest.raises(InputError, match="tuning"):
        check_plan(job.job.plan, job.simulated.charter, datetime.now(UTC))
