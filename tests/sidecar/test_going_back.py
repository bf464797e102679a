"""Recovery: what diverges is gone back from, flat noise is left alone, and nothing is done twice."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from recovered_job import ERROR, Job, through_json

from hansa.sidecar.recovery import (
    Action,
    CutRate,
    Figure,
    GiveBack,
    Pause,
    RollBack,
    Seen,
    decide,
    figures_of,
    next_step,
    refused,
    slope_of,
)


def running(rounds: int = 12, seed: int = 0, error: float | None = ERROR) -> Job:
    """A job that goes well."""
    job, rng = Job(), np.random.default_rng(seed)
    for _ in range(rounds):
        job.round(loss=Figure(0.4 + ERROR * rng.normal(), error))
        assert job.recover() is None
    return job


def test_a_loss_that_jumped_is_gone_back_from_at_a_lower_rate() -> None:
    job = running()
    job.round(loss=Figure(0.9, ERROR))
    action = job.recover()
    assert isinstance(action, RollBack)
    assert (action.to_round, action.undoes, action.rate_before, action.rate) == (12, 13, 1.0, 0.3)
    assert (job.rounds[-1].round, job.rate, job.status) == (12, 0.3, "running")
    assert action.evidence["loss_errors"] > 4
    assert "round 13" in action.sentence
    assert "charges stay" in action.sentence
    assert job.decided() is None


def test_several_rounds_that_are_each_within_noise_are_seen_together() -> None:
    job = running(16)
    actions = []
    for _ in range(4):
        job.round(loss=Figure(0.4 + 3.2 * ERROR, ERROR))
        actions.append(job.recover())
    first = next(it for it in actions if it is not None)
    assert actions[0] is None
    assert isinstance(first, RollBack)
    assert first.evidence["rounds"] == 2


def test_an_auc_is_not_compared_with_the_accuracy_that_stands_where_noise_hid_another_auc() -> None:
    job = Job()
    for number in range(12):
        hidden = number % 3 == 0
        score = Figure(0.95, 0.01, "accuracy") if hidden else Figure(0.7, 0.02, "auc")
        job.round(loss=Figure(0.4 + 0.5 * ERROR * number / 12, ERROR), score=score)
        assert job.recover() is None
    job.round(loss=Figure(0.4 + 1.5 * ERROR, ERROR), score=Figure(0.68, 0.02, "auc"))
    assert job.decided() is None
    job.round(loss=Figure(0.4 + 3.0 * ERROR, ERROR), score=Figure(0.4, 0.02, "auc"))
    assert isinstance(job.decided(), RollBack)


def test_a_score_that_collapsed_counts_where_the_loss_is_no_better() -> None:
    job = Job()
    for number in range(12):
        job.round(loss=Figure(0.4, ERROR), score=Figure(0.8 + 0.01 * (-1) ** number, 0.02))
    assert job.recover() is None
    job.round(loss=Figure(0.38, ERROR), score=Figure(0.5, 0.02))
    assert job.decided() is None
    job.rounds[-1] = replace(job.rounds[-1], loss=Figure(0.46, ERROR))
    action = job.decided()
    assert isinstance(action, RollBack)
    assert action.evidence["score_errors"] > 4


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_gone_back_from_at_once(value: float) -> None:
    job = running(3)
    job.round(loss=Figure(value, ERROR))
    action = job.recover()
    assert isinstance(action, RollBack)
    assert action.to_round == 3
    json.dumps(job.state.as_json(), allow_nan=False)


def test_a_step_a_hundred_times_too_long_needs_no_evaluation() -> None:
    job = Job()
    for number in range(10):
        job.round(step=1.0 + 0.1 * (number % 3))
        assert job.recover() is None
    job.round(step=100.0)
    action = job.recover()
    assert isinstance(action, RollBack)
    assert action.to_round == 10
    assert action.evidence["step"] == 100.0


@pytest.mark.parametrize(
    ("loss", "back"), [(0.3, False), (0.4, False), (0.9, True), (math.nan, True), (None, True)]
)
def test_a_long_step_is_no_harm_where_the_model_after_it_is_known_to_be_no_worse(
    loss: float | None, back: bool
) -> None:
    """As of a probe, which raises a rate that was far too low and says what came of it at once."""
    job = Job()
    for _ in range(5):
        job.round(loss=Figure(0.4, ERROR), step=1.0)
    job.round(loss=None if loss is None else Figure(loss, ERROR), step=8.0)
    assert isinstance(job.recover(), RollBack) is back


def test_a_gradient_that_grows_beyond_its_noise_leads_back_to_where_it_was_small() -> None:
    job = Job()
    for number in range(10):
        job.round(slope=slope_of(31.0 + (-1) ** number, 1.0, 31))
        assert job.recover() is None
    for square in (40.0, 200.0):
        job.round(slope=slope_of(square, 1.0, 31))
    action = job.recover()
    assert isinstance(action, RollBack)
    # The gradient of a round is that of the model before it.
    assert action.to_round == 10
    assert action.evidence["slope_errors"] > 3


def test_a_gradient_that_grew_for_three_rounds_leads_back_to_the_round_before_them() -> None:
    job = Job()
    for number in range(10):
        job.round(slope=slope_of(31.0 + (-1) ** number, 1.0, 31))
        assert job.recover() is None
    # The first ones are larger than usual, though not beyond all noise.
    for square in (52.0, 70.0):
        job.round(slope=slope_of(square, 1.0, 31))
        assert job.recover() is None
    job.round(slope=slope_of(200.0, 1.0, 31))
    action = job.recover()
    assert isinstance(action, RollBack)
    # The gradient of round 11 is that of round 10's model, which was led astray already.
    assert action.to_round == 9


def test_a_gradient_that_is_large_from_the_beginning_is_no_fault() -> None:
    job = Job()
    for square in (500.0, 300.0, 180.0, 60.0, 75.0, 90.0, 50.0, 40.0, 35.0, 33.0):
        job.round(slope=slope_of(square, 1.0, 31))
        assert job.recover() is None


def test_without_noise_a_curve_that_wobbles_is_left_alone_and_a_divergence_is_not() -> None:
    job = Job()
    for number in range(20):
        job.round(loss=Figure(0.3 + 0.4 * 0.8**number + 0.004 * (-1) ** number))
        assert job.recover() is None
    job.round(loss=Figure(0.6))
    assert isinstance(job.recover(), RollBack)


def test_an_attempt_that_came_to_nothing_cuts_the_rate_and_undoes_no_round() -> None:
    job = running()
    job.fails()
    action = job.recover()
    assert isinstance(action, CutRate)
    assert (action.rate_before, action.rate, job.rounds[-1].round) == (1.0, 0.3, 12)
    job.fails("other")
    assert job.recover() is None


def test_whoever_dropped_a_step_and_cut_the_rate_is_not_cut_again() -> None:
    job = running()
    job.fails("dropped")
    job.rate = 0.25
    assert job.recover() is None
    assert job.rate == 0.25
    assert len(job.state.setbacks) == 1


def test_what_was_cut_is_given_back_slowly_while_it_goes_well() -> None:
    job, rng = running(), np.random.default_rng(5)
    job.fails()
    job.recover()
    rates = [job.rate]
    for _ in range(20):
        job.round(loss=Figure(0.4 + ERROR * rng.normal(), ERROR))
        job.recover()
        rates.append(job.rate)
    assert rates[0] == 0.3
    assert rates[-1] == 1.0
    assert rates == sorted(rates)
    assert max(after / before for before, after in pairwise(rates)) < 2.0
    assert all(isinstance(it, GiveBack) for it in job.done[1:])


def test_a_rate_that_is_too_high_is_not_given_back_to_where_it_failed() -> None:
    """Above 0.5 everything diverges: recovery ends below it, and the job goes on."""
    job, rng = running(), np.random.default_rng(6)
    job.rate = 1.0
    for _ in range(60):
        job.round(loss=Figure((0.9 if job.rate > 0.5 else 0.4) + ERROR * rng.normal(), ERROR))
        job.recover()
    assert job.status == "running"
    late = [it for it in job.rounds[-15:] if it.rate is not None]
    assert all(it.rate <= 0.55 for it in late if it.rate)


def test_a_rate_that_somebody_raised_is_set_below_that_of_the_good_round() -> None:
    job = running()
    job.rate = 100.0
    job.round(loss=Figure(5.0, ERROR))
    action = job.recover()
    assert isinstance(action, RollBack)
    assert action.rate == 0.3


def test_a_rate_that_somebody_moved_after_a_cut_is_theirs() -> None:
    job = running()
    job.fails()
    job.recover()
    job.rate = 0.7
    for _ in range(10):
        job.round(loss=Figure(0.4, ERROR))
        job.recover()
    assert job.rate == 0.7


def test_a_pinned_rate_is_left_alone() -> None:
    job = running()
    job.round(loss=Figure(0.9, ERROR))
    state, action = decide(job.state, replace(job.seen(), rate=None))
    assert isinstance(action, RollBack)
    assert action.rate is None
    assert next_step(action, replace(job.seen(), rate=None, status="paused")) == "roll back"
    assert state.normal is None


def test_without_a_kept_good_round_a_person_is_asked() -> None:
    job = running()
    job.round(loss=Figure(0.9, ERROR))
    _, action = decide(job.state, replace(job.seen(), kept=(13,)))
    assert isinstance(action, Pause)
    assert "kept" in action.sentence


def test_a_server_that_refuses_leads_to_a_pause_with_its_words() -> None:
    job = running()
    job.round(loss=Figure(0.9, ERROR))
    action = job.decided()
    assert action is not None
    job.state = through_json(refused(job.state, action.key, "round 12 is not kept"))
    pause = job.decided()
    assert isinstance(pause, Pause)
    assert "round 12 is not kept" in pause.sentence
    assert next_step(pause, job.seen()) == "pause"


def test_nothing_is_decided_on_while_the_job_is_paused() -> None:
    job = running()
    job.round(loss=Figure(0.9, ERROR))
    job.status = "paused"
    assert job.decided() is None
    job.status = "running"
    assert isinstance(job.decided(), RollBack)


def test_a_late_figure_of_an_old_round_undoes_nothing() -> None:
    job = running(20)
    job.rounds[8] = replace(job.rounds[8], loss=Figure(3.0, ERROR))
    job.rounds[9] = replace(job.rounds[9], loss=Figure(math.nan, ERROR))
    assert job.decided() is None


def test_figures_of_any_label_are_found() -> None:
    one = Figure(1.0)
    assert figures_of({"auc": one, "log_loss": one}) == (one, one)
    assert figures_of({"mae": one, "rmse": one}) == (one, None)
    assert figures_of({}) == (None, None)


def steps(action: Action, seen: Sequence[Seen]) -> list[str]:
    return [next_step(action, it) for it in seen]


def test_going_back_is_done_in_an_order_that_survives_a_kill_at_every_step() -> None:
    job = running()
    job.round(loss=Figure(0.9, ERROR))
    action = job.decided()
    assert isinstance(action, RollBack)
    before = job.seen()
    back = replace(before, rounds=before.rounds[:-1], rate=0.3, status="paused")
    seen = [
        before,
        replace(before, status="paused"),
        replace(before, status="paused", rate=0.3),
        back,
        replace(back, status="running"),
        # Somebody moved the rate when all was done: that is not undone.
        replace(back, status="running", rate=0.9),
    ]
    assert steps(action, seen) == ["pause", "set rate", "roll back", "resume", "done", "done"]
    # A job that a person stopped, or that is finished, stays as it is.
    assert steps(action, [replace(before, status=it) for it in ("stopped", "finished")]) == ["done", "done"]
