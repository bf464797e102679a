"""Jobs in mode `he`: members hold the model and apply sums that the server cannot read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from blind_jobs import BlindJob, gone, says
from federation import JOB
from funded import funded
from masked_jobs import MaskedJob, vanish

from hansa.contract.blind_messages import SEALED_STATE, ApplyRequest
from hansa.contract.charter import PrivacyPlan
from hansa.contract.messages import ApplyReply, Reply
from hansa.contract.scenario import FirstGrant
from hansa.contract.wire import Segments
from hansa.strategies import blind_keys, custody
from hansa.strategies.attempt import Attempt
from hansa.strategies.blind_exchange import Answer
from hansa.strategies.blind_state import BlindState

RICH = {
    "grant": FirstGrant(epsilon=100.0, delta=1e-3),
    "privacy": PrivacyPlan(noise="local", fewest_rounds=1, delta=1e-3),
}


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "PATIENCE_S", 0.2)
    monkeypatch.setattr(blind_keys, "AGAIN_S", 0.0)


@pytest.mark.parametrize("members", [2, 3, 5])
def test_a_blind_job_ends_in_the_bits_of_a_clear_one(members: int) -> None:
    job = BlindJob(members, 3)
    job.run()
    job.assert_alike()


@pytest.mark.parametrize(
    ("kind", "answered"),
    [("attempt", False), ("attempt", True), ("agree", False), ("unmask", False), ("unmask", True)],
)
def test_a_member_may_vanish_at_any_step(kind: str, answered: bool) -> None:
    job = BlindJob()
    job.faults["b"] = vanish(kind, 1, answered=answered)
    job.run()
    assert ("b" in job.job.results[0].active) == (kind != "attempt")
    job.assert_alike()


@pytest.mark.parametrize("answered", [False, True])
def test_a_member_that_vanishes_when_it_is_to_apply_is_given_the_state(answered: bool) -> None:
    job = BlindJob(rounds=3)
    job.faults["a"] = gone(lambda body: body.type == "apply" and body.order.base == 1, answered=answered)
    job.run()
    assert [it.status for it in job.job.results[:3]] == ["applied"] * 3
    job.assert_alike()


def test_all_but_t_gone_the_job_goes_on() -> None:
    job = BlindJob(6, 3)
    assert job.simulated.charter.threshold == 4
    for name in "bf":
        job.faults[name] = gone(lambda _: job.job.round > 0)
    job.run()
    assert [(it.status, len(it.active)) for it in job.job.results[:3]] == [
        ("applied", 6),
        ("applied", 4),
        ("applied", 4),
    ]
    job.assert_alike("acde")


def test_the_released_figures_are_those_of_the_masked_job() -> None:
    job, masked = BlindJob(3, 3), MaskedJob(3, 3)
    for it in (job, masked):
        it.run()
    assert [(it.kind, it.metrics) for it in job.job.results] == [
        (it.kind, it.metrics) for it in masked.job.results
    ]
    assert job.job.results[-1].kind == "evaluate"
    assert job.job.results[-1].metrics


def test_a_contract_check_comes_first_and_every_member_starts_from_what_it_found() -> None:
    job = BlindJob(rounds=2, simulated=funded(4, rows=1500, mode="he", **RICH), plan={"check": True})  # type: ignore[arg-type]
    job.run()
    assert job.job.status == "finished", job.job.reason
    assert [it.kind for it in job.job.results] == ["statistics", "train", "train", "evaluate"]
    assert len({job.held(name).tag for name in job.agents}) == 1
    assert job.model("c").prepared
    assert job.job.state is not None
    assert BlindState.from_arrays(job.job.state).prepared


def spent(job: MaskedJob) -> list[tuple[float, float]]:
    """What each member's ledger says was taken of its grant."""
    found = []
    for agent in job.agents.values():
        assert agent.budget is not None
        with agent.budget.ledger.held() as book:
            sums = book.grants["first"].sums
            found.append((sums.training, sums.holdout))
    return found


