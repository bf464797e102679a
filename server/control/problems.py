"""What control answers when it does not do what was asked: a status and one sentence."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from hansa.contract.errors import ConnectionFailed, HansaError, InputError
from hansa.contract.typed import Frozen


class Problem(Frozen):
    """One sentence: what is wrong and what to do."""

    detail: str


class NotThere(HansaError):
    """There is no such job, round or member."""


class Conflict(HansaError):
    """What was asked does not fit the state things are in."""


class Full(HansaError):
    """As many of something as may be are there; later there may be room."""


class Unauthorized(HansaError):
    """No token, or an unknown one."""


class Forbidden(HansaError):
    """A token that does not allow this."""


_STATUS: tuple[tuple[type[HansaError], int], ...] = (
    (Unauthorized, 401),
    (Forbidden, 403),
    (NotThere, 404),
    (InputError, 422),
    (ConnectionFailed, 503),
    (Full, 503),
    (HansaError, 409),
)

# For the OpenAPI document: what every operation may answer besides its result.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": meaning}
    for status, meaning in (
        (401, "No valid token"),
        (403, "The token does not allow this"),
        (404, "There is no such thing"),
        (409, "It does not fit the state things are in"),
        (422, "What was sent is wrong"),
    )
}


def answer_problems(app: FastAPI) -> None:
    """Turn every `HansaError`, and every body that does not parse, into a status and one sentence."""

    @app.exception_handler(HansaError)
    def _problem(_request: Request, error: HansaError) -> JSONResponse:
        status = next(code for kind, code in _STATUS if isinstance(error, kind))
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        return JSONResponse({"detail": str(error)}, status, headers)

    @app.exception_handler(RequestValidationError)
    def _malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": _sentence(error)}, 422)


def _sentence(error: RequestValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    if first["type"] == "extra_forbidden":
        return f"field '{field}' is not known here; remove it or correct its name"
    if first["type"] == "missing":
        return f"field '{field}' is missing"
    message = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    given = repr(first.get("input"))
    return f"field '{field}': {message} (got {given if len(given) <= 60 else given[:57] + '...'})"
