"""Decisions about services at control: each once, the newest week kept, one token to read and one to write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desks import client, open_test_desk
from federation import JOB, make_plan

from hansa.server.control.desk import ControlDesk
from hansa.server.store.scaling import MOST_SERVICES


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ControlDesk]:
    with open_test_desk(tmp_path) as made:
        yield made


def entry(at: float, service: str = "executor", **fields: Any) -> dict[str, Any]:
    return {
        **{
            "at": at,
            "service": service,
            "current": 1,
            "wanted": 3,
            "by": "forecast",
            "reason": "it gets busy",
        },
        **{"pattern": "peak", "trusted": True, "band": {"low": 1.0, "middle": 2.0, "high": 3.0}},
        **{"cost": 1.5, "violated": 0.01, "regret": None, "ready": 1, "starting": 0, "leaving": 0},
        **{"demand": 3.0, "queue": 2.0, "cpu": None, "memory": None, "did": "scaled", "problem": ""},
        **fields,
    }


def enter(desk: ControlDesk, *entries: dict[str, Any], scope: str = "write") -> tuple[int, Any]:
    answer = client(desk, scope).post("/v1/scaling", json=list(entries))
    return answer.status_code, answer.json()


def test_each_is_entered_once_and_read_as_it_was(desk: ControlDesk) -> None:
    assert enter(desk, entry(60.0), entry(120.0, band=None, regret=0.05)) == (200, {"entered": 2})
    assert enter(desk, entry(60.0, wanted=9), entry(180.0)) == (200, {"entered": 1})
    found = client(desk, "read").get("/v1/scaling").json()
    assert [{**it, "id": 0} for it in found] == [
        {**entry(60.0), "id": 0},
        {**entry(120.0, band=None, regret=0.05), "id": 0},
        {**entry(180.0), "id": 0},
    ]
    after = client(desk, "read").get("/v1/scaling", params={"after": found[0]["id"], "limit": 1}).json()
    assert after == found[1:2]


def test_one_service_or_the_newest_of_each(desk: ControlDesk) -> None:
    enter(desk, entry(60.0), entry(60.0, "scoring"), entry(120.0))
    reader = client(desk, "read")
    assert [it["at"] for it in reader.get("/v1/scaling", params={"service": "scoring"}).json()] == [60.0]
    newest = reader.get("/v1/scaling/newest").json()
    assert [(it["service"], it["at"]) for it in newest] == [("executor", 120.0), ("scoring", 60.0)]


def test_the_store_stays_within_its_bound(desk: ControlDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hansa.server.store.scaling.KEPT", 5)
    enter(desk, entry(1.0, "scoring"))
    for number in range(4):
        enter(desk, *(entry(60.0 * (3 * number + it)) for it in range(3)))
    kept = client(desk, "read").get("/v1/scaling").json()
    assert [it["at"] for it in kept if it["service"] == "executor"] == [60.0 * it for it in range(7, 12)]
    assert [it["at"] for it in kept if it["service"] == "scoring"] == [1.0]
    many = [entry(1.0, f"s{number}") for number in range(MOST_SERVICES + 10)]
    assert enter(desk, *many) == (200, {"entered": MOST_SERVICES - 2})


@pytest.mark.parametrize(
    "change",
    [
        {"wanted": -1},
        {"service": "../x"},
        {"reason": "two\nlines"},
        {"did": "something"},
        {"demand": "much"},
        {"more": 1},
        {"cost": -1.0},
    ],
)
def test_what_is_no_decision_is_refused(desk: ControlDesk, change: dict[str, Any]) -> None:
    assert enter(desk, entry(60.0, **change))[0] == 422
    assert client(desk, "read").get("/v1/scaling").json() == []


def test_reading_takes_one_token_and_writing_another(desk: ControlDesk) -> None:
    assert enter(desk, entry(60.0), scope="read")[0] == 403
    for path in ("/v1/scaling", "/v1/scaling/newest", "/v1/queue"):
        assert client(desk, None).get(path).status_code == 401


def test_the_queue_counts_what_is_wanted_to_run(desk: ControlDesk) -> None:
    reader = client(desk, "read")
    assert reader.get("/v1/queue").json() == {"waiting": 0, "running": 0}
    desk.store.jobs.submit(make_plan(rounds=3), desk.charter_hash, {})
    assert reader.get("/v1/queue").json() == {"waiting": 1, "running": 0}
    desk.store.claim(JOB, "run").set_status("running")
    assert reader.get("/v1/queue").json() == {"waiting": 0, "running": 1}
    desk.store.jobs.want(JOB, "stop", "operator")
    assert reader.get("/v1/queue").json() == {"waiting": 0, "running": 0}
