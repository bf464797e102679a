"""The page's files and its stream: what they let a browser do, who may listen, and that nothing is missed."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import pytest
from desks import SECRETS, client, open_test_desk
from federation import JOB, make_plan
from served import serve
from test_control import submit, train

from hansa.contract.jobs import WarmStart
from hansa.contract.plan import with_start
from hansa.server.control.desk import ControlDesk
from hansa.server.control.problems import Full
from hansa.server.control.web.hub import Hub
from hansa.server.control.web.reading import Cursor, read_logs
from hansa.server.control.web.routes import HEADERS, EventStream

Message = tuple[str, dict[str, Any]]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ControlDesk]:
    with open_test_desk(tmp_path) as made:
        yield made


class Stream:
    """Messages of a stream as a browser reads them."""

    def __init__(self, answer: httpx.Response) -> None:
        self.lines = answer.iter_lines()

    def message(self) -> Message:
        cursor = ""
        for line in self.lines:
            if line.startswith("id: "):
                cursor = line[4:]
            elif line.startswith("data: "):
                return cursor, json.loads(line[6:])
        raise AssertionError("the stream ended")

    def until(self, field: str) -> Message:
        """The next message that holds a field."""
        while True:
            cursor, told = self.message()
            if field in told:
                return cursor, told


@contextmanager
def listening(
    url: str, scope: str = "read", after: str = "", job: str | None = None
) -> Iterator[tuple[httpx.Response, Stream]]:
    headers = {"Authorization": f"Bearer {SECRETS[scope]}", **({"Last-Event-ID": after} if after else {})}
    asked = httpx.stream(
        "GET", f"{url}/v1/stream", params={"job": job} if job else {}, headers=headers, timeout=10
    )
    with asked as answer:
        yield answer, Stream(answer)


def names(told: dict[str, Any]) -> list[int]:
    return [it["round"] for it in told.get("rounds", [])]


def test_its_files_need_no_token_and_let_nothing_in_from_elsewhere(desk: ControlDesk) -> None:
    folder = resources.files("hansa.server.control.web") / "assets"
    browser = client(desk, None)
    for name in ("", *(f"page/{it.name}" for it in folder.iterdir())):
        answer = browser.get(f"/{name}")
        assert answer.status_code == 200, name
        assert {it: answer.headers[it] for it in HEADERS} == HEADERS
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "*" not in policy
    for name in ("../__init__.py", "%2e%2e/__init__.py", "none.js"):
        assert browser.get(f"/page/{name}").status_code == 404


def test_its_markup_holds_no_script_no_style_and_no_address() -> None:
    folder = resources.files("hansa.server.control.web") / "assets"
    for it in folder.iterdir():
        text = it.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/)", text), it.name
        assert "innerHTML" not in text, it.name
        if it.name.endswith(".html"):
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", text)


def test_its_wheel_would_hold_every_file() -> None:
    import tomllib

    root = Path(__file__).parent.parent.parent
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert listed["hansa.server.control.web"] == ["assets/*"]
    assert all(it.is_file() for it in (root / "server/control/web/assets").iterdir())


@pytest.mark.parametrize("scope", ["read", "write"])
def test_a_page_that_opens_is_told_everything_at_once(desk: ControlDesk, scope: str) -> None:
    submit(desk)
    train(desk, 3)
    with serve(desk) as url, listening(url, scope) as (answer, stream):
        assert answer.headers["content-type"].startswith("text/event-stream")
        cursor, told = stream.message()
    assert told["fresh"]
    assert told["opening"]["scope"] == scope
    assert told["opening"]["charter"]["mode"] == "clear"
    assert any("mode clear" in it for it in told["opening"]["warnings"])
    assert told["job"]["job"] == JOB
    assert names(told) == [1, 2, 3]
    assert told["rounds"][0]["members"]["a"] == {"outcome": "replied", "seconds": 0.25}
    assert [(it["round"], it["name"]) for it in told["figures"]] == [(0, "auc"), (1, "auc"), (2, "auc")]
    assert {it["name"] for it in told["members"]} == {"a", "b", "c", "d"}
    assert Cursor.parse(cursor) == Cursor(JOB, 3, desk.store.history.newest_event())


def test_listening_takes_a_token_that_may_read(desk: ControlDesk) -> None:
    assert client(desk, None).get("/v1/stream").status_code == 401
    assert client(desk, "sign").get("/v1/stream").status_code == 403
    assert client(desk, "read").get("/v1/stream", params={"job": "none"}).status_code == 404
    # Never a token in an address: it would stand in logs.
    assert client(desk, None).get("/v1/stream", params={"token": SECRETS["read"]}).status_code == 401


def test_what_happens_is_told_and_what_did_not_change_is_not(desk: ControlDesk) -> None:
    submit(desk)
    with serve(desk) as url, listening(url) as (_, stream):
        stream.message()
        desk.store.members.hold("b", "sick", by="operator")
        _, told = stream.until("members")
        assert [it["held"] for it in told["members"]] == [None, "sick", None, None]
        assert [it["kind"] for it in told["events"]] == ["member-held"]
        assert not {"opening", "rounds", "knobs", "job"} & set(told)
        train(desk, 2)
        _, told = stream.until("rounds")
        assert names(told)[0] == 1


def test_a_page_that_comes_again_is_told_what_it_missed_and_no_more(desk: ControlDesk) -> None:
    submit(desk, rounds=9)
    train(desk, 3)
    with serve(desk) as url:
        with listening(url) as (_, stream):
            cursor, _ = stream.message()
        desk.store.members.hold("a", "sick", by="operator")
        journal = desk.store.claim(JOB, "run 2")
        desk.store.jobs.want(JOB, "pause", "operator")
        journal.set_status("paused")
        with listening(url, after=cursor) as (_, stream):
            later, told = stream.message()
        assert not told["fresh"]
        assert "rounds" not in told
        assert [it["kind"] for it in told["events"]] == ["member-held", "job-wanted", "job-status"]
        # A round that was undone is told by the newest one that stands.
        kept = desk.store.jobs.kept(JOB)
        back = min(kept)
        desk.store.jobs.roll_back(JOB, back, by="operator", reason="it diverged")
        with listening(url, after=later) as (_, stream):
            _, told = stream.message()
        assert told["newest"] == back < 3


def test_a_cursor_that_is_none_of_ours_begins_anew(desk: ControlDesk) -> None:
    submit(desk)
    train(desk, 2)
    with serve(desk) as url:
        for after in ("nonsense", f"{'0' * 32}.1.1.1.1", "-1.0.0.0.0", f"{JOB}.{'1' * 400}.0.0.0"):
            with listening(url, after=after) as (_, stream):
                _, told = stream.message()
            assert told["fresh"]
            assert names(told) == [1, 2]


def test_an_attempt_that_ends_after_a_later_one_is_not_passed(desk: ControlDesk) -> None:
    submit(desk)
    train(desk, 1)
    journal = desk.store.claim(JOB, "run 2")
    journal.open_attempt("train", base=1, cohort=("a", "b", "c", "d"), left_out={}, knobs={})
    job = desk.store.jobs.get(JOB)
    _, cursor = read_logs(desk, job, Cursor())
    assert desk.store.history.settled_attempt(JOB) == 1
    assert cursor.attempt == 1


def test_a_round_that_is_applied_while_the_store_is_read_is_not_taken_for_undone(
    desk: ControlDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(desk)
    plain = read_logs

    def applied_meanwhile(*given: Any) -> Any:
        train(desk, 2)
        return plain(*given)

    async def opened() -> bytes:
        return await anext(Hub(desk, every_s=60).join(None, "read", None).pieces())

    def once(*given: Any) -> Any:
        monkeypatch.setattr("hansa.server.control.web.hub.read_logs", applied_meanwhile)
        return plain(*given)

    # The feed begins with a look of its own; the round is applied within the page's opening.
    monkeypatch.setattr("hansa.server.control.web.hub.read_logs", once)
    told = json.loads(asyncio.run(opened()).split(b"data: ")[1])
    assert told["newest"] >= max(names(told)) == 2


def test_a_new_job_is_followed_by_whoever_follows_what_runs(desk: ControlDesk) -> None:
    with serve(desk) as url, listening(url) as (_, stream):
        _, told = stream.message()
        assert told["job"] is None
        submit(desk)
        _, told = stream.until("job")
        assert told["fresh"]
        assert told["job"]["job"] == JOB


def test_control_ends_its_streams_when_it_ends(desk: ControlDesk) -> None:
    lines: list[str] = []
    with ExitStack() as pages, ExitStack() as served:
        url = served.enter_context(serve(desk))
        _, stream = pages.enter_context(listening(url))
        stream.message()
        began = time.monotonic()
        reader = threading.Thread(target=lambda: lines.extend(stream.lines), daemon=True)
        reader.start()
        served.close()
        reader.join(timeout=10)
        assert not reader.is_alive()
    # Sooner than the grace after which connections are cut.
    assert time.monotonic() - began < 2.5
    assert lines == [""]


def test_only_so_many_listen_and_whoever_leaves_makes_room(desk: ControlDesk) -> None:
    async def scenario() -> None:
        hub = Hub(desk, most=2)
        first, _ = hub.join(None, "read", None), hub.join(JOB, "read", None)
        with pytest.raises(Full, match="2 pages listen already"):
            hub.join(None, "read", None)
        first.leave()
        hub.join(None, "read", None)
        hub.close()
        with pytest.raises(Full):
            hub.join(None, "read", None)

    asyncio.run(scenario())


def test_too_many_are_told_so_in_a_sentence(desk: ControlDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise Full("32 pages listen already")

    monkeypatch.setattr(Hub, "join", full)
    answer = client(desk).get("/v1/stream")
    assert (answer.status_code, answer.json()) == (503, {"detail": "32 pages listen already"})


def test_a_page_that_does_not_read_is_bounded_and_sent_away(desk: ControlDesk) -> None:
    async def scenario() -> list[bytes]:
        hub = Hub(desk, room=4)
        listener = hub.join(None, "read", None)
        for number in range(100):
            listener.offer(b"data: %d\n\n" % number)
        pieces = [it async for it in listener.pieces()]
        listener.leave()
        return pieces

    first, *rest = asyncio.run(scenario())
    assert first.startswith(b"id: ")
    assert rest == [b"event: behind\ndata: {}\n\n"]


def test_a_page_that_takes_nothing_is_gone_after_a_while(desk: ControlDesk) -> None:
    async def scenario() -> int:
        hub = Hub(desk)
        stream = EventStream(hub.join(None, "read", None), stalled_s=0.05)

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                await asyncio.sleep(60)

        await asyncio.wait_for(stream({"type": "http"}, receive, send), 5)
        return hub.listening

    assert asyncio.run(scenario()) == 0


def test_silence_is_broken_by_heartbeats_and_nobody_looks_without_listeners(desk: ControlDesk) -> None:
    async def scenario() -> tuple[bytes, int]:
        hub = Hub(desk, every_s=60, heartbeat_s=0.05)
        listener = hub.join(None, "read", None)
        pieces = listener.pieces()
        await anext(pieces)
        beat = await anext(pieces)
        tasks = len(asyncio.all_tasks())
        listener.leave()
        await asyncio.sleep(0.01)
        return beat, tasks - len(asyncio.all_tasks())

    beat, gone = asyncio.run(scenario())
    assert beat == b": alive\n\n"
    assert gone == 1


def test_a_job_is_submitted_as_it_stands_in_a_file(desk: ControlDesk) -> None:
    body = {"toml": 'rounds = 7\nname = "spring"\n[pinned]\nserver_rate = 0.3\n'}
    assert client(desk, "read").post("/v1/jobs/text", json=body).status_code == 403
    made = client(desk).post("/v1/jobs/text", json=body).json()
    assert (made["name"], made["plan"]["rounds"], made["plan"]["pinned"]) == (
        "spring",
        7,
        {"server_rate": 0.3},
    )
    again = client(desk).post("/v1/jobs/text", json={"toml": "rounds = 2", "like": made["job"]}).json()
    assert again["name"] == "spring"
    assert again["job"] != made["job"]


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("rounds = ", "not valid TOML"),
        ("rounds = 0", "field 'rounds'"),
        ("raunds = 1", "field 'raunds' is not known"),
        ("[pinned]\nserver_rate = 9.0", "lets server_rate move"),
        ('[rule]\nname = "nope"', "rule.name"),
    ],
)
def test_what_is_no_job_is_refused_in_a_sentence(desk: ControlDesk, toml: str, says: str) -> None:
    answer = client(desk).post("/v1/jobs/text", json={"toml": toml})
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert desk.store.jobs.all() == []


@pytest.mark.parametrize("warm", [False, True])
def test_a_plan_of_ours_starts_another_like_it(desk: ControlDesk, warm: bool) -> None:
    model = WarmStart(job="2" * 32, contract="1" * 64, weights="0" * 64, parameters=3)
    plan = make_plan(rounds=4)
    shown = (with_start(plan, model) if warm else plan).model_dump(mode="json")
    # What `toml` in the page's own script takes out of the plain fields.
    script = resources.files("hansa.server.control.web").joinpath("assets/job.js").read_text()
    [taken] = re.findall(r"const \{ ([\w, ]+), \.\.\.plain \} = plan;", script)
    rule = {name: it for name, it in shown["rule"].items() if it is not None}
    plain = {name: it for name, it in shown.items() if name not in taken.split(", ")}
    # A JSON object is no TOML value.
    assert not any(isinstance(it, dict) for it in plain.values())
    lines = [f"{name} = {json.dumps(it)}" for name, it in plain.items()]
    lines += ["[rule]", *(f"{name} = {json.dumps(it)}" for name, it in rule.items())]
    made = client(desk).post("/v1/jobs/text", json={"toml": "\n".join(lines)})
    assert made.status_code == 201, made.text
    assert made.json()["plan"] | {"job": JOB} == plan.model_dump(mode="json")
