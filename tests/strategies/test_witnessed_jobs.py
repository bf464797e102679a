"""Whole jobs with noise: proofs of finished attempts, restored copies and forks, as the strategy meets them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from federation import JOB
from flwr.app import ArrayRecord, ConfigRecord
from masked_jobs import MaskedJob, Node, resealed
from noised_side import on_disk

from hansa.clients.protocol import Agent
from hansa.contract.keys import to_text
from hansa.contract.messages import RefusalReply, ReplyHeader, Request, UnmaskReply, Witness, WitnessReply
from hansa.contract.statements import witness_statement
from hansa.contract.wire import digest, reply_header, seal, unpack
from hansa.privacy.book import Book
from hansa.privacy.records import FinishRow


def job_of(tmp_path: Path, rounds: int, members: int = 4, **options: object) -> MaskedJob:
    charter = {name: options.pop(name) for name in ("mode", "privacy") if name in options}
    return MaskedJob(
        rounds=rounds,
        simulated=on_disk(tmp_path, members, **charter),
        plan={"evaluate_every": 2, **options},
    )


def book_of(agent: Agent) -> Book:
    assert agent.budget is not None
    return Book(agent.budget.ledger.rows())


def finished(agent: Agent) -> list[int]:
    assert agent.budget is not None
    return [it.body.attempt for it in agent.budget.ledger.rows() if isinstance(it.body, FinishRow)]


@pytest.mark.parametrize("mode", ["masked", "clear"])
def test_a_noised_job_of_many_rounds_is_not_stopped_by_the_limit_of_unfinished_attempts(
    tmp_path: Path, mode: str
) -> None:
    job = job_of(tmp_path, 8, mode=mode)
    job.run()
    assert job.job.status == "finished", job.job.reason
    attempts = len(job.job.results)
    assert attempts == 9
    for agent in job.agents.values():
        assert finished(agent) == list(range(1, attempts))
        assert book_of(agent).jobs[JOB].unfinished == 1
    shown = [body.finished for name, body in job.asked if body.type == "attempt" and name == "a"]
    assert [len(it) for it in shown] == [0, *[1] * (attempts - 1)]


def test_a_member_that_signs_no_proof_keeps_nobody_from_one(tmp_path: Path) -> None:
    job = job_of(tmp_path, 6)

    def silent(body: Request, honest: Node, payload: bytes) -> bytes:
        reply = honest(payload)
        answered = reply_header(unpack(reply)).body
        if isinstance(answered, UnmaskReply):
            return resealed(job, "d", reply, answered.model_copy(update={"finished": "A" * 88}))
        return reply

    job.faults["d"] = silent
    job.run()
    assert job.job.status == "finished"
    assert finished(job.agents["a"]) == list(range(1, 7))
    assert ("d", "did not sign that it answered the unmasking") in job.events("bad-reply")
    assert not job.events("not-proved")


def test_a_member_that_missed_orders_is_shown_what_finished_meanwhile(tmp_path: Path) -> None:
    job = job_of(tmp_path, 6)

    def away(body: Request, honest: Node, payload: bytes) -> bytes:
        if body.type == "attempt" and body.order.attempt == 3:
            raise ConnectionError("gone")
        return honest(payload)

    job.faults["d"] = away
    job.run()
    assert job.job.status == "finished"
    # It was never charged for the third.
    assert finished(job.agents["d"]) == [1, 2, 4, 5, 6]
    assert finished(job.agents["a"]) == [1, 2, 3, 4, 5, 6]


def test_a_member_that_is_asked_and_never_uploads_keeps_no_proof_from_the_others(tmp_path: Path) -> None:
    job = job_of(tmp_path, 20)

    def never(body: Request, honest: Node, payload: bytes) -> bytes:
        if body.type != "attempt":
            return honest(payload)
        said = RefusalReply(code="training-failed", sentence="no")
        header = ReplyHeader(charter=job.simulated.hash, sender="d", request=digest(payload), body=said)
        return seal(header, {}, job.simulated.identities["d"])

    job.faults["d"] = never
    job.run()
    assert job.job.status == "finished", job.job.reason
    assert not job.events("attempt-limit")
    attempts = len(job.job.results)
    for name in ("a", "b", "c"):
        assert finished(job.agents[name]) == list(range(1, attempts))
    # What it lacks is shown in the places that are left.
    shown = [body.finished for name, body in job.asked if body.type == "attempt" and name == "d"]
    assert [it.attempt for it in shown[-1]] == list(range(attempts - 8, attempts))


def test_flowers_loop_shows_proofs_and_keeps_receipts(tmp_path: Path) -> None:
    job = job_of(tmp_path, 20)
    strategy, grid, empty = job.strategy(), job.grid(), ArrayRecord()
    for number in range(1, 21):
        messages = list(strategy.configure_train(number, empty, ConfigRecord(), grid))
        arrays, _ = strategy.aggregate_train(number, grid.send_and_receive(messages, timeout=5))
        assert arrays is not None
    grid.close()
    for agent in job.agents.values():
        assert finished(agent) == list(range(1, 20))
    shown = [body.finished for name, body in job.asked if body.type == "attempt" and name == "a"]
    assert [len(it) for it in shown] == [0, *[1] * 19]
    for name in job.agents:
        assert [it.attempt for it in job.job.receipts[name]] == list(range(1, 21))


def test_another_run_shows_what_the_one_before_had_proved(tmp_path: Path) -> None:
    job = job_of(tmp_path, 6)
    for rounds in range(1, 7):
        # Each run dies after a round.
        strategy, grid = job.strategy(), job.grid()
        strategy.connect(grid)
        strategy.train_round()
        grid.close()
        assert strategy.state.round == rounds
    for agent in job.agents.values():
        assert finished(agent) == list(range(1, 6))
    assert sorted(job.job.finishes) == list(range(1, 7))


def restored(job: MaskedJob, name: str, copy: Path) -> None:
    job.agents[name].close()
    root = job.simulated.root / name  # type: ignore[attr-defined]
    shutil.rmtree(root)
    shutil.copytree(copy, root)
    job.restart(name)


def copied(job: MaskedJob, name: str) -> Path:
    job.agents[name].close()
    root: Path = job.simulated.root  # type: ignore[attr-defined]
    shutil.copytree(root / name, root / "copy")
    job.restart(name)
    return root / "copy"


def one_run(job: MaskedJob, rounds: int, gather_s: float = 10.0) -> None:
    """So many rounds in a run of their own."""
    strategy, grid = job.strategy(), job.grid()
    # Nobody who is about to be ready is left out.
    strategy._gather_s = gather_s
    strategy.connect(grid)
    for _ in range(rounds):
        strategy.train_round()
    grid.close()


@pytest.mark.parametrize("mode", ["masked", "clear"])
def test_a_restored_member_is_left_out_until_it_recovered_and_the_others_go_on(
    tmp_path: Path, mode: str
) -> None:
    job = job_of(tmp_path, 8, mode=mode)
    one_run(job, 2)
    copy = copied(job, "d")
    one_run(job, 2)
    spent = book_of(job.agents["d"]).grants["first"].sums.training
    restored(job, "d", copy)
    one_run(job, 2)
    agent = job.agents["d"]
    assert agent.witnesses is not None
    assert "hansa budgets recover" in agent.witnesses.missing
    assert [it.active for it in job.job.results[-2:]] == [("a", "b", "c")] * 2
    assert any(
        it.member == "d" and it.code == "ledger-behind-witness"
        for result in job.job.results
        for it in result.participation
    )
    assert "d" in job.job.results[-1].left_out
    assert book_of(agent).grants["first"].sums.training < spent
    agent.witnesses.recover(by="officer", reason="restored from yesterday")
    one_run(job, 2)
    assert job.job.results[-1].active == ("a", "b", "c", "d")
    assert book_of(agent).grants["first"].sums.training > spent


@pytest.mark.parametrize("mode", ["masked", "clear"])
def test_a_member_whose_ledger_forked_is_left_out_with_the_reason(tmp_path: Path, mode: str) -> None:
    job = job_of(tmp_path, 8, mode=mode)
    one_run(job, 1)
    copy = copied(job, "d")
    one_run(job, 2)
    restored(job, "d", copy)
    witnesses = job.agents["d"].witnesses
    assert witnesses is not None
    # Its agent is not honest.
    witnesses.shown = lambda seen: None  # type: ignore[method-assign]
    job.run()
    assert job.job.status == "finished", job.job.reason
    assert job.job.results[-1].active == ("a", "b", "c")
    assert "fork" in job.job.results[-1].left_out["d"] or "two hashes" in job.job.results[-1].left_out["d"]
    assert job.job.round == 8


def test_one_member_that_cries_fork_does_not_drive_another_out_for_good(tmp_path: Path) -> None:
    job = job_of(tmp_path, 8, members=5)

    def accuses(body: Request, honest: Node, payload: bytes) -> bytes:
        if body.type == "attempt" and "e" in body.order.cohort:
            said = RefusalReply(
                code="ledger-fork", sentence="the ledger of 'e' forked", facts={"member": "e"}
            )
            header = ReplyHeader(charter=job.simulated.hash, sender="d", request=digest(payload), body=said)
            return seal(header, {}, job.simulated.identities["d"])
        return honest(payload)

    job.faults["d"] = accuses
    job.run()
    assert job.job.status == "finished", job.job.reason
    took_part = [it.active for it in job.job.results]
    assert sum("e" in it for it in took_part) >= len(took_part) // 2


@pytest.mark.parametrize("mode", ["masked", "clear"])
def test_a_word_with_a_receipt_that_the_member_did_not_sign_reaches_nobody(tmp_path: Path, mode: str) -> None:
    job = job_of(tmp_path, 4, members=5, mode=mode)
    one_run(job, 1)

    def lies(body: Request, honest: Node, payload: bytes) -> bytes:
        reply = honest(payload)
        answered = reply_header(unpack(reply)).body
        if not isinstance(answered, WitnessReply) or not answered.witnesses:
            return reply
        words = tuple(_forged(job, word) for word in answered.witnesses)
        return resealed(job, "e", reply, answered.model_copy(update={"witnesses": words}))

    job.faults["e"] = lies
    job.agents["a"].close()
    job.restart("a")
    one_run(job, 1, gather_s=2.0)
    assert ("e", "signed what it was not asked to, or prekeys that it does not have") in job.events(
        "bad-reply"
    )
    assert job.job.results[-1].active == ("a", "b", "c", "d")
    witnesses = job.agents["a"].witnesses
    assert witnesses is not None
    assert witnesses.missing == ""


def _forged(job: MaskedJob, word: Witness) -> Witness:
    assert word.seen is not None
    receipt = word.seen.receipt
    assert receipt.head is not None
    further = receipt.model_copy(update={"head": receipt.head.model_copy(update={"sequence": 10**6})})
    changed = word.model_copy(update={"seen": word.seen.model_copy(update={"receipt": further})})
    statement = witness_statement(job.simulated.hash, changed)
    signature = to_text(job.simulated.identities["e"].sign(statement))
    return changed.model_copy(update={"signature": signature})
