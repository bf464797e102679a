"""Decisions, pins and going back while a job runs, over control's API: once each, and only on what was seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from desks import client, open_test_desk
from federation import JOB, make_plan

from hansa.contract.jobs import AttemptResult, MetricValue
from hansa.server.control.desk import ControlDesk
from hansa.server.store.jobs import GONE_ON
from hansa.server.store.journal import JobJournal
from hansa.strategies.journal_laws import KEPT
from hansa.strategies.ports import LeaseLost

COHORT = ("a", "b", "c", "d")
KNOBS = {"server_rate": 0.2, "client_rate": 1.0}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ControlDesk]:
    with open_test_desk(tmp_path) as made:
        made.store.jobs.submit(make_plan(rounds=20, pinned={"client_rate": 1.0}), made.charter_hash, KNOBS)
        yield made


def train(journal: JobJournal, rounds: int) -> None:
    """So many more rounds, each worse than the one before."""
    for _ in range(rounds):
        base = journal.progress().round
        number = journal.open_attempt("train", base=base, cohort=COHORT, left_out={}, knobs=KNOBS)
        result = AttemptResult(
            job=JOB,
            attempt=number,
            kind="train",
            status="applied",
            base=base,
            round=base + 1,
            cohort=COHORT,
            active=COHORT,
            participation=(),
            knobs=KNOBS,
            metrics={"log_loss": MetricValue(value=0.5 + base)},
            step=0.25,
            seconds=0.1,
        )
        journal.commit(result, {"weights": np.full(3, float(base + 1))})


def decision(key: str, **fields: Any) -> dict[str, Any]:
    return {"key": key, "by": "recovery", "round": 3, "sentence": "the loss went up", **fields}


def ask(desk: ControlDesk, method: str, path: str, body: Any = None, scope: str = "write") -> tuple[int, Any]:
    answer = client(desk, scope).request(method, f"/v1/jobs/{JOB}/{path}", json=body)
    return answer.status_code, answer.json()


def knobs(desk: ControlDesk) -> dict[str, float]:
    return {it.name: it.value for it in desk.store.knobs.of(JOB)}


def test_a_decision_is_entered_once_with_its_knobs(desk: ControlDesk) -> None:
    inputs = {"members": ["a", "b"], "losses": [0.5, None], "loss": 0.5, "rounds": 3, "metric": "loss"}
    body = {
        "decision": decision("cut 3", knobs={"server_rate": 0.06}, inputs=inputs),
        "expected": {"server_rate": 0.2},
    }
    code, first = ask(desk, "POST", "decisions", body)
    assert code == 200, first
    assert first["inputs"] == inputs
    assert ask(desk, "POST", "decisions", body) == (200, first)
    assert knobs(desk)["server_rate"] == 0.06
    body["decision"]["key"] = "cut 4"
    code, problem = ask(desk, "POST", "decisions", body)
    assert code == 409
    assert "decide anew" in problem["detail"]
    code, listed = ask(desk, "GET", "decisions", scope="read")
    assert [it["key"] for it in listed] == ["cut 3"]
    assert ask(desk, "POST", "decisions", body, scope="read")[0] == 403


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"knobs": {"server_rate": 2.0}}, 422),
        ({"knobs": {"nothing": 2.0}}, 422),
        ({"knobs": {"client_rate": 0.5}}, 409),
        ({"by": "probe"}, 409),
        ({"by": "a stranger"}, 422),
        ({"sentence": ""}, 422),
        ({"inputs": {"x": [[1.0]]}}, 422),
    ],
)
def test_what_may_not_be_decided_is_not(desk: ControlDesk, fields: dict[str, Any], code: int) -> None:
    assert ask(desk, "POST", "decisions", {"decision": decision("one", **fields)})[0] == code
    assert knobs(desk) == KNOBS
    assert desk.store.decisions.of(JOB) == []


def test_a_job_goes_back_while_it_runs_and_the_run_at_work_writes_nothing_more(desk: ControlDesk) -> None:
    journal = desk.store.claim(JOB, "run 1")
    journal.set_status("running")
    train(journal, 3)
    kept = ask(desk, "GET", "kept", scope="read")[1]
    assert [it["round"] for it in kept] == [1, 2, 3]
    number = desk.store.history.rounds(JOB)[-1].attempt
    assert desk.store.history.rounds(JOB)[-1].step == 0.25
    body = {
        "decision": decision("back 3", knobs={"server_rate": 0.06}),
        "to": 2,
        "undoes": number,
        "expected": {"server_rate": 0.2},
    }
    code, job = ask(desk, "POST", "recover", body)
    assert code == 200, job
    assert (job["round"], job["status"], job["attempt"]) == (2, "queued", 3)
    assert knobs(desk)["server_rate"] == 0.06
    with pytest.raises(LeaseLost):
        journal.open_attempt("train", base=2, cohort=COHORT, left_out={}, knobs=KNOBS)
    # Asked again, by one that was killed before it heard the answer: nothing more is undone.
    train(desk.store.claim(JOB, "run 2"), 1)
    code, job = ask(desk, "POST", "recover", body)
    assert (code, job["round"], job["attempt"]) == (200, 3, 4)
    # And another decision about rounds that are gone comes too late.
    stale = {**body, "decision": decision("back again"), "expected": {}}
    code, problem = ask(desk, "POST", "recover", stale)
    assert code == 409
    assert "decide anew" in problem["detail"]
    assert [it.key for it in desk.store.decisions.of(JOB)] == ["back 3"]
    assert desk.store.jobs.get(JOB).round == 3


def test_a_state_that_is_gone_is_not_gone_back_to_and_nothing_is_half_done(desk: ControlDesk) -> None:
    journal = desk.store.claim(JOB, "run 1")
    journal.set_status("running")
    train(journal, KEPT + 2)
    newest = desk.store.history.rounds(JOB)[-1].attempt
    body = {"decision": decision("back", knobs={"server_rate": 0.06}), "to": 2, "undoes": newest}
    code, problem = ask(desk, "POST", "recover", body)
    assert code == 422
    assert "not kept" in problem["detail"]
    assert (knobs(desk), desk.store.decisions.of(JOB)) == (KNOBS, [])
    train(journal, 1)


def test_a_decision_that_comes_late_takes_back_no_job_that_went_on_and_none_that_is_over(
    desk: ControlDesk,
) -> None:
    journal = desk.store.claim(JOB, "run 1")
    journal.set_status("running")
    train(journal, 3)
    then = desk.store.history.rounds(JOB)[-1].attempt
    train(journal, GONE_ON + 1)
    code, problem = ask(desk, "POST", "recover", {"decision": decision("late"), "to": 2, "undoes": then})
    assert code == 409
    assert "gone on to round 7" in problem["detail"]
    train(journal, 13)
    assert desk.store.jobs.get(JOB).round == 20
    newest = desk.store.history.rounds(JOB)[-1].attempt
    code, problem = ask(desk, "POST", "recover", {"decision": decision("over"), "to": 18, "undoes": newest})
    assert code == 409
    assert "all its rounds" in problem["detail"]
    assert desk.store.decisions.of(JOB) == []


@pytest.mark.parametrize("inputs", [{}, {"first": "soon"}, {"first": 3, "last": 40}, {"first": 5, "last": 4}])
def test_an_audit_is_of_so_many_rounds_and_no_more(desk: ControlDesk, inputs: dict[str, Any]) -> None:
    asked = decision("audit 3", by="audit", inputs=inputs)
    assert ask(desk, "POST", "decisions", {"decision": asked})[0] == 422
    good = decision("audit 3", by="audit", inputs={"first": 3, "last": 27})
    assert ask(desk, "POST", "decisions", {"decision": good})[0] == 200
    assert desk.store.claim(JOB, "run 1").audited() == (3, 27)


def test_nothing_is_recovered_that_the_operator_has_paused(desk: ControlDesk) -> None:
    journal = desk.store.claim(JOB, "run 1")
    journal.set_status("running")
    train(journal, 3)
    assert ask(desk, "POST", "pause")[0] == 200
    newest = desk.store.history.rounds(JOB)[-1].attempt
    body = {"decision": decision("back"), "to": 2, "undoes": newest}
    assert ask(desk, "POST", "recover", body)[0] == 409
    own = {"by": "recovery", "only_own": True}
    code, problem = ask(desk, "POST", "resume", own)
    assert code == 409
    assert "operator asked job" in problem["detail"]
    assert desk.store.jobs.get(JOB).wanted == "pause"
    assert ask(desk, "POST", "resume")[1]["wanted"] == "run"
    paused = ask(desk, "POST", "pause", {**own, "reason": "five lower rates did not help"})[1]
    assert (paused["wanted_by"], paused["wanted_reason"]) == ("recovery", "five lower rates did not help")
    assert ask(desk, "POST", "resume", own)[1]["wanted"] == "run"


def test_pinned_knobs_are_moved_by_nobody_until_they_are_opened(desk: ControlDesk) -> None:
    code, states = ask(desk, "PUT", "pins", {"names": ["server_rate"], "pinned": True, "reason": "by hand"})
    assert code == 200, states
    assert {it["name"]: it["pinned"] for it in states} == {"server_rate": True, "client_rate": True}
    body = {"decision": decision("cut", knobs={"server_rate": 0.06})}
    assert ask(desk, "POST", "decisions", body)[0] == 409
    assert ask(desk, "PUT", "knobs", {"values": {"server_rate": 0.1}})[0] == 409
    # What members approved as pinned stays so.
    assert ask(desk, "PUT", "pins", {"names": ["client_rate"], "pinned": False})[0] == 409
    assert ask(desk, "PUT", "pins", {"names": ["nothing"], "pinned": True})[0] == 409
    code, states = ask(desk, "PUT", "pins", {"pinned": False})
    assert {it["name"]: it["pinned"] for it in states} == {"server_rate": False, "client_rate": True}
    assert ask(desk, "POST", "decisions", body)[0] == 200
