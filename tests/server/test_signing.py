"""The ServerApp's side of signing: it outlasts a control that is away, and says why one refuses."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import httpx
import pytest

from hansa.contract.errors import ConnectionFailed, HansaError, InputError
from hansa.contract.keys import to_text
from hansa.server.config import ServerConfig
from hansa.server.signing import ControlOperator, sign_token

SIGNED = {"signatures": [to_text(b"s" * 64)]}
TOKEN = "sign-0123456789abcdef"


class Answers:
    """A control that gives these answers in order, the last for ever."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def operator(answers: Answers, patience: float = 60.0) -> tuple[ControlOperator, list[float]]:
    waits: list[float] = []
    transport = httpx.MockTransport(answers)
    return ControlOperator(
        "http://control", TOKEN, patience=patience, sleep=waits.append, transport=transport
    ), waits


def test_a_header_travels_in_base64_under_the_token() -> None:
    answers = Answers(httpx.Response(200, json=SIGNED))
    asking, _ = operator(answers)
    assert asking.sign_headers("ab", [b"{}"]) == [b"s" * 64]
    assert json.loads(answers.asked[0].content) == {"job": "ab", "headers": ["e30="]}
    assert answers.asked[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_it_asks_again_while_control_is_away_and_logs_it_once(caplog: pytest.LogCaptureFixture) -> None:
    away = httpx.ConnectError("refused")
    asking, waits = operator(Answers(away, away, httpx.Response(503), httpx.Response(200, json=SIGNED)))
    with caplog.at_level(logging.WARNING):
        assert asking.sign_headers("ab", [b"{}"]) == [b"s" * 64]
    assert waits == [0.1, 0.2, 0.4]
    assert len(caplog.records) == 1
    assert TOKEN not in caplog.text


def test_its_patience_ends() -> None:
    asking, _ = operator(Answers(httpx.ConnectError("refused")), patience=0.05)
    with pytest.raises(ConnectionFailed, match="http://control has not answered"):
        asking.sign_headers("ab", [b"{}"])


def test_a_refusal_is_not_asked_again() -> None:
    answers = Answers(httpx.Response(409, json={"detail": "attempt 2 is not open"}))
    asking, waits = operator(answers)
    with pytest.raises(HansaError, match="control does not sign: attempt 2 is not open"):
        asking.sign_headers("ab", [b"{}"])
    assert (len(answers.asked), waits) == (1, [])


def test_the_token_comes_from_the_file_beside_server_toml(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text(json.dumps({"sign": TOKEN}))
    config = ServerConfig()
    assert sign_token(tmp_path / "server.toml", config) == TOKEN


BAD_TOKENS = {
    "not JSON": ("sign = x", "not valid JSON"),
    "a list": ("[]", "expected an object"),
    "no sign": (json.dumps({"read": "r" * 16}), "field 'sign' is missing"),
    "short": (json.dumps({"sign": "short"}), "at least 16 characters"),
    "unknown": (json.dumps({"admin": "a" * 16}), "field 'admin' is not known"),
    "shared": (json.dumps({"sign": "s" * 16, "read": "s" * 16}), "share one secret"),
}


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_a_tokens_file_that_will_not_do_is_named(tmp_path: Path, name: str) -> None:
    content, sentence = BAD_TOKENS[name]
    (tmp_path / "tokens.json").write_text(content)
    with pytest.raises(InputError, match=sentence) as caught:
        sign_token(tmp_path / "server.toml", ServerConfig())
    assert "tokens.json" in str(caught.value)
