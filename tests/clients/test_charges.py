"""What an attempt is charged, when, and what is refused: the agent against a server that wants more (PROTOCOL 8)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from federation import JOB, attempt_request, make_plan, request
from funded import LOCAL, SMALL, budget_of, funded, noised_order, propose, witnessed
from masked_side import Answer, answer_of

from hansa.cli.simulation import SimulatedFederation
from hansa.clients.admin import Administration
from hansa.clients.budget import job_budget
from hansa.clients.grants import GrantOrder
from hansa.clients.ledger import Ledger
from hansa.clients.protocol import Agent
from hansa.contract.charter import Protection
from hansa.contract.frames import Peer
from hansa.contract.keys import from_text, verify
from hansa.contract.messages import HelloReply, HelloRequest, JobRequest, Order, Receipt, UploadReply
from hansa.contract.scenario import FirstGrant
from hansa.contract.segments import EVALUATION, UPDATE
from hansa.contract.statements import receipt_statement
from hansa.privacy.currency import GDP
from hansa.privacy.planning import plan_noise
from hansa.privacy.records import ChargeRow

OTHER = "cd" * 16


@dataclass
class Side:
    """A member's agent, and an operator that asks it."""

    federation: SimulatedFederation = field(default_factory=funded)
    now: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)
    agent: Agent = field(init=False)
    noise: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.agent = self.federation.agent("a", ledger=Ledger(":memory:", now=lambda: self.now))

    def approved(self, **plan: object) -> Side:
        self.noise = propose(self.federation, self.agent, make_plan(**plan))  # type: ignore[arg-type]
        return self

    def ask(self, order: Order) -> Answer:
        return answer_of(self.agent, attempt_request(self.federation, order))

    def train(self, number: int, **fields: object) -> Answer:
        return self.ask(noised_order(self.federation, number, self.noise, **fields))

    def paid(self, number: int, **fields: object) -> Receipt:
        answer = self.train(number, **fields)
        assert isinstance(answer.body, UploadReply), answer.body
        return answer.body.receipt

    @property
    def charges(self) -> list[ChargeRow]:
        with budget_of(self.agent).ledger.held() as book:
            return list(book.charges.values())


# --- what is charged ----------------------------------------------------------------------------


def test_noise_follows_from_grant_share_and_plan_alone() -> None:
    side = Side().approved(rounds=4, share=0.5, evaluate_every=2)
    planned = plan_noise(
        GDP,
        GDP.budget(8.0, 1e-5),
        job_budget(side.federation.charter, make_plan(4, share=0.5, evaluate_every=2)),
    )
    assert planned.check is None
    assert side.noise == {UPDATE: planned.train, EVALUATION: planned.evaluate}


def test_a_receipt_tells_charges_running_sums_and_head_and_is_signed() -> None:
    side = Side().approved()
    spent = Fraction(0)
    for number in (1, 2, 3):
        order = noised_order(side.federation, number, side.noise, evaluate=number == 2)
        answer = side.ask(order)
        assert isinstance(answer.body, UploadReply)
        receipt = answer.body.receipt
        purposes = ["train", "evaluate"] if number == 2 else ["train"]
        assert [it.purpose for it in receipt.charges] == purposes
        assert receipt.charges[0].noise_multiplier == side.noise[UPDATE]
        spent += Fraction(receipt.charges[0].amount)
        [grant] = receipt.grants
        assert Fraction(grant.training) >= spent
        assert grant.training == pytest.approx(float(spent), rel=1e-15)
        assert (grant.holdout > 0) == (number >= 2)
        ledger = budget_of(side.agent).ledger
        assert receipt.head == ledger.head == ledger.rows()[-1].head
        statement = receipt_statement(JOB, number, order.digest, "a", receipt)
        assert verify(side.agent.membership.identity.public, from_text(receipt.signature), statement)
        hello = answer_of(side.agent, request(side.federation, HelloRequest(nonce="n")))
        assert isinstance(hello.body, HelloReply)
        assert hello.body.head == receipt.head


def test_steps_at_home_are_as_many_releases_in_one_charge() -> None:
    side = Side().approved(rounds=3, steps=5)
    receipt = side.paid(1)
    [charged] = receipt.charges
    assert charged.count == 5
    assert charged.amount == pytest.approx(5 / side.noise[UPDATE] ** 2)
    [upload] = side.agent.attempts.uploads()
    assert (upload.segment, upload.releases, upload.noise) == (UPDATE, 5, "local")
    assert upload.multiplier == charged.noise_multiplier


