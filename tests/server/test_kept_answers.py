"""An answer is given again while nothing was written, and never after."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from desks import SECRETS, client, open_test_desk
from federation import JOB
from starlette.testclient import TestClient
from test_control import submit, train

from hansa.server.control.app import build_app
from hansa.server.control.desk import ControlDesk
from hansa.server.records import JobRecord


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ControlDesk]:
    with open_test_desk(tmp_path) as made:
        yield made


def as_scope(scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {SECRETS[scope]}"}


def test_nothing_is_read_twice_and_every_write_is_seen(
    desk: ControlDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(desk)
    at, reads = desk.store.jobs.find, []

    def find(job: str) -> JobRecord | None:
        reads.append(job)
        return at(job)

    monkeypatch.setattr(desk.store.jobs, "find", find)
    asker = client(desk, "read")
    first = asker.get(f"/v1/jobs/{JOB}")
    assert first.status_code == 200
    again = asker.get(f"/v1/jobs/{JOB}")
    assert (again.content, again.headers["content-type"]) == (first.content, first.headers["content-type"])
    assert len(reads) == 1
    train(desk, 1)
    assert asker.get(f"/v1/jobs/{JOB}").json()["round"] == 1
    desk.store.claim(JOB, "run 2").set_status("paused")
    assert asker.get(f"/v1/jobs/{JOB}").json()["status"] == "paused"
    assert len(reads) == 3


def test_what_another_process_writes_is_seen(desk: ControlDesk, tmp_path: Path) -> None:
    asker = client(desk, "read")
    before = asker.get("/v1/events").json()
    asker.get("/v1/events")
    program = (
        "import sys, hansa.server.store as s; store = s.open_store('sqlite:///' + sys.argv[1]); "
        "store.members.hold('a', 'drifts', by='operator'); store.close()"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "store.sqlite")], check=True)
    assert len(asker.get("/v1/events").json()) > len(before)
    assert asker.get("/v1/members").json()[0]["held"] == "drifts"


def test_nobody_gets_what_was_answered_to_another(desk: ControlDesk) -> None:
    app = TestClient(build_app(desk))
    assert app.get("/v1/members", headers=as_scope("read")).status_code == 200
    assert app.get("/v1/members").status_code == 401
    assert app.get("/v1/members", headers={"Authorization": "Bearer nobody"}).status_code == 401
    assert app.get("/v1/members", headers=as_scope("sign")).status_code == 403
    # Neither are refusals kept.
    assert app.get("/v1/jobs/" + "cd" * 16, headers=as_scope("read")).status_code == 404
    submit(desk)
    assert app.get(f"/v1/jobs/{JOB}", headers=as_scope("read")).status_code == 200
