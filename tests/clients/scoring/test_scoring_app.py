"""The HTTP API, in this process."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scoring_side import LABELS, ROW, TOKEN, application, ask, facts, publish

from hansa.clients.scoring.app import Limits, ScoringApp

BEARER = {"authorization": f"Bearer {TOKEN.decode()}"}
ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture
def app(tmp_path: Path) -> ScoringApp:
    publish(tmp_path / "served", personal=True)
    return application(tmp_path / "served", token=TOKEN, limits=Limits(row=2000, batch=20_000))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ScoringApp:
    """One for many examples."""
    path = tmp_path_factory.mktemp("served") / "served"
    publish(path)
    return application(path, token=TOKEN)


def asked(app: ScoringApp, method: str, path: str, **request: Any) -> httpx.Response:
    headers = {**BEARER, **request.pop("headers", {})}
    return asyncio.run(ask(app, method, path, headers=headers, **request))


def test_every_way_to_send_a_row_gets_its_score(app: ScoringApp) -> None:
    one = asked(app, "POST", "/v1/score", json=ROW).json()
    assert one["model"] == app.desk.serving.version
    assert 0 < one["score"] < 1
    batch = asked(app, "POST", "/v1/score/batch", json=[ROW, {**ROW, "age": None}]).json()
    assert batch["scores"][0] == pytest.approx(one["score"], abs=1e-12)
    assert batch["scores"][1] != batch["scores"][0]
    raw = np.array([[44.5, 12, 1, 1, np.nan], [np.nan, 12, 1, 1, np.nan]], dtype="<f4")
    answer = asked(
        app,
        "POST",
        "/v1/score/batch",
        content=raw.tobytes(),
        headers={"content-type": "application/octet-stream"},
    )
    assert answer.headers["x-hansa-model"] == one["model"]
    np.testing.assert_allclose(np.frombuffer(answer.content, "<f4"), batch["scores"], atol=1e-6)
    stream = io.BytesIO()
    pl.DataFrame([ROW, {**ROW, "age": None}]).write_ipc_stream(stream)
    for accept in ("*/*", "application/json"):
        answer = asked(
            app,
            "POST",
            "/v1/score/batch",
            content=stream.getvalue(),
            headers={"content-type": ARROW, "accept": accept},
        )
        scores = answer.json()["scores"] if accept != "*/*" else np.frombuffer(answer.content, "<f4")
        np.testing.assert_allclose(scores, batch["scores"], atol=1e-6)


@pytest.mark.parametrize("label", LABELS)
def test_answers_suit_the_label(tmp_path: Path, label: str) -> None:
    publish(tmp_path / "served", facts(label))
    app = application(tmp_path / "served")
    one = asked(app, "POST", "/v1/score", json=ROW).json()
    (many,) = asked(app, "POST", "/v1/score/batch", json=[ROW]).json()["scores"]
    if label == "multiclass":
        assert one["scores"] == pytest.approx(dict(zip("xyz", many, strict=True)))
        assert sum(many) == pytest.approx(1)
        assert one["class"] == max(one["scores"], key=one["scores"].get)
    else:
        assert one["score"] == pytest.approx(many, abs=1e-12)


@pytest.mark.parametrize(
    ("request_", "status", "sentence"),
    [
        ({"json": {**ROW, "age": "old"}}, 422, "column 'age': expected a number"),
        (
            {"json": {**ROW, "ward": "d"}},
            422,
            "column 'ward': expected one of 'a', 'b', 'c' or null, found 'd'",
        ),
        ({"json": {**ROW, "odd": 1}}, 422, "column 'odd' is not in the contract"),
        ({"content": b"{"}, 400, "the body is no JSON"),
        ({"content": b'{"age": NaN}'}, 400, "the body is no JSON"),
        ({"content": b"\xff\xfe"}, 400, "the body is no JSON"),
        ({"content": b""}, 400, "the body is no JSON"),
        ({"content": b"[" * 1999}, 400, "the body is"),
        ({"content": b" " * 2001}, 413, "a body of 2001 bytes; at most 2000 are taken"),
        (
            {"json": ROW, "headers": {"authorization": "Bearer nobody"}},
            401,
            "the bearer token is missing or wrong",
        ),
    ],
)
def test_a_wrong_request_gets_a_status_and_one_line(
    app: ScoringApp, request_: dict[str, Any], status: int, sentence: str
) -> None:
    answer = asked(app, "POST", "/v1/score", **request_)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(sentence)
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("kind", "content", "status", "sentence"),
    [
        ("application/json", b"[]", 422, "no rows"),
        ("application/json", b"{}", 422, "expected a JSON array of rows"),
        ("application/json", b'[{"age": 1}]', 422, "row 1: column 'sum paid' is missing"),
        ("application/octet-stream", b"123", 422, "expected rows of 5 float32"),
        ("application/octet-stream", b"", 422, "no rows"),
        ("application/octet-stream", np.full(10, np.inf, "<f4").tobytes(), 422, "row 1: column 'age'"),
        (ARROW, b"ARROW1", 422, "the body is no Arrow IPC stream"),
        ("application/json", b" " * 20_001, 413, "a body of 20001 bytes"),
        ("application/json", b'[{"age": 1e999}]', 400, "row 1: the body is no JSON"),
        ("text/csv", b"age,bmi\n1,2\n", 415, "a batch of text/csv is not taken; send application/json"),
        ("Application/JSON; charset=utf-8", b"[]", 422, "no rows"),
        ("application/x-www-form-urlencoded", b"[]", 422, "no rows"),
    ],
)
def test_a_wrong_batch_gets_a_status_and_one_line(
    app: ScoringApp, kind: str, content: bytes, status: int, sentence: str
) -> None:
    answer = asked(app, "POST", "/v1/score/batch", content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.json()["error"].startswith(sentence)


def test_a_batch_names_the_row_beyond_the_first_chunk(tmp_path: Path) -> None:
    publish(tmp_path / "served")
    app = application(tmp_path / "served")
    rows = np.zeros((5000, 5), "<f4")
    rows[4999, 2] = 9
    answer = asked(
        app,
        "POST",
        "/v1/score/batch",
        content=rows.tobytes(),
        headers={"content-type": "application/octet-stream"},
    )
    assert answer.json()["error"].startswith("row 5000: column 'ward'")


def test_who_looks_sees_the_model_and_the_counts(app: ScoringApp) -> None:
    for row in (ROW, {**ROW, "age": 99}, {**ROW, "age": None, "ward": None}, {**ROW, "age": "x"}):
        asked(app, "POST", "/v1/score", json=row)
    model = asked(app, "GET", "/v1/model").json()
    assert (model["job"], model["round"], model["member"]) == ("ab" * 16, 3, "a")
    assert model["sha256"].startswith(model["model"])
    assert [column["name"] for column in model["columns"]] == ["age", "sum paid", "ward", "code", "extra"]
    text = asyncio.run(ask(app, "GET", "/metrics")).text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert figures['hansa_scoring_requests_total{path="/v1/score",code="200"}'] == "3"
    assert figures['hansa_scoring_requests_total{path="/v1/score",code="422"}'] == "1"
    assert figures['hansa_scoring_seconds_count{path="/v1/score"}'] == "4"
    assert figures["hansa_scoring_rows_total"] == "3"
    assert figures['hansa_scoring_clipped_values_total{column="age"}'] == "1"
    assert figures['hansa_scoring_absent_values_total{column="ward"}'] == "1"
    assert figures["hansa_scoring_in_flight"] == "0"
    assert f'model="{model["model"]}"' in text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/score", 405), ("POST", "/v1/model", 405), ("GET", "/", 404), ("GET", "/healthz", 200)],
)
def test_paths_and_methods(app: ScoringApp, method: str, path: str, status: int) -> None:
    assert asked(app, method, path).status_code == status


def test_a_process_that_drains_says_so_and_goes_on_answering(app: ScoringApp) -> None:
    assert asked(app, "GET", "/readyz").status_code == 200
    app.draining = True
    assert asked(app, "GET", "/readyz").status_code == 503
    assert asked(app, "GET", "/healthz").status_code == 200
    answer = asked(app, "POST", "/v1/score", json=ROW)
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.just("a\nb\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
rows = st.fixed_dictionaries({}, optional=dict.fromkeys([*ROW, "extra", "odd", "y"], values))


@given(
    body=st.binary(max_size=50)
    | values.map(lambda it: json.dumps(it).encode())
    | rows.map(lambda it: json.dumps(it).encode())
    | rows.map(lambda it: json.dumps({**ROW, **it}).encode()),
    kind=st.sampled_from(["application/json", "application/octet-stream", ARROW]),
)
def test_nothing_that_is_sent_is_a_failure_of_our_own(served: ScoringApp, body: bytes, kind: str) -> None:
    for path, content in (
        ("/v1/score", body),
        ("/v1/score/batch", body),
        ("/v1/score/batch", b"[%b]" % body),
    ):
        answer = asked(served, "POST", path, content=content, headers={"content-type": kind})
        assert answer.status_code in (200, 400, 422)
        if answer.status_code != 200:
            sentence = answer.json()["error"]
            assert sentence
            assert not {"\n", "\ud800"} & set(sentence)


@pytest.mark.parametrize("values", [[[1.0]], [b"x"], [{"a": 1}], [date(2026, 1, 1)]])
def test_arrow_columns_of_other_types_are_refused_by_name(app: ScoringApp, values: list[object]) -> None:
    for name in ("age", "ward"):
        stream = io.BytesIO()
        pl.DataFrame({**{key: [it] for key, it in ROW.items()}, name: values}).write_ipc_stream(stream)
        answer = asked(
            app, "POST", "/v1/score/batch", content=stream.getvalue(), headers={"content-type": ARROW}
        )
        assert answer.status_code == 422
        assert f"column '{name}'" in answer.json()["error"]


def test_a_failure_of_our_own_logs_no_value(
    app: ScoringApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app.desk.coder, "row", lambda row: 1 / len([it for it in row if it == "never"]))
    answer = asked(app, "POST", "/v1/score", json={**ROW, "age": 44.125})
    assert answer.status_code == 500
    assert "ZeroDivisionError at" in caplog.text
    assert "44.125" not in caplog.text


def test_a_head_without_a_body_holds_no_place_for_long(
    app: ScoringApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hansa.clients.scoring.app._BODY_S", 0.05)

    async def silent() -> Any:
        await asyncio.sleep(60)

    async def call() -> int:
        said: list[Any] = []

        async def send(message: Any) -> None:
            said.append(message)

        headers = [(b"authorization", f"Bearer {TOKEN.decode()}".encode()), (b"content-length", b"9")]
        scope = {"type": "http", "method": "POST", "path": "/v1/score/batch", "headers": headers}
        await asyncio.wait_for(app(scope, silent, send), 10)
        return int(said[0]["status"])

    assert asyncio.run(call()) == 408


@pytest.mark.parametrize("body", [b"[" + b"0," * 5000 + b"0]", b"[" + b"[]," * 5000 + b"[]]"])
def test_a_batch_of_what_are_no_rows_is_refused_before_it_is_split(
    app: ScoringApp, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.desk.reader, "_raw", None)
    answer = asked(app, "POST", "/v1/score/batch", content=body)
    assert answer.status_code == 422
    assert "array of rows" in answer.text


def test_a_batch_of_too_many_rows_says_how_many_it_may_have(
    app: ScoringApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hansa.clients.scoring.rows.MOST_ROWS", 3)
    answer = asked(app, "POST", "/v1/score/batch", json=[ROW] * 4)
    assert answer.status_code == 422
    assert "at most 3" in answer.text
