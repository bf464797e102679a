"""An operator that drains a budget by attempts that never finish, and one that forges the proof that they did."""

from __future__ import annotations

from pathlib import Path

import pytest
from masked_side import Attempt
from noised_side import NoisedServer, on_disk

from hansa.contract.keys import to_text
from hansa.contract.messages import Finish, RefusalReply
from hansa.contract.statements import finish_statement
from hansa.privacy.records import FinishRow

OTHER_JOB = "cd" * 16


@pytest.fixture
def server(tmp_path: Path) -> NoisedServer:
    return NoisedServer(on_disk(tmp_path), rounds=30, jobs=("ab" * 16, OTHER_JOB))


def said(server: NoisedServer, attempt: Attempt, name: str = "a") -> str:
    body = server.send(name, attempt.request).body
    return body.code if isinstance(body, RefusalReply) else body.type


def finished(server: NoisedServer, name: str = "a") -> list[tuple[str, int]]:
    """What a member's own ledger says has finished."""
    budget = server.agents[name].budget
    assert budget is not None
    return [(it.body.job, it.body.attempt) for it in budget.ledger.rows() if isinstance(it.body, FinishRow)]


def approve(server: NoisedServer, name: str) -> None:
    agent = server.agents[name]
    plan = agent.attempts.plan(server.jobs[0])
    assert agent.budget is not None
    assert plan is not None
    agent.budget.approve(plan, by="officer")


def test_a_third_attempt_that_never_finished_is_the_last(server: NoisedServer) -> None:
    for number in (1, 2, 3):
        assert said(server, server.start(number)) == "upload"
    spent = server.spent("a")
    for number in range(4, 8):
        server.exchange()
        assert said(server, server.start(number)) == "attempt-limit"
    assert server.spent("a") == spent
    events = server.agents["a"].attempts.events()
    assert any(kind == "attempt-limit" and "hansa jobs approve" in it for _, _, kind, it in events)
    # Over a restart too, and for this job alone.
    server.stop("a")
    server.start_agent("a")
    server.exchange("a")
    assert said(server, server.start(8)) == "attempt-limit"
    assert said(server, server.start(1, job=OTHER_JOB)) == "upload"
    approve(server, "a")
    server.exchange()
    assert said(server, server.start(9)) == "upload"


def test_attempts_that_finished_go_on_without_end_and_every_fifth_forgives_one(server: NoisedServer) -> None:
    proof: tuple[Finish, ...] = ()
    for number in range(1, 11):
        proof = (server.round(number, *proof),)
    assert [number for _, number in finished(server)] == list(range(1, 10))
    # Ten finished: 3 + 2 may lie open.
    for number in range(11, 16):
        assert said(server, server.with_proofs(server.start(number), *proof)) == "upload"
        if len(server.stock["b"]) < 2:
            server.exchange()
    assert said(server, server.with_proofs(server.start(16), *proof)) == "attempt-limit"


def test_the_same_proof_shown_again_counts_once(server: NoisedServer) -> None:
    proof = server.round(1)
    server.round(2, proof, proof)
    server.round(3, proof)
    assert finished(server) == [(server.jobs[0], 1)]


def forgeries(server: NoisedServer, honest: Finish) -> dict[str, Finish]:
    """Proofs of attempt 1 that are none."""

    def signed(by: str, job: str, attempt: int, order: str) -> str:
        return to_text(server.federation.identities[by].sign(finish_statement(job, attempt, order)))

    job, order = server.jobs[0], honest.order
    names = list(honest.signatures)
    few = {name: honest.signatures[name] for name in names[:-1]}

    def others(job: str, attempt: int, order: str) -> Finish:
        return honest.model_copy(update={"signatures": {it: signed(it, job, attempt, order) for it in names}})

    return {
        "too few": honest.model_copy(update={"signatures": few}),
        "one signature under three names": honest.model_copy(
            update={"signatures": dict.fromkeys(names, honest.signatures[names[0]])}
        ),
        "a stranger among them": honest.model_copy(
            update={"signatures": {**few, "mallory": signed("a", job, 1, order)}}
        ),
        "of another job": others(OTHER_JOB, 1, order),
        "of another attempt": others(job, 2, order),
        "of another order": others(job, 1, "f" * 64),
        "another order, signed": others(job, 1, "f" * 64).model_copy(update={"order": "f" * 64}),
        "none": honest.model_copy(update={"signatures": {}}),
    }


def test_forged_proofs_are_refused_and_cost_nothing(server: NoisedServer) -> None:
    honest = server.round(1)
    spent = server.spent("a")
    for what, forged in forgeries(server, honest).items():
        attempt = server.start(2)
        assert said(server, server.with_proofs(attempt, forged)) == "replayed", what
        # A good one beside it does not count either.
        assert said(server, server.with_proofs(attempt, honest, forged)) == "replayed", what
        assert finished(server) == [], what
        assert server.spent("a") == spent
        if len(server.stock["a"]) < 2:
            server.exchange()
    assert said(server, server.with_proofs(server.start(2), honest)) == "upload"
    assert finished(server) == [(server.jobs[0], 1)]


def test_a_proof_of_another_job_does_not_count_in_this_one(server: NoisedServer) -> None:
    first = server.start(1)
    assert said(server, first) == "upload"
    theirs = server.round(1, job=OTHER_JOB)
    assert said(server, server.with_proofs(server.start(2), theirs)) == "replayed"
    assert finished(server) == []


def test_of_attempts_that_a_member_was_not_asked_in_it_enters_nothing(server: NoisedServer) -> None:
    attempt = server.train(server.start(1, cohort=("b", "c", "d"), left_out={"a": "held out"}))
    proof = server.finished(attempt)
    assert said(server, server.with_proofs(server.start(2), proof)) == "upload"
    assert finished(server) == []
    far = proof.model_copy(update={"attempt": 999})
    assert said(server, server.with_proofs(server.start(3), far)) == "upload"


def test_nobody_signs_that_an_attempt_finished_without_having_answered_its_unmasking(
    server: NoisedServer,
) -> None:
    attempt = server.train(server.start(1), ("a", "b", "c"))
    active = ("a", "b", "c")
    bad = attempt.unmask(active)
    answer = server.ask("a", bad).body
    assert isinstance(answer, RefusalReply)
    assert answer.code == "active-set-not-agreed"
