"""Proofs that attempts finished, at the server: what control signs, and what the store keeps of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from federation import HASH, JOB, make_federation, make_order, make_plan

from hansa.cli.simulation import SimulatedFederation
from hansa.contract.charter import PrivacyPlan
from hansa.contract.keys import to_text
from hansa.contract.messages import Finish, TrainRequest
from hansa.contract.statements import finish_statement
from hansa.secagg.parties import Parties
from hansa.server.control.orders import Facts, _check_finished
from hansa.server.control.problems import Conflict
from hansa.server.records import JobRecord
from hansa.server.store import Store, open_store
from hansa.strategies.ports import KEPT_FINISHES

ORDER = "1" * 64


@pytest.fixture
def noised() -> SimulatedFederation:
    return make_federation(mode="masked", privacy=PrivacyPlan(noise="local"))


def proof(federation: SimulatedFederation, attempt: int = 1, job: str = JOB, members: str = "abc") -> Finish:
    statement = finish_statement(job, attempt, ORDER)
    signatures = {name: to_text(federation.identities[name].sign(statement)) for name in members}
    return Finish(attempt=attempt, order=ORDER, signatures=signatures)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.close()


def checked(store: Store, federation: SimulatedFederation, *finished: Finish) -> None:
    job = store.jobs.find(JOB)
    assert isinstance(job, JobRecord)
    body = TrainRequest(order=make_order(federation, 3), finished=finished)
    _check_finished(body, Facts(federation.charter, federation.hash, job, None))


def test_control_signs_no_proof_that_t_members_did_not_sign(
    store: Store, noised: SimulatedFederation
) -> None:
    store.jobs.submit(make_plan(), HASH, {})
    checked(store, noised, proof(noised), proof(noised, 2))
    lies = {
        "2 members signed": proof(noised, members="ab"),
        "0 members signed": proof(noised, job="f" * 32),
        "did not finish before": proof(noised, 3),
        "1 members signed": proof(noised).model_copy(
            update={"signatures": dict.fromkeys("abc", proof(noised).signatures["a"])}
        ),
    }
    for sentence, lie in lies.items():
        with pytest.raises(Conflict, match=sentence):
            checked(store, noised, proof(noised), lie)
    with pytest.raises(Conflict, match="nothing is charged"):
        checked(store, make_federation(mode="masked"), proof(noised))


def test_the_newest_proofs_of_a_job_last_over_its_runs(store: Store, noised: SimulatedFederation) -> None:
    store.jobs.submit(make_plan(), HASH, {})
    journal = store.claim(JOB, "run 1")
    for number in range(1, KEPT_FINISHES + 4):
        opened = journal.open_attempt("train", base=0, cohort=("a", "b", "c"), left_out={}, knobs={})
        assert opened == number
        journal.keep_finish(proof(noised, number))
        journal.keep_finish(proof(noised, number))
    kept = store.claim(JOB, "run 2").finishes()
    assert [it.attempt for it in kept] == list(range(4, KEPT_FINISHES + 4))
    assert kept[0] == proof(noised, 4)
    assert Parties.of(noised.charter, noised.hash).threshold == 3
