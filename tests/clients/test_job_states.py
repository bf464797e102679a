"""What a member never said yes to is not closed for it, and what it froze stays frozen."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federation import JOB, attempt_request, make_federation, make_order, make_plan, request
from masked_side import answer_of, ready
from refused import assert_refused

from hansa.clients.attempt_log import KEPT_ASKED, KEPT_ATTEMPTS, AttemptLog
from hansa.clients.turns import Turns
from hansa.contract.charter import Protection
from hansa.contract.jobs import ServerRule
from hansa.contract.messages import CloseRequest, JobRequest, Receipt, Seen

CLOSE = CloseRequest(job=JOB, rounds=1)
ALL = tuple("abcd")


def test_a_job_that_was_not_approved_is_not_closed(tmp_path: Path) -> None:
    federation = make_federation(4, approval="manual")
    agent = federation.agent("a")
    agent._work = replace(agent._work, folder=tmp_path)
    closing = request(federation, CLOSE, {"released": np.zeros(federation.model.parameters)})
    assert answer_of(agent, closing).said == "not-approved"
    assert len(agent._jobs) == 0
    assert answer_of(agent, request(federation, JobRequest(plan=make_plan()))).said == "not-approved"
    assert answer_of(agent, closing).said == "not-approved"
    assert agent.attempts.state(JOB) == "asked"
    assert list(tmp_path.iterdir()) == []
    assert len(agent._jobs) == 0
    agent.attempts.set_state(JOB, "approved")
    assert answer_of(agent, closing).said == "close"
    kept = (tmp_path / f"model-{JOB}.npz").read_bytes()
    other = request(federation, CLOSE, {"released": np.ones(federation.model.parameters)})
    assert answer_of(agent, other).said == "close"
    assert (tmp_path / f"model-{JOB}.npz").read_bytes() == kept


def test_of_a_frozen_job_nothing_is_signed_or_opened_and_it_stays_frozen() -> None:
    server = ready(make_federation(4, mode="masked"))
    attempt = server.train(server.begin(1))
    server.agents["a"].attempts.set_state(JOB, "frozen", "frozen by the organisation")
    assert server.sign(attempt, "a", ALL).said == "grant-frozen"
    assert server.ask("a", attempt.unmask(ALL)).said == "grant-frozen"
    assert server.ask("a", CLOSE).said == "grant-frozen"
    assert server.agents["a"].attempts.state(JOB) == "frozen"
    assert [giver for giver, _ in server.given] == []


def test_jobs_that_wait_for_a_yes_are_bounded_and_others_stay() -> None:
    log = AttemptLog(":memory:")
    for state in ("approved", "frozen", "closed"):
        log.ask(make_plan(job=state.encode().hex().ljust(32, "0")))
        log.set_state(state.encode().hex().ljust(32, "0"), state)
    for number in range(KEPT_ASKED + 20):
        assert log.ask(make_plan(job=f"{number:032x}")) == "asked"
    states = [state for _, state, _ in log.jobs()]
    assert states.count("asked") == KEPT_ASKED
    assert len(states) == KEPT_ASKED + 3
    assert log.state(f"{19:032x}") == ""
    assert log.state(f"{20:032x}") == "asked"


def test_a_flood_of_proposals_puts_no_other_plan_in_the_place_of_one_that_waits() -> None:
    fed = make_federation(4, approval="manual")
    agent = fed.agent("a")

    def proposed(**fields: object) -> str:
        return answer_of(agent, request(fed, JobRequest(plan=make_plan(**fields)))).said

    seen = make_plan(job="f" * 32, share=0.1)
    proposed(job=seen.job, share=0.1)
    for number in range(KEPT_ASKED):
        proposed(job=f"{number:032x}")
    assert proposed(job=seen.job, share=1.0) == "not-approved"
    assert agent.attempts.plan(seen.job) is None
    # The same plan may come again.
    proposed(job=seen.job, share=0.1)
    assert agent.attempts.plan(seen.job) == seen
    assert proposed(job=seen.job, share=1.0) == "not-approved"
    assert agent.attempts.plan(seen.job) == seen


def test_a_rule_over_single_updates_is_not_approved_where_nobody_sees_any() -> None:
    plan = make_plan(rule=ServerRule(name="median"))
    masked, clear = make_federation(4, mode="masked"), make_federation(4)
    assert answer_of(masked.agent("a"), request(masked, JobRequest(plan=plan))).said == "mode-downgrade"
    assert answer_of(clear.agent("a"), request(clear, JobRequest(plan=plan))).said == "job"


def test_a_cohort_that_is_large_enough_is_split_where_the_charter_audits() -> None:
    server = ready(make_federation(7, protection=Protection(mode="masked", audit_groups=3)))
    assert_refused(server, server.begin(1), "not-approved")
    server.train(server.begin(2, cohort=tuple("abcde")))
    server.train(server.begin(3, groups=(tuple("abc"), tuple("defg"))))


def test_accepting_costs_the_same_however_many_attempts_came_before() -> None:
    log, changed = AttemptLog(":memory:"), []
    for number in range(1, 5001):
        before = log._db.total_changes
        log.accept(JOB, number, "f" * 64, ("a", "b"), "0" * 64)
        changed.append(log._db.total_changes - before)
        seen = Seen(job=JOB, attempt=number, order="0" * 64, receipt=Receipt())
        log.keep_reply(b"reply", seen, {"update": 1}, "none", {})
    assert changed[4999] <= changed[49] + 1
    assert log._db.execute("SELECT count(*) FROM attempts").fetchone() == (KEPT_ATTEMPTS,)
    newest = log.newest(JOB)
    assert newest is not None
    assert newest.attempt == 5000


def test_a_number_that_is_no_longer_kept_does_not_rise() -> None:
    federation = make_federation(4)
    agent = federation.agent("a")
    assert answer_of(agent, request(federation, JobRequest(plan=make_plan()))).said == "job"
    for number in range(2, KEPT_ATTEMPTS + 10):
        agent.attempts.accept(JOB, number, "f" * 64, ALL, "0" * 64)
    for number in (1, 2, KEPT_ATTEMPTS):
        answer = answer_of(agent, attempt_request(federation, make_order(federation, number)))
        assert answer.said in ("attempt-not-rising", "different-request-same-attempt")


@pytest.mark.parametrize("raises", [False, True])
def test_the_upload_waits_outside_the_lock_and_nothing_tells_of_it_sooner(raises: bool) -> None:
    pacing, released, locked = threading.Event(), threading.Event(), threading.Event()

    def pace(elapsed: float) -> None:
        assert elapsed == 1.0
        pacing.set()
        assert released.wait(5)

    turns = Turns(pace, lambda: 3.0)
    order: list[str] = []

    def upload() -> None:
        with turns.answer() as turn, turns.alone(JOB, turn):
            turn.compute(2.0)
            if raises:
                raise RuntimeError

    def first() -> None:
        try:
            upload()
        except RuntimeError:
            pass
        order.append("upload")

    def again() -> None:
        with turns.answer() as turn, turns.alone(JOB, turn):
            locked.set()
        order.append("again")

    threads = [threading.Thread(target=first), threading.Thread(target=again)]
    threads[0].start()
    assert pacing.wait(5)
    threads[1].start()
    # The second has its turn while the first waits for its beat, and answers no sooner.
    assert locked.wait(5)
    threads[1].join(0.1)
    assert order == []
    released.set()
    for thread in threads:
        thread.join(5)
    assert sorted(order) == ["again", "upload"]
    with turns.answer() as turn, turns.alone(JOB, turn):
        pass


def test_a_lost_upload_asked_again_while_it_waits_leaves_on_the_same_beat() -> None:
    federation = make_federation(4)
    agent = federation.agent("a")
    pacing, released = threading.Event(), threading.Event()

    def pace(_: float) -> None:
        pacing.set()
        assert released.wait(5)

    agent._jobs = Turns(pace, lambda: 0.0)
    assert answer_of(agent, request(federation, JobRequest(plan=make_plan()))).said == "job"
    payload = attempt_request(federation, make_order(federation))
    said: list[bytes] = []
    threads = [threading.Thread(target=lambda: said.append(agent.handle(payload))) for _ in range(2)]
    threads[0].start()
    assert pacing.wait(5)
    threads[1].start()
    threads[1].join(0.2)
    assert said == []
    released.set()
    for thread in threads:
        thread.join(5)
    assert len(said) == 2
    assert said[0] == said[1]
