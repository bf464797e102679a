"""Control's page of figures, and the memory of the consortium's processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from desks import client, open_test_desk
from prometheus_client.parser import text_string_to_metric_families
from test_control import submit, train

from hansa.server.control.desk import ControlDesk
from hansa.server.control.processes import MOST_PROCESSES


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ControlDesk]:
    with open_test_desk(tmp_path) as made:
        yield made


def page(desk: ControlDesk) -> dict[str, dict[tuple[str, ...], float]]:
    answer = client(desk, "read").get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for it in family.samples:
            found.setdefault(it.name, {})[tuple(it.labels.values())] = it.value
    return found


def test_the_page_says_what_the_store_has(desk: ControlDesk) -> None:
    submit(desk)
    assert page(desk)["hansa_jobs"][("queued",)] == 1
    train(desk, 3)
    found = page(desk)
    assert found["hansa_attempts_total"] == {("train", "applied"): 3}
    assert found["hansa_round_seconds_count"][()] == 3
    assert found["hansa_round_seconds_bucket"][("0.25",)] == 0
    assert found["hansa_round_seconds_bucket"][("0.5",)] == 3
    assert found["hansa_round_seconds_sum"][()] == pytest.approx(1.2)
    assert found["hansa_participations_total"] == {("replied",): 12}
    assert found["hansa_member_present"] == {(name,): 0 for name in "abcd"}
    assert found["hansa_store_up"][()] == 1
    # A restart of control forgets nothing.
    assert page(desk)["hansa_attempts_total"] == {("train", "applied"): 3}


def test_without_the_token_nobody_reads_budgets(desk: ControlDesk) -> None:
    assert client(desk, None).get("/metrics").status_code == 401
    assert client(desk, "sign").get("/metrics").status_code == 403


def test_a_store_that_is_away_is_said(
    desk: ControlDesk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(desk.store.figures, "read", away)
    found = page(desk)
    assert found["hansa_store_up"][()] == 0
    assert "hansa_jobs" not in found
    assert "the disk is gone" in caplog.text
    assert found["process_resident_memory_bytes"][()] > 0


def enter(desk: ControlDesk, *readings: dict[str, object]) -> list[dict[str, object]]:
    answer = client(desk, "steer").post("/v1/processes", json=list(readings))
    assert answer.status_code == 200, answer.text
    found: list[dict[str, object]] = answer.json()
    return found


def test_a_process_that_ended_is_dropped_with_its_alarm(
    desk: ControlDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.time()
    enter(desk, {"process": "serverapps", "resident": 100, "alarm": "too much"})
    for age, names in ((170, {"serverapps", "sidecar"}), (190, {"sidecar"})):
        monkeypatch.setattr("time.time", lambda age=age: began + age)
        enter(desk, {"process": "sidecar", "resident": 5})
        assert {it.process for it in desk.processes.all()} == names
    assert page(desk)["hansa_process_memory_alarm"] == {("sidecar",): 0}


def test_memory_of_processes_is_kept_shown_and_alarmed_once(desk: ControlDesk) -> None:
    own = enter(desk, {"process": "superlink", "resident": 100, "bound": 90, "alarm": "too much"})
    assert [it["process"] for it in own] == ["control"]
    for _ in range(3):
        enter(desk, {"process": "superlink", "resident": 120, "bound": 90, "alarm": "too much"})
    (kept,) = client(desk, "read").get("/v1/processes").json()
    assert (kept["process"], kept["resident"], kept["alarm"]) == ("superlink", 120, "too much")
    said = [it for it in desk.store.history.events() if it.kind == "memory"]
    assert [it.sentence for it in said] == ["superlink: too much"]
    found = page(desk)
    assert found["hansa_process_memory_bytes"] == {("superlink",): 120}
    assert found["hansa_process_memory_alarm"] == {("superlink",): 1}


def test_processes_are_bounded_and_for_the_sidecar_to_enter(desk: ControlDesk) -> None:
    told = [{"process": f"p{number}", "resident": 1} for number in range(3 * MOST_PROCESSES)]
    for place in range(0, len(told), 8):
        enter(desk, *told[place : place + 8])
    assert len(client(desk, "read").get("/v1/processes").json()) == MOST_PROCESSES
    assert client(desk, "read").post("/v1/processes", json=[]).status_code == 403
    wrong = {"process": "No Name", "resident": -1}
    assert client(desk, "steer").post("/v1/processes", json=[wrong]).status_code == 422
