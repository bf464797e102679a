"""Laws of recovery, whatever happens to a job: no action inside the noise, none twice, a bound, no memory but JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recovered_job import Job, through_json

from hansa.sidecar.recovery import (
    ERRORS,
    RULE,
    Action,
    Figure,
    Pause,
    RecoveryState,
    RollBack,
    RoundFact,
    acted,
    decide,
    next_step,
)

# What a round brings: a loss in standard errors above 0.4, or none; what else goes wrong.
losses = st.one_of(
    st.none(),
    st.floats(-3.0, 3.0),
    st.floats(-3.0, 40.0),
    st.just(float("nan")),
)
events = st.lists(
    st.tuples(losses, st.sampled_from(["", "", "", "not-finite", "dropped", "other"])), max_size=50
)


def happens(job: Job, loss: float | None, failure: str) -> None:
    if failure:
        job.fails(failure)
    else:
        job.round(loss=None if loss is None else Figure(0.4 + 0.03 * loss, 0.03))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=40))
def test_flat_losses_within_their_errors_lead_to_no_action(noise: list[float]) -> None:
    job = Job(rounds=[RoundFact(0, 0, Figure(0.4, 0.03), rate=1.0)])
    for part in noise:
        # Any two of them are within two standard errors of one.
        job.round(loss=Figure(0.4 + 0.03 * part, 0.03), score=Figure(0.8 + 0.03 * part, 0.03))
        assert job.recover() is None


@settings(max_examples=100, deadline=None)
@given(events)
def test_whoever_goes_back_for_a_loss_has_more_than_three_errors_of_evidence(course: list) -> None:
    job = Job()
    for loss, failure in course:
        happens(job, loss, failure)
        action = job.recover()
        if isinstance(action, RollBack) and "loss_errors" in action.evidence:
            assert action.evidence["loss_errors"] >= ERRORS
        if isinstance(action, Pause):
            break


@settings(max_examples=60, deadline=None)
@given(events)
def test_a_state_that_went_through_json_decides_as_the_one_that_did_not(course: list) -> None:
    one, other = Job(), Job()
    for loss, failure in course:
        for job in (one, other):
            happens(job, loss, failure)
        action = one.recover()
        # The other's sidecar is killed after each step, and once more before it has saved anything.
        decide(other.state, other.seen())
        state, same = decide(other.state, other.seen())
        assert same == action
        other.state = through_json(state)
        while same is not None and (step := next_step(same, other.seen())) != "done":
            other.do(step, same)
            other.state, again = decide(through_json(other.state), other.seen())
            assert again is None or again.key == same.key or next_step(same, other.seen()) == "done"
            same = again if again is not None and again.key == same.key else None
        other.state = through_json(acted(other.state, action.key)) if action else other.state
        # By attempts: a loss that is no number is not even equal to itself.
        mine, its = ([it.attempt for it in job.rounds] for job in (one, other))
        assert (other.rate, other.status, its) == (one.rate, one.status, mine)
        if one.status == "paused":
            break


@settings(max_examples=60, deadline=None)
@given(events, st.integers(1, 4))
def test_hearing_the_same_again_changes_nothing(course: list, times: int) -> None:
    job = Job()
    for loss, failure in course:
        happens(job, loss, failure)
        job.recover()
        state, action = decide(job.state, job.seen())
        # A repeated reading, and one in another order.
        turned = replace(
            job.seen(), rounds=tuple(reversed(job.rounds)), failures=(*job.failures[::-1], *job.failures)
        )
        for _ in range(times):
            assert decide(state, turned) == (state, action)
        if job.status == "paused":
            break
        assert action is None


@settings(max_examples=60, deadline=None)
@given(events)
def test_no_key_comes_twice_and_rates_stay_between_the_least_and_the_normal_one(course: list) -> None:
    job = Job()
    for loss, failure in course:
        happens(job, loss, failure)
        job.recover()
        assert 1e-4 <= job.rate <= 1.0
        if job.status == "paused":
            job.status = "running"
    keys = [it.key for it in job.done]
    assert len(set(keys)) == len(keys)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(10.0, 60.0), min_size=20, max_size=40), st.booleans())
def test_a_job_that_always_diverges_is_gone_back_with_so_often_and_then_paused(
    high: list[float], fails: bool
) -> None:
    job = Job()
    for number in range(10):
        job.round(loss=Figure(0.4 + 0.01 * (-1) ** number, 0.03))
        job.recover()
    setbacks = 0
    for part in high:
        happens(job, part, "not-finite" if fails else "")
        action: Action | None = job.recover()
        setbacks += action is not None and not isinstance(action, Pause)
        if isinstance(action, Pause):
            break
    assert job.status == "paused"
    assert setbacks <= RULE.most


@settings(max_examples=40, deadline=None)
@given(events)
def test_attempts_only_rise_and_a_round_that_was_good_is_never_undone_for_a_later_one(course: list) -> None:
    job = Job()
    for loss, failure in course:
        happens(job, loss, failure)
        before = list(job.rounds)
        action = job.recover()
        if isinstance(action, RollBack):
            assert action.to_round < before[-1].round
            assert job.rounds == [it for it in before if it.round <= action.to_round]
        if job.status == "paused":
            break


def test_a_state_of_another_version_is_refused() -> None:
    state = RecoveryState().as_json()
    assert RecoveryState.from_json(json.loads(json.dumps(state))) == RecoveryState()
    state["version"] = 2
    with pytest.raises(ValueError, match="version 2"):
        RecoveryState.from_json(state)