def test_charges_are_those_of_the_masked_job() -> None:
    jobs = []
    for mode in ("he", "masked"):
        simulated = funded(4, rows=400, mode=mode, **RICH)  # type: ignore[arg-type]
        jobs.append(MaskedJob(simulated=simulated, rounds=2))
        jobs[-1].run()
        assert jobs[-1].job.status == "finished"
    assert spent(jobs[0]) == spent(jobs[1])
    assert min(spent(jobs[0]))[0] > 0


def test_the_server_keeps_nothing_of_the_model() -> None:
    job = BlindJob(3, 2)
    strategy = job.run()
    assert isinstance(strategy.state, BlindState)
    kept = b"".join(array.tobytes() for array in strategy.state.arrays().values())
    for state in (job.model("a"),):
        assert state.weights.tobytes() not in kept
    assert not len(strategy.array_record())


def test_a_stored_state_holds_the_copies_of_one_round() -> None:
    job = BlindJob(4, 3)
    job.run()
    assert job.job.state is not None
    assert set(job.job.state) == {"round", "sealed-tag", "sealed-0", "sealed-1"}
    state = BlindState.from_arrays(job.job.state)
    # As it was stored when the copies of the round before lay beside it.
    older = {
        **job.job.state,
        "before-tag": job.job.state["sealed-tag"],
        "before-0": job.job.state["sealed-0"],
    }
    found = BlindState.from_arrays(older)
    assert (found.round, found.tag, len(found.sealed)) == (3, state.tag, 2)
    assert all(mine is its for mine, its in zip(found.sealed, state.sealed, strict=True))


# --- what members hold ---------------------------------------------------------------------------


def other_tag(body: Reply, segments: Segments) -> tuple[Reply, Segments]:
    assert isinstance(body, ApplyReply)
    return body.model_copy(update={"tag": "0" * 64}), segments


def unsealed(body: Reply, segments: Segments) -> tuple[Reply, Segments]:
    return body, {}


def damaged(body: Reply, segments: Segments) -> tuple[Reply, Segments]:
    if SEALED_STATE in segments:
        return body, {SEALED_STATE: np.zeros_like(segments[SEALED_STATE])}
    return body, segments


def test_of_two_sealed_copies_the_second_helps_where_the_first_is_damaged() -> None:
    job = BlindJob(rounds=3)
    job.faults["a"] = says(job, "a", "apply", damaged)
    job.faults["d"] = gone(lambda body: body.type == "apply" and body.order.base == 0)
    job.run()
    assert ("d", "holds the model of round 1") in job.events("reloaded")
    assert [it.status for it in job.job.results[:3]] == ["applied"] * 3
    job.assert_alike()


def test_where_nobody_sealed_the_state_another_is_asked_for_it() -> None:
    job = BlindJob(rounds=2)
    for name in "ab":
        job.faults[name] = says(job, name, "apply", unsealed)
    job.faults["d"] = gone(
        lambda body: body.type == "apply" and body.order.base == 0 and body.sealing != ("d",)
    )
    job.run()
    assert [it.status for it in job.job.results[:2]] == ["applied"] * 2
    job.assert_alike()


def test_holders_that_stay_silent_are_waited_for_no_longer_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    job = BlindJob(rounds=1)
    job.run()
    request = next(body for _, body in job.asked if isinstance(body, ApplyRequest))
    strategy, grid = job.strategy(), job.grid()
    strategy.connect(grid)
    kept = strategy.roster.custody
    assert kept is not None
    waits: list[float] = []

    def silent(*_: object, deadline_s: float, **__: object) -> Iterator[Answer]:
        waits.append(deadline_s)
        return iter(())

    monkeypatch.setattr(kept, "_monotonic", lambda: sum(waits))
    monkeypatch.setattr(kept._exchange, "ask", silent)
    holders = {name: number for number, name in enumerate(job.agents, start=1)}
    assert kept._seal_again(holders, job.held("a").tag, request, {}) == []
    assert waits == [30.0, 15.0, 7.5, 7.5]
    grid.close()