def test_local_noise_is_charged_by_the_members_own_and_distributed_by_the_orders() -> None:
    side = Side().approved()
    more = {name: 1.5 * value for name, value in side.noise.items()}
    answer = side.ask(noised_order(side.federation, 1, more))
    assert isinstance(answer.body, UploadReply)
    assert answer.body.receipt.charges[0].noise_multiplier == side.noise[UPDATE]
    shared = funded(
        5,
        privacy=LOCAL.model_copy(update={"noise": "distributed", "s": 1}),
        protection=Protection(mode="masked"),
    )
    budget = shared.budget("a", Ledger(":memory:"))
    budget.propose(plan := make_plan())
    own = budget.noise(plan.job)
    order = noised_order(shared, 1, {name: 2 * value for name, value in own.items()})
    paid = budget.charge(plan, order)
    assert paid.noise == {UPDATE: 2 * own[UPDATE]}
    assert paid.receipt.charges[0].noise_multiplier == 2 * own[UPDATE]
    assert paid.receipt.charges[0].amount == pytest.approx(0.25 / own[UPDATE] ** 2)


def test_a_contract_check_is_charged_once_more_than_planned_rounds_where_the_plan_has_one() -> None:
    side = Side()
    budget = budget_of(side.agent)
    budget.propose(plan := make_plan(check=True))
    noise = budget.noise(JOB)
    order = noised_order(side.federation, 1, noise, kind="statistics", arrays={})
    [charged] = budget.charge(plan, order).receipt.charges
    assert (charged.purpose, charged.count) == ("check", 1)
    assert charged.amount == pytest.approx(0.1 * 0.3 * GDP.budget(8.0, 1e-5))
    assert Side().approved().train(1, kind="statistics", arrays={}).said == "not-approved"


# --- before anything is computed ----------------------------------------------------------------


def test_a_charge_stands_where_computing_fails_and_there_is_never_a_second() -> None:
    side = Side().approved()
    charged_when_run: list[int] = []

    def fail(*_: object) -> None:
        charged_when_run.append(len(side.charges))
        raise MemoryError

    honest = side.agent._work.run
    object.__setattr__(side.agent._work, "run", fail)
    assert side.train(1).said == "training-failed"
    object.__setattr__(side.agent._work, "run", honest)
    assert charged_when_run == [1]
    assert side.train(1).said == "attempt-lost"
    assert len(side.charges) == 1
    assert side.agent.attempts.uploads() == []
    assert side.train(2).said == "upload"
    assert side.train(2).said == "upload"
    assert len(side.charges) == 2


def test_an_attempt_log_that_forgot_does_not_have_an_attempt_computed_again() -> None:
    side = Side().approved()
    side.paid(1)
    budget = budget_of(side.agent)
    again = side.federation.agent("a", ledger=budget.ledger)
    side.agent = again
    side.approved()
    assert side.train(1).said == "attempt-lost"
    assert len(side.charges) == 1


def test_what_is_refused_for_its_price_uses_nothing_up() -> None:
    side = Side().approved()
    less = {name: 0.99 * value for name, value in side.noise.items()}
    assert side.ask(noised_order(side.federation, 1, less)).said == "noise-below-floor"
    assert side.agent.attempts.newest(JOB) is None
    assert side.charges == []
    assert side.train(1).said == "upload"


def test_a_grid_too_wide_for_this_members_noise_costs_nothing() -> None:
    side = Side().approved()
    wide = dict.fromkeys(side.noise, 1000000.0)
    refused = side.ask(noised_order(side.federation, 1, wide))
    assert refused.said == "noise-below-floor"
    assert "too coarse" in refused.body.sentence  # type: ignore[union-attr]
    assert side.charges == []
    assert side.train(1).said == "upload"


# --- refusals -----------------------------------------------------------------------------------


def test_an_order_without_its_noise_is_refused() -> None:
    side = Side().approved()
    for noise in (
        {},
        {UPDATE: side.noise[UPDATE]},
        {EVALUATION: side.noise[EVALUATION]},
        {**side.noise, EVALUATION: 0.999 * side.noise[EVALUATION]},
    ):
        order = noised_order(side.federation, 1, noise, evaluate=True)
        assert side.ask(order).said == "noise-below-floor"
    assert side.charges == []


