"""Control's API over a real store: who may do what, and what bad input gets."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from desks import NOWHERE, SECRETS, client, open_test_desk
from federation import FEATURES, JOB, make_plan
from few_kept import few_kept as few_kept
from safetensors.numpy import load

from hansa.contract.charter import MetricsPolicy, ModelChoice, Protection, Task
from hansa.contract.jobs import AttemptResult, MetricValue, Participation
from hansa.contract.typed import canonical_json
from hansa.models.preparation import Preparation, predict, prepared_model
from hansa.server.control.desk import ControlDesk
from hansa.server.tokens import load_tokens
from hansa.strategies.apply import ModelState
from hansa.strategies.ports import MemberPresence


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ControlDesk]:
    with open_test_desk(tmp_path) as made:
        yield made


def submit(desk: ControlDesk, **fields: object) -> None:
    answer = client(desk).post("/v1/jobs", json=make_plan(**fields).model_dump())  # type: ignore[arg-type]
    assert answer.status_code == 201, answer.text


def train(desk: ControlDesk, rounds: int, *, width: int = 3) -> None:
    """Apply rounds as a ServerApp would."""
    journal = desk.store.claim(JOB, "run 1")
    cohort = ("a", "b", "c", "d")
    for number in range(1, rounds + 1):
        attempt = journal.open_attempt(
            "train", base=number - 1, cohort=cohort, left_out={}, knobs=journal.knobs()
        )
        result = AttemptResult(
            job=JOB,
            attempt=attempt,
            kind="train",
            status="applied",
            base=number - 1,
            round=number,
            cohort=cohort,
            active=cohort,
            participation=tuple(Participation(member=it, outcome="replied", seconds=0.25) for it in cohort),
            knobs=journal.knobs(),
            metrics={"auc": MetricValue(value=0.5 + number / 100)},
            seconds=0.4,
        )
        state = ModelState.start(np.full(width, float(number)))
        journal.commit(result, state.arrays())


READS = [
    "/v1/jobs",
    f"/v1/jobs/{JOB}",
    f"/v1/jobs/{JOB}/rounds",
    f"/v1/jobs/{JOB}/attempts",
    f"/v1/jobs/{JOB}/metrics",
    f"/v1/jobs/{JOB}/knobs",
    f"/v1/jobs/{JOB}/runs",
    f"/v1/jobs/{JOB}/model",
    f"/v1/jobs/{JOB}/model.safetensors",
    "/v1/members",
    "/v1/events",
    "/v1/budgets",
    "/v1/budgets/jobs",
    "/v1/budgets/history",
]
WRITES = [
    ("POST", "/v1/jobs"),
    ("POST", f"/v1/jobs/{JOB}/stop"),
    ("POST", f"/v1/jobs/{JOB}/pause"),
    ("POST", f"/v1/jobs/{JOB}/resume"),
    ("POST", f"/v1/jobs/{JOB}/rollback"),
    ("PUT", f"/v1/jobs/{JOB}/knobs"),
    ("POST", "/v1/members/a/hold"),
    ("POST", "/v1/members/a/release"),
]


@pytest.mark.parametrize("path", READS)
def test_reading_takes_a_token_that_may_read(desk: ControlDesk, path: str) -> None:
    submit(desk)
    train(desk, 1)
    assert client(desk, None).get(path).status_code == 401
    assert client(desk, None).get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client(desk, "sign").get(path).status_code == 403
    assert client(desk, "read").get(path).status_code == 200
    assert client(desk, "steer").get(path).status_code == 200
    assert client(desk, "write").get(path).status_code == 200


@pytest.mark.parametrize(("verb", "path"), WRITES)
def test_writing_takes_the_token_for_writing(desk: ControlDesk, verb: str, path: str) -> None:
    bodies = {"/v1/jobs": make_plan().model_dump(), "/v1/members/a/hold": {"reason": "sick"}}
    bodies[f"/v1/jobs/{JOB}/rollback"] = {"reason": "it diverged"}
    bodies[f"/v1/jobs/{JOB}/knobs"] = {"values": {"server_rate": 0.3}}
    for scope, status in ((None, 401), ("read", 403), ("sign", 403)):
        answer = client(desk, scope).request(verb, path, json=bodies.get(path))
        assert answer.status_code == status
        assert set(answer.json()) == {"detail"}
    assert desk.store.jobs.all() == []


# What the sidecar does.
STEERS = (
    f"/v1/jobs/{JOB}/pause",
    f"/v1/jobs/{JOB}/decisions",
    f"/v1/jobs/{JOB}/recover",
    "/v1/members/a/hold",
)


@pytest.mark.parametrize(("verb", "path"), [*WRITES, *(("POST", it) for it in (*STEERS, "/v1/scaling"))])
def test_the_sidecars_token_steers_and_submits_stops_or_releases_nothing(
    desk: ControlDesk, verb: str, path: str
) -> None:
    submit(desk)
    steers = path in (*STEERS, "/v1/scaling")
    answer = client(desk, "steer").request(verb, path, json={})
    # What it may do is refused for its empty body, if at all.
    assert (answer.status_code == 403) == (not steers)
    assert answer.status_code != 401


def test_an_instance_from_before_the_sidecars_token_has_three(tmp_path: Path) -> None:
    secrets = {scope: f"{scope}-{'0123456789' * 2}" for scope in ("read", "write", "sign")}
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps(secrets))
    tokens = load_tokens(path)
    assert {scope: tokens.scope_of(secret) for scope, secret in secrets.items()} == {it: it for it in secrets}
    assert tokens.scope_of("") is None


def test_every_operation_but_health_asks_for_a_token(desk: ControlDesk) -> None:
    schema = client(desk).get("/openapi.json").json()
    free = [
        path for path, verbs in schema["paths"].items() for it in verbs.values() if not it.get("security")
    ]
    assert free == ["/v1/health"]


def test_health_needs_no_token_and_says_that_the_superlink_is_away(desk: ControlDesk) -> None:
    answer = client(desk, None).get("/v1/health")
    assert answer.status_code == 200
    facts = answer.json()
    assert (facts["status"], facts["store"], facts["superlink"]) == ("degraded", True, False)
    assert NOWHERE not in answer.text


def test_a_job_is_submitted_once_however_often_it_is_sent(desk: ControlDesk) -> None:
    submit(desk)
    submit(desk)
    assert [it.status for it in desk.store.jobs.all()] == ["queued"]
    other = client(desk).post("/v1/jobs", json=make_plan(rounds=9).model_dump())
    assert other.status_code == 409


BAD_PLANS = {
    "pinned outside its range": ({"pinned": {"server_rate": 7.0}}, "server_rate move from 0.01 to 1"),
    "pinned unknown": ({"pinned": {"momentum": 0.9}}, "opens no knob 'momentum'"),
    "no rounds": ({"rounds": 0}, "'rounds'"),
    "rounds as text": ({"rounds": "three"}, "'rounds'"),
    "unknown field": ({"epochs": 3}, "'epochs' is not known"),
    "asks again after the deadline": ({"reask_s": 60.0}, "'reask_s'"),
    "robust rule": ({"rule": {"name": "median"}}, "sees their sum only"),
    "unknown rule": ({"rule": {"name": "fedfoo"}}, "fedfoo"),
    "not an id": ({"job": "one"}, "'job'"),
}


@pytest.mark.parametrize("name", BAD_PLANS)
def test_a_plan_outside_the_charter_gets_a_sentence(tmp_path: Path, name: str) -> None:
    changes, sentence = BAD_PLANS[name]
    with open_test_desk(tmp_path, protection=Protection(mode="masked")) as desk:
        answer = client(desk).post("/v1/jobs", json={**make_plan().model_dump(), **changes})
        assert answer.status_code == 422
        assert sentence in answer.json()["detail"]
        assert desk.store.jobs.all() == []


def test_an_expired_charter_takes_no_jobs(tmp_path: Path) -> None:
    with open_test_desk(tmp_path, expires=datetime.now(UTC) - timedelta(days=1)) as desk:
        answer = client(desk).post("/v1/jobs", json=make_plan().model_dump())
        assert answer.status_code == 422
        assert "expired" in answer.json()["detail"]


def test_stop_pause_and_resume_say_what_is_wanted(desk: ControlDesk) -> None:
    submit(desk)
    calls = client(desk)
    assert calls.post(f"/v1/jobs/{JOB}/pause").json()["wanted"] == "pause"
    assert calls.post(f"/v1/jobs/{JOB}/resume").json()["wanted"] == "run"
    assert calls.post(f"/v1/jobs/{JOB[:6]}/stop").json()["wanted"] == "stop"
    desk.store.claim(JOB, "x").set_status("finished")
    assert calls.post(f"/v1/jobs/{JOB}/resume").status_code == 409
    assert calls.post("/v1/jobs/ffffffff/stop").status_code == 404


def test_a_stopped_job_can_be_resumed(desk: ControlDesk) -> None:
    submit(desk)
    desk.store.jobs.want(JOB, "stop", "operator")
    desk.store.claim(JOB, "x").set_status("stopped")
    assert client(desk).post(f"/v1/jobs/{JOB}/resume").json()["status"] == "queued"


def test_jobs_of_the_charter_before_end_and_are_not_resumed(desk: ControlDesk) -> None:
    submit(desk)
    assert desk.stop_what_was_superseded() == ([], [])
    # Another consortium's control at the same store lets it be.
    stopped, strange = replace(desk, charter_hash="1" * 64).stop_what_was_superseded()
    assert (stopped, [it.job for it in strange]) == ([], [JOB])
    assert desk.job(JOB).status == "queued"
    after = desk.charter.model_copy(update={"version": 2, "previous": desk.charter_hash})
    later = replace(desk, charter=after, charter_hash="1" * 64)
    stopped, strange = later.stop_what_was_superseded()
    assert ([it.job for it in stopped], strange) == ([JOB], [])
    job = later.job(JOB)
    assert job.status == "stopped"
    assert f"is bound to charter {desk.charter_hash[:12]}" in (job.reason or "")
    refused = client(later).post(f"/v1/jobs/{JOB}/resume")
    assert refused.status_code == 409
    assert "submit a new job" in refused.json()["detail"]
    # Whoever started control with the wrong charter has lost nothing.
    assert client(desk).post(f"/v1/jobs/{JOB}/resume").json()["status"] == "queued"


@pytest.mark.usefixtures("few_kept")
def test_a_paused_job_goes_back_to_a_kept_round(desk: ControlDesk) -> None:
    submit(desk, rounds=9)
    train(desk, 5)
    path, why = f"/v1/jobs/{JOB[:6]}/rollback", {"reason": "it diverged", "by": "sidecar"}
    refused = client(desk).post(path, json=why)
    assert refused.status_code == 409
    assert "is queued, and a run may be working on it; pause it first" in refused.json()["detail"]
    desk.store.claim(JOB, "run 2").set_status("paused")
    refused = client(desk).post(path, json=why | {"to": 2})
    assert refused.status_code == 422
    assert refused.json()["detail"] == (
        "round 2 is not kept: the job is at round 5 and can go back to round 4"
    )
    answer = client(desk).post(path, json=why)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["from_round"], answer.json()["job"]["round"]) == (5, 4)
    assert answer.json()["job"]["status"] == "paused"
    [event] = desk.store.history.newest_events(JOB, kind="rolled-back", limit=5)
    assert event.sentence == "sidecar took the job back from round 5 to round 4; charges stay: it diverged"
    assert client(desk).post(f"/v1/jobs/{JOB}/resume").json()["status"] == "queued"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "'reason' is missing"),
        ({"reason": ""}, "'reason'"),
        ({"reason": "r", "to": -1}, "'to'"),
        ({"reason": "r", "by": "The Boss"}, "'by'"),
    ],
)
def test_a_way_back_without_a_reason_or_a_round_gets_a_sentence(
    desk: ControlDesk, body: dict[str, object], sentence: str
) -> None:
    submit(desk)
    answer = client(desk).post(f"/v1/jobs/{JOB}/rollback", json=body)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]


def test_knobs_move_within_the_charter_s_range_only(desk: ControlDesk) -> None:
    submit(desk, pinned={"client_rate": 1.5})
    calls, path = client(desk), f"/v1/jobs/{JOB}/knobs"
    answer = calls.put(path, json={"values": {"server_rate": 0.5}, "reason": "faster", "by": "tuner"})
    assert answer.status_code == 200
    knobs = {it["name"]: it for it in calls.get(path).json()}
    assert (knobs["server_rate"]["value"], knobs["server_rate"]["set_by"]) == (0.5, "tuner")
    assert (knobs["server_rate"]["low"], knobs["server_rate"]["high"]) == (0.01, 1.0)
    assert desk.store.claim(JOB, "x").knobs() == {"server_rate": 0.5, "client_rate": 1.5}
    for values, status in (({"server_rate": 2.0}, 422), ({"client_rate": 1.0}, 409), ({"zeal": 1.0}, 422)):
        refused = calls.put(path, json={"values": {"server_rate": 0.6, **values}})
        assert refused.status_code == status, refused.text
    assert desk.store.claim(JOB, "x").knobs()["server_rate"] == 0.5


def test_a_held_member_is_known_to_the_journal_until_released(desk: ControlDesk) -> None:
    submit(desk)
    calls = client(desk)
    journal = desk.store.claim(JOB, "x")
    journal.present([MemberPresence("b", 2**63 + 5, False, 1, 1_700_000_000.0)])
    assert calls.post("/v1/members/b/hold", json={"reason": "drifts"}).json()["held"] == "drifts"
    assert calls.post("/v1/members/c/hold", json={"reason": "never seen"}).status_code == 200
    assert journal.held() == {"b": "drifts", "c": "never seen"}
    assert calls.post("/v1/members/b/release").json()["held"] is None
    members = {it["name"]: it for it in calls.get("/v1/members").json()}
    assert list(members) == ["a", "b", "c", "d"]
    assert (members["b"]["present"], members["b"]["isolated"], members["a"]["present"]) == (
        True,
        False,
        False,
    )
    assert calls.post("/v1/members/z/hold", json={"reason": "x"}).status_code == 404
    assert calls.post("/v1/members/b/hold", json={"reason": ""}).status_code == 422


def test_rounds_show_who_took_part_and_the_figures_of_their_model(desk: ControlDesk) -> None:
    submit(desk)
    train(desk, 3)
    calls = client(desk, "read")
    rounds = calls.get(f"/v1/jobs/{JOB}/rounds", params={"after": 1}).json()
    assert [it["round"] for it in rounds] == [2, 3]
    assert rounds[0]["metrics"] == {"auc": {"value": 0.53, "error": None}}
    assert rounds[1]["metrics"] == {}
    assert [it["member"] for it in rounds[0]["participation"]] == ["a", "b", "c", "d"]
    assert calls.get(f"/v1/jobs/{JOB}/rounds/3").json()["round"] == 3
    assert calls.get(f"/v1/jobs/{JOB}/rounds/4").status_code == 404
    figures = calls.get(f"/v1/jobs/{JOB}/metrics", params={"name": "auc"}).json()
    assert [(it["round"], it["value"]) for it in figures] == [(0, 0.51), (1, 0.52), (2, 0.53)]


def test_the_released_model_comes_with_the_names_of_its_columns(desk: ControlDesk) -> None:
    submit(desk)
    calls = client(desk, "read")
    assert calls.get(f"/v1/jobs/{JOB}/model").status_code == 409
    train(desk, 2)
    release = calls.get(f"/v1/jobs/{JOB}/model").json()
    assert (release["round"], release["columns"], release["parameters"]) == (2, ["age", "dose"], 3)
    weights = load(calls.get(f"/v1/jobs/{JOB}/model.safetensors").content)["weights"]
    assert weights.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("name", ["linear", "additive"])
def test_a_model_of_prepared_columns_leaves_with_them_or_has_them_in_its_weights(
    tmp_path: Path, name: str
) -> None:
    task = Task(title="test", features=FEATURES, model=ModelChoice(name=name))
    preparation = Preparation(np.array([0.5, 0.0]), np.array([4.0, 1.0]), start=0.0)
    model = prepared_model(task.model, FEATURES, preparation)
    weights = np.arange(float(model.parameters))
    with open_test_desk(tmp_path, task=task) as desk:
        submit(desk)
        journal = desk.store.claim(JOB, "run 1")
        cohort, knobs = ("a", "b", "c", "d"), journal.knobs()
        arrays = ModelState.start(weights, preparation.array).arrays()
        for kind, status, number in (("statistics", "evaluated", None), ("train", "applied", 1)):
            attempt = journal.open_attempt(kind, base=0, cohort=cohort, left_out={}, knobs=knobs)
            done = AttemptResult(
                job=JOB, attempt=attempt, kind=kind, status=status, base=0, round=number, cohort=cohort,
                active=cohort, participation=(), knobs=knobs, seconds=0.1,
            )  # fmt: skip
            assert client(desk, "read").get(f"/v1/jobs/{JOB}/model").status_code == 409
            journal.commit(done, arrays)
        release = client(desk, "read").get(f"/v1/jobs/{JOB}/model").json()
        tensors = load(client(desk, "read").get(f"/v1/jobs/{JOB}/model.safetensors").content)
    assert release["prepared"] == ("preparation" in tensors) == (name == "additive")
    assert release["parameters"] == model.parameters
    X = np.random.default_rng(0).normal(size=(9, 2))
    handed = {"released" if key == "weights" else key: array for key, array in tensors.items()}
    expected = model.predict(weights, preparation.apply(X))
    np.testing.assert_allclose(predict(task.model, FEATURES, handed, X), expected)


UNBUILT: dict[str, dict[str, object]] = {
    "metrics.per_member": {"metrics": MetricsPolicy(per_member=True)},
}


@pytest.mark.parametrize("field", UNBUILT)
def test_a_field_that_would_do_nothing_starts_no_job(tmp_path: Path, field: str) -> None:
    with open_test_desk(tmp_path, **UNBUILT[field]) as desk:
        answer = client(desk).post("/v1/jobs", json=make_plan().model_dump(mode="json"))
    assert (answer.status_code, f"field '{field}': this version" in answer.json()["detail"]) == (422, True)


def test_a_job_is_not_evaluated_more_often_than_the_charter_allows(tmp_path: Path) -> None:
    with open_test_desk(tmp_path, metrics=MetricsPolicy(every=4)) as desk:
        answer = client(desk).post("/v1/jobs", json=make_plan(evaluate_every=6).model_dump(mode="json"))
        assert answer.status_code == 422
        assert (
            "'evaluate_every': expected a multiple of the charter's metrics.every = 4 (got 6)" in answer.text
        )
        allowed = make_plan(evaluate_every=8).model_dump(mode="json")
        assert client(desk).post("/v1/jobs", json=allowed).is_success


def test_in_mode_he_the_server_has_no_model_to_hand_out(tmp_path: Path) -> None:
    with open_test_desk(tmp_path, protection=Protection(mode="he")) as desk:
        submit(desk)
        train(desk, 1)
        answer = client(desk).get(f"/v1/jobs/{JOB}/model.safetensors")
        assert (answer.status_code, "each member exports" in answer.json()["detail"]) == (409, True)


def test_events_are_asked_for_after_the_last_one_seen(desk: ControlDesk) -> None:
    submit(desk)
    calls = client(desk)
    first = calls.get("/v1/events").json()
    calls.post(f"/v1/jobs/{JOB}/pause")
    later = calls.get("/v1/events", params={"after": first[-1]["id"], "job": JOB}).json()
    assert [it["kind"] for it in later] == ["job-wanted"]
    assert later[0]["id"] > first[-1]["id"]


def test_tokens_are_in_no_log_line(desk: ControlDesk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    submit(desk)
    client(desk, "read").post("/v1/jobs", json=make_plan().model_dump())
    assert not any(secret in caplog.text for secret in SECRETS.values())


def test_a_body_above_the_bound_is_not_read(desk: ControlDesk) -> None:
    answer = client(desk, None).post("/v1/jobs", content=b"x" * (33 * 2**20))
    assert answer.status_code == 413


def test_the_page_names_every_operation_and_asks_nobody_else(desk: ControlDesk) -> None:
    calls = client(desk, None)
    page, schema = calls.get("/docs"), calls.get("/openapi.json").json()
    shown = unescape(page.text)
    for path, verbs in schema["paths"].items():
        assert path in shown
        assert all(it["summary"] in shown for it in verbs.values())
    assert all(f"id='{name}'" in shown for name in schema["components"]["schemas"])
    assert not re.search(r"<script|<link|src=|https?://", page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_plan_comes_back_as_it_was_sent(desk: ControlDesk) -> None:
    plan = make_plan(pinned={"server_rate": 0.25})
    client(desk).post("/v1/jobs", json=plan.model_dump())
    assert canonical_json(desk.store.jobs.get(JOB).plan) == canonical_json(plan)
