"""Jobs that go back to an earlier round: they end as if the rounds after it had never happened."""

from __future__ import annotations

import pytest
from blind_jobs import BlindJob, gone
from funded import funded
from masked_jobs import MaskedJob, Node, attempt_of, clear_weights

from hansa.contract.charter import PrivacyPlan
from hansa.contract.messages import Request
from hansa.contract.scenario import FirstGrant
from hansa.strategies import blind_keys, custody, roster

ROUNDS = 8


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "PATIENCE_S", 0.2)
    monkeypatch.setattr(blind_keys, "AGAIN_S", 0.0)
    monkeypatch.setattr(roster, "HELLO_AGAIN_S", 0.0)


def pause_after(job: MaskedJob, rounds: int) -> None:
    """Run a job up to the end of a round."""

    def fault(body: Request, honest: Node, payload: bytes) -> bytes:
        if attempt_of(body) == rounds:
            job.job.wanted = "pause"
        return honest(payload)

    job.faults["a"] = fault
    job.run()
    assert (job.job.status, job.job.round) == ("paused", rounds)
    job.faults.clear()
    job.job.wanted = "run"


def assert_undone(job: MaskedJob, to: int, rounds: int = 6) -> None:
    """The attempts of the undone rounds stay, and those of the new ones have higher numbers."""
    undone = [it for it in job.job.results if it.status == "undone"]
    assert [it.round for it in undone] == list(range(to + 1, rounds + 1))
    applied = [it for it in job.job.results if it.status == "applied"]
    assert [it.round for it in applied] == list(range(1, ROUNDS + 1))
    assert [it.attempt for it in applied] == [*range(1, to + 1), *range(rounds + 1, rounds + 1 + ROUNDS - to)]
    assert [it.base for it in applied] == list(range(ROUNDS))
    assert not [it for it in job.job.results if it.status == "failed"]


def test_a_masked_job_ends_as_if_the_undone_rounds_had_never_happened() -> None:
    job = MaskedJob(4, ROUNDS)
    pause_after(job, 6)
    to = job.job.best
    assert to is not None
    assert to < 6
    job.job.roll_back(reason="it diverged")
    job.run()
    assert job.job.status == "finished", job.job.reason
    assert_undone(job, to)
    assert job.job.state is not None
    assert job.job.state["weights"].tobytes() == clear_weights(4, ROUNDS)


def test_undone_rounds_stay_paid() -> None:
    simulated = funded(
        4,
        rows=400,
        mode="masked",
        grant=FirstGrant(epsilon=100.0, delta=1e-3),
        privacy=PrivacyPlan(noise="local", fewest_rounds=1, delta=1e-3),
    )
    job = MaskedJob(simulated=simulated, rounds=ROUNDS)
    pause_after(job, 6)
    paid = {name: [it.attempt for it in seen] for name, seen in job.job.receipts.items()}
    job.job.roll_back(5, reason="it diverged")
    job.run()
    assert job.job.status == "finished", job.job.reason
    for name, seen in job.job.receipts.items():
        now = [it.attempt for it in seen]
        assert now[: len(paid[name])] == paid[name] == list(range(1, 7))
        assert len(now) == len(job.job.results)


def test_members_that_hold_the_model_are_given_that_of_the_earlier_round() -> None:
    job = BlindJob(4, ROUNDS)
    pause_after(job, 6)
    assert {job.held(name).round for name in job.agents} == {6}
    job.job.roll_back(5, reason="it diverged")
    job.run()
    assert {(name, "holds the model of round 5") for name in job.agents} <= set(job.events("reloaded"))
    assert_undone(job, 5)
    job.assert_alike()


def test_the_best_evaluated_round_is_gone_back_to_however_long_ago_it_was() -> None:
    job = BlindJob(4, ROUNDS)
    pause_after(job, 3)
    job.job.figures[2] = {"log_loss": -1.0}
    pause_after(job, 6)
    # No member holds it any more; the server keeps it, sealed.
    assert job.job.best == 2
    job.job.roll_back(reason="it diverged")
    job.run()
    assert_undone(job, 2)
    job.assert_alike()


def test_a_member_that_was_away_for_the_way_back_gives_up_the_undone_state() -> None:
    job = BlindJob(5, ROUNDS)
    pause_after(job, 6)
    job.job.roll_back(5, reason="it diverged")
    job.faults["b"] = gone(lambda _: job.job.round < 7)
    job.run()
    applied = [it for it in job.job.results if it.status == "applied"]
    assert ["b" in it.active for it in applied] == [*[True] * 5, False, False, True]
    assert job.events("reloaded").count(("b", "holds the model of round 7")) == 1
    job.assert_alike()


def test_whoever_kept_its_state_in_an_undone_round_is_not_taken_for_up_to_date() -> None:
    """The round that it holds has the number of the new one, and is another."""
    job = BlindJob(5, ROUNDS)
    pause_after(job, 6)
    job.job.roll_back(5, reason="it diverged")
    job.faults["b"] = gone(lambda _: job.job.round < 6)
    job.faults["c"] = gone(lambda body: attempt_of(body) == 7)
    job.run()
    assert ("b", "holds the model of round 6") in job.events("reloaded")
    job.assert_alike()