def test_fewer_rounds_than_the_charter_allows_are_not_approved() -> None:
    side = Side(funded(privacy=LOCAL.model_copy(update={"fewest_rounds": 5})))
    for rounds, said in ((4, "noise-below-floor"), (5, "job")):
        job = f"{rounds:032x}"
        asked = request(side.federation, JobRequest(plan=make_plan(rounds, job=job)))
        assert answer_of(side.agent, asked).said == said


def test_poisson_samples_are_not_counted_in_gdp() -> None:
    training = SMALL.model_copy(update={"mechanism": "poisson", "sampling_rate": 0.1})
    federation = funded(training=training, grant=FirstGrant(currency="rdp"))
    side = Side(federation).approved(steps=5)
    [charged] = side.paid(1).charges
    assert (charged.sampling_rate, charged.count) == (0.1, 5)
    assert charged.amount * 3 <= 0.3 * side.paid(2).grants[0].amount
    gradient = Side(funded())
    budget_of(gradient.agent)._charter = federation.charter
    asked = request(gradient.federation, JobRequest(plan=make_plan(steps=5)))
    assert answer_of(gradient.agent, asked).said == "wrong-currency"


def test_without_a_live_grant_for_these_records_there_is_no_job() -> None:
    federation = funded(grant=FirstGrant(days=1))
    asked = request(federation, JobRequest(plan=make_plan()))
    side = Side(federation)
    side.now += timedelta(days=2)
    assert answer_of(side.agent, asked).said == "grant-expired"
    side = Side(federation)
    budget_of(side.agent).data_set = "patients"
    assert answer_of(side.agent, asked).said == "data-not-granted"
    object.__setattr__(federation, "grant", None)
    assert answer_of(Side(federation).agent, asked).said == "data-not-granted"


def test_a_grant_that_ends_during_a_job_pays_no_more() -> None:
    side = Side(funded(grant=FirstGrant(days=1))).approved()
    side.paid(1)
    side.now += timedelta(days=1)
    assert side.train(2).said == "grant-expired"
    assert len(side.charges) == 1


def test_a_job_that_cannot_be_paid_to_its_end_is_not_begun() -> None:
    side = Side().approved(share=0.8)
    for number in (1, 2, 3):
        side.paid(number)
    asked = request(side.federation, JobRequest(plan=make_plan(share=0.3, job=OTHER)))
    refused = answer_of(side.agent, asked)
    assert refused.said == "budget-exhausted"
    assert "plan a smaller share" in refused.body.sentence  # type: ignore[union-attr]
    less = request(side.federation, JobRequest(plan=make_plan(share=0.1, job=OTHER)))
    # The first plan of a job stands; another job asks for less.
    assert answer_of(side.agent, less).said == "not-approved"
    other = request(side.federation, JobRequest(plan=make_plan(share=0.1, job="ef" * 16)))
    assert answer_of(side.agent, other).said == "job"


def test_failed_attempts_do_not_make_the_planned_rounds_impossible() -> None:
    side = Side().approved(rounds=10, share=0.3)
    budget, number = budget_of(side.agent), 0
    for finished in range(10):
        failures = 3 if finished == 0 else int(finished % 5 == 0)
        for _ in range(failures):
            number += 1
            side.paid(number)
            if number == 3:
                assert side.train(number + 1).said == "attempt-limit"
        if finished == 0:
            # One of the three is seen to finish after all, and makes room for the next.
            budget.finish(JOB, number)
            continue
        number += 1
        side.paid(number)
        budget.finish(JOB, number)
    with budget.ledger.held() as book:
        account = book.jobs[JOB]
        assert len(account.finished) == 10
        assert account.unfinished == 3
        assert account.sums.training <= Fraction(account.approval.most if account.approval else 0)


def test_asking_for_a_job_again_lifts_no_limit_and_the_organisations_word_does() -> None:
    side = Side().approved()
    for number in (1, 2, 3):
        side.paid(number)
    # The next order may prove that they finished, so the job is refused only after one that did not.
    side.approved()
    for _ in range(2):
        assert side.train(4).said == "attempt-limit"
        again = answer_of(side.agent, request(side.federation, JobRequest(plan=make_plan())))
        assert again.said == "attempt-limit"
    budget = budget_of(side.agent)
    budget.approve(make_plan(), by="head of data")
    assert side.train(4).said == "upload"
    budget.finish(JOB, 4)
    budget.finish(JOB, 4)
    budget.finish(JOB, 9)
    with budget.ledger.held() as book:
        assert book.jobs[JOB].finished == {4}