def test_a_member_with_another_model_is_given_that_of_the_others() -> None:
    job = BlindJob(rounds=3)
    said: list[bool] = []

    def once(body: Reply, segments: Segments) -> tuple[Reply, Segments]:
        said.append(True)
        return other_tag(body, segments) if len(said) == 1 else (body, segments)

    job.faults["a"] = says(job, "a", "apply", once)
    job.run()
    assert [member for member, _ in job.events("other-model")] == ["a"]
    assert ("a", "holds the model of round 1") in job.events("reloaded")
    assert all(len(it.active) == 4 for it in job.job.results)
    job.assert_alike()


def test_one_member_that_always_says_another_tag_stops_nothing() -> None:
    job = BlindJob(rounds=3)
    job.faults["a"] = says(job, "a", "apply", other_tag)
    job.run()
    assert [it.status for it in job.job.results[:3]] == ["applied"] * 3
    job.assert_alike("bcd")


def test_one_other_tag_and_a_silent_member_cost_an_attempt_and_no_job() -> None:
    job = BlindJob(rounds=2)
    job.faults["a"] = says(job, "a", "apply", other_tag)
    job.faults["d"] = gone(lambda body: body.type == "apply" and body.order.attempt == 1)
    job.run()
    assert [it.status for it in job.job.results[:3]] == ["failed", "applied", "applied"]
    assert "2 members hold the same new model, the charter needs 3" in job.job.results[0].reason
    job.assert_alike("bcd")


def test_the_job_pauses_where_more_models_differ_than_members_may_be_faulty() -> None:
    job = BlindJob()
    for name in "ab":
        job.faults[name] = says(job, name, "apply", other_tag)
    strategy = job.run()
    assert job.job.status == "paused"
    assert "the members' models differ" in job.job.reason
    assert "2 members hold the same new model, the charter needs 3" in job.job.reason
    assert strategy.state.round == 0


# --- sums ----------------------------------------------------------------------------------------


def test_a_wrong_sum_costs_an_attempt_and_the_third_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    job = BlindJob()
    real = Attempt.encrypted_sum

    def doubled(attempt: Attempt) -> np.ndarray:
        content = real(attempt).copy()
        content[100:120] ^= 1
        return content

    monkeypatch.setattr(Attempt, "encrypted_sum", doubled)
    job.run()
    assert [it.status for it in job.job.results] == ["failed"] * 3
    assert "a, b, c, d say that the sum is not that of its uploads" in job.job.results[0].reason
    assert job.job.status == "paused"
    assert "3 sums were not those of the uploads in them" in job.job.reason
    for agent in job.agents.values():
        assert agent.attempts.state(JOB) == "frozen"
    assert job.job.round == 0
    assert {job.held(name).round for name in job.agents} == {0}


def test_a_sum_damaged_on_its_way_costs_an_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    job = BlindJob()
    real = Attempt.encrypted_sum

    def damaged_once(attempt: Attempt) -> np.ndarray:
        content = real(attempt).copy()
        content[7] ^= attempt.order.attempt == 2
        return content

    monkeypatch.setattr(Attempt, "encrypted_sum", damaged_once)
    job.run()
    assert [it.status for it in job.job.results[:3]] == ["applied", "failed", "applied"]
    job.assert_alike()


def test_one_member_that_calls_every_sum_wrong_stops_nothing() -> None:
    from hansa.contract.messages import RefusalReply

    def wrong(_: Reply, __: Segments) -> tuple[Reply, Segments]:
        return RefusalReply(code="bad-sum", sentence="no"), {}

    job = BlindJob(rounds=4)
    job.faults["a"] = says(job, "a", "apply", wrong)
    job.run()
    assert [it.status for it in job.job.results[:4]] == ["applied"] * 4
    job.assert_alike("bcd")