def test_the_charters_caps_hold_over_all_jobs_of_a_day() -> None:
    side = Side(funded(privacy=LOCAL.model_copy(update={"charges_per_day": 3})))
    for job in (JOB, OTHER):
        side.approved(job=job, share=0.2)
    side.paid(1, evaluate=True)
    side.paid(1, job=OTHER)
    assert side.train(2).said == "attempt-limit"
    side.now += timedelta(days=1)
    assert side.train(2).said == "upload"


def test_two_jobs_share_a_grant_and_neither_overspends_it() -> None:
    side = Side()
    for job in (JOB, OTHER):
        side.approved(job=job, share=0.6)
    budget = budget_of(side.agent)
    said = []
    for number in range(1, 5):
        for job in (JOB, OTHER):
            said.append(side.train(number, job=job).said)
            budget.finish(job, number)
    # Each round takes a fifth of the grant.
    assert said == ["upload"] * 5 + ["budget-exhausted"] * 3
    with budget.ledger.held() as book:
        [grant] = book.grants.values()
        assert grant.sums.training <= grant.amount
        assert grant.percent_left == pytest.approx(0, abs=1e-6)


def test_of_several_grants_the_one_with_most_left_is_taken_and_stays() -> None:
    side = Side(funded(grant=FirstGrant(epsilon=2.0, cap_epsilon=8.0)))
    budget = budget_of(side.agent)
    why = {"purpose": "fraud", "legal_basis": "consent", "by": "officer"}
    order = {"delta": 1e-5, "expires": side.now + timedelta(days=9), **why}
    budget.grants.grant(GrantOrder.model_validate({"grant": "larger", "epsilon": 3.0, **order}))
    side.approved()
    assert side.paid(1).charges[0].grant == "larger"
    side.approved(job=OTHER)
    budget.grants.grant(GrantOrder.model_validate({"grant": "largest", "epsilon": 3.5, **order}))
    assert side.paid(2).charges[0].grant == "larger"
    assert [it.grant for it in side.paid(3).grants] == ["first", "larger", "largest"]


def test_an_approval_for_another_job_pays_nothing() -> None:
    side = Side().approved()
    assert side.train(1, job=OTHER).said == "not-approved"
    assert side.charges == []


# --- an older ledger ----------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["the newest rows", "the file"])
def test_an_older_ledger_beside_the_record_of_uploads_pays_nothing_until_it_is_recovered(
    tmp_path: Path, lost: str
) -> None:
    federation = funded()
    files = (tmp_path / "agent.sqlite", tmp_path / "ledger.sqlite", tmp_path / "heads.sqlite")

    def start() -> Side:
        side = Side(federation)
        side.agent = federation.agent("a", *files)
        return side

    def spent(side: Side) -> Fraction:
        with budget_of(side.agent).ledger.held() as book:
            return book.grants["first"].sums.training

    side = start().approved()
    side.paid(1)
    side.agent.close()
    copy = files[1].read_bytes()
    side = start().approved()
    for number in (2, 3):
        side.paid(number)
    before = spent(side)
    side.agent.close()
    noise = side.noise
    files[1].write_bytes(copy) if lost == "the newest rows" else files[1].unlink()
    side = start()
    side.noise = noise
    witnessed(federation, side.agent)
    # The job, too, is refused: nothing of it could be paid.
    job = answer_of(side.agent, request(federation, JobRequest(plan=make_plan())))
    assert job.said == "ledger-behind-witness"
    refused = side.train(4)
    assert refused.said == "ledger-behind-witness"
    assert "hansa budgets recover" in refused.body.sentence  # type: ignore[union-attr]
    admin = Administration(side.agent, owner=os.getuid())
    command = {"command": "recover", "by": "officer", "reason": "a disk was replaced"}
    answer = admin.answer(json.dumps(command).encode(), Peer(pid=1, uid=os.getuid(), gid=os.getgid()))
    assert json.loads(answer)["ok"]
    assert before <= spent(side) <= before * Fraction(1 + 1e-9)
    assert side.train(3).said in ("upload", "attempt-lost")
    budget_of(side.agent).approve(make_plan(), by="officer")
    assert side.train(4).said == "upload"
    side.agent.close()
    assert start().approved().train(5).said == "upload"
