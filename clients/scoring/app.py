"""The HTTP API, as a plain ASGI application.

    POST /v1/score         one row, a JSON object of the contract's columns -> {"score", "model"}
    POST /v1/score/batch   rows: a JSON array, raw float32 (application/octet-stream) or an Arrow IPC stream
    GET  /v1/model         job, round, digest and contract of the model that serves, and since when
    GET  /healthz /readyz  whether the process runs; whether it wants requests
    GET  /metrics          for Prometheus

The first three ask for the bearer token where there is one. Errors are {"error": SENTENCE}. Neither rows nor
scores are logged.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from hansa.clients.scoring.arrow import encode_arrow, read_arrow
from hansa.clients.scoring.coder import Array, ValueRefused
from hansa.clients.scoring.rows import NUMBERS, NotJson
from hansa.clients.scoring.serving import Desk, Serving
from hansa.clients.scoring.tally import PATHS
from hansa.contract.errors import DataError
from hansa.contract.typed import clipped

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]

log = logging.getLogger("hansa.scoring")

JSON, BINARY, ARROW = b"application/json", b"application/octet-stream", b"application/vnd.apache.arrow.stream"
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_JSON_HEADERS: Headers = [(b"content-type", JSON)]
_CLOSE = (b"connection", b"close")
_SINGLE, _BATCH, _OTHER = range(len(PATHS))
# What a batch may be called: nothing, and what curl says where nobody says anything, count as JSON.
_TAKEN = (JSON, BINARY, ARROW, b"", b"application/x-www-form-urlencoded")


# Seconds in which a body must have come.
_BODY_S = 30.0


@dataclass(frozen=True)
class Limits:
    """Largest bodies in bytes; how many batches' bodies are held at once, and how many are worked on side by side."""

    row: int = 64 << 10
    batch: int = 16 << 20
    held: int = 8
    worked: int = 2


class Refused(Exception):
    """A request that ends here, with a status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class ScoringApp:
    """Answers requests from a desk.

    Parameters
    ----------
    token : what callers must bear; None: nothing
    """

    def __init__(self, desk: Desk, token: bytes | None = None, limits: Limits | None = None) -> None:
        self.desk = desk
        # When it is set, every answer closes its connection, and /readyz says no.
        self.draining = False
        self._expected = None if token is None else b"Bearer " + token
        self._limits = limits or Limits()
        self._held = asyncio.Semaphore(self._limits.held)
        self._worked = asyncio.Semaphore(self._limits.worked)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began, tally = perf_counter(), self.desk.tally
        path = {"/v1/score": _SINGLE, "/v1/score/batch": _BATCH}.get(scope["path"], _OTHER)
        # Probes and scrapes are no work that a scaler should add replicas for.
        counted = 0.0 if path == _OTHER else 1.0
        tally.add("in_flight", counted)
        try:
            status, headers, content = await self._answer(path, scope, receive)
        except Exception as error:
            status, sentence = _explained(error)
            # What a caller sent may stand in it: one line, and text.
            headers, content = _JSON_HEADERS, msgspec.json.encode({"error": clipped(sentence)})
        finally:
            tally.add("in_flight", -counted)
        headers = [*headers, (b"content-length", b"%d" % len(content))]
        # What is not read of a body would be taken for the next request.
        if self.draining or status in (401, 408, 413, 415):
            headers.append(_CLOSE)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})
        tally.answered(path, status, perf_counter() - began)

    async def _answer(self, path: int, scope: Scope, receive: Receive) -> Answer:
        if path == _OTHER:
            return self._look(scope)
        if scope["method"] != "POST":
            raise Refused(405, f"{scope['path']} takes POST")
        self._authorise(scope)
        if path == _BATCH:
            kind = _kind(scope)
            async with self._held:
                body = await _body(scope, receive, self._limits.batch)
                async with self._worked:
                    return await self._batch(scope, kind, body)
        body = await _body(scope, receive, self._limits.row)
        desk, serving = self.desk, self.desk.serving
        score = serving.predictor.one(desk.coder.row(desk.reader.one(body)))
        desk.tally.add("rows")
        return 200, _JSON_HEADERS, serving.said(score)

    async def _batch(self, scope: Scope, kind: bytes, body: bytes) -> Answer:
        serving, parts, done = self.desk.serving, [], 0
        try:
            async for X in self._encoded(kind, body):
                parts.append(serving.predictor.many(X))
                done += len(X)
                # Others get their turn.
                await asyncio.sleep(0)
        except ValueRefused as error:
            raise DataError(f"row {done + error.row + 1}: {error}") from None
        if not parts:
            raise DataError("no rows")
        scores = np.concatenate(parts)
        self.desk.tally.add("rows", len(scores))
        if kind in (BINARY, ARROW) and _header(scope, b"accept") != JSON:
            version = (b"x-hansa-model", serving.version.encode())
            return 200, [(b"content-type", BINARY), version], scores.astype("<f4").tobytes()
        return 200, _JSON_HEADERS, serving.said_of_many(scores)

    async def _encoded(self, kind: bytes, body: bytes) -> AsyncIterator[Array]:
        """Model columns of a batch, some rows at a time."""
        reader, coder = self.desk.reader, self.desk.coder
        if kind == BINARY:
            raw = reader.matrix(body)
            for start in range(0, len(raw), NUMBERS):
                yield coder.matrix(raw[start : start + NUMBERS])
        elif kind == ARROW:
            # Polars is large, and is loaded for those who send such batches alone.
            table = await asyncio.to_thread(read_arrow, body, coder.features)
            for start in range(0, table.height, NUMBERS):
                yield encode_arrow(table[start : start + NUMBERS], coder)
        else:
            for rows in reader.many(body):
                yield coder.rows(rows)

    def _look(self, scope: Scope) -> Answer:
        """Answers that read nothing but the desk."""
        path, desk = scope["path"], self.desk
        if path not in ("/healthz", "/readyz", "/metrics", "/v1/model"):
            raise Refused(
                404,
                f"nothing is at {path[:60]}; there are POST /v1/score, POST /v1/score/batch, GET /v1/model",
            )
        if scope["method"] not in ("GET", "HEAD"):
            raise Refused(405, f"{path} takes GET")
        if path == "/readyz" and self.draining:
            raise Refused(503, "draining")
        if path == "/metrics":
            return 200, [(b"content-type", _TEXT)], self._metrics()
        if path == "/v1/model":
            self._authorise(scope)
            return 200, _JSON_HEADERS, msgspec.json.encode(_described(desk.serving))
        return 200, _JSON_HEADERS, b'{"status":"ok"}'

    def _metrics(self) -> bytes:
        serving = self.desk.serving
        facts = {"model": serving.version, "job": serving.facts.job, "round": str(serving.facts.round or "")}
        return self.desk.tally.text(facts, serving.loaded, not self.draining).encode()

    def _authorise(self, scope: Scope) -> None:
        if self._expected is not None and not hmac.compare_digest(
            _header(scope, b"authorization"), self._expected
        ):
            raise Refused(401, "the bearer token is missing or wrong; send: Authorization: Bearer TOKEN")


def _described(serving: Serving) -> dict[str, Any]:
    """GET /v1/model."""
    facts = serving.facts
    return {
        "model": serving.version,
        "sha256": serving.digest,
        "job": facts.job,
        "round": facts.round,
        "member": facts.member,
        "kind": facts.model.name,
        "personal": facts.personal,
        "loaded": datetime.fromtimestamp(serving.loaded, UTC).isoformat(timespec="seconds"),
        "contract": facts.features.digest,
        "label": facts.features.label.model_dump(mode="json"),
        "columns": [column.model_dump(mode="json", exclude={"derived"}) for column in facts.features.columns],
    }


def _explained(error: Exception) -> tuple[int, str]:
    """Status and sentence of what went wrong."""
    if isinstance(error, Refused):
        return error.status, str(error)
    if isinstance(error, NotJson):
        return 400, str(error)
    if isinstance(error, DataError):
        return 422, str(error)
    if isinstance(error, RecursionError):
        return 400, "the body is nested too deeply"
    # Its message may hold a value of a row, and the log is no place for those.
    frames = traceback.extract_tb(error.__traceback__)
    log.error("a request failed: %s at %s:%s", type(error).__name__, frames[-1].filename, frames[-1].lineno)
    return 500, "the service failed; its log says where"


def _kind(scope: Scope) -> bytes:
    """The media type of a batch."""
    kind = _header(scope, b"content-type").partition(b";")[0].strip().lower()
    if kind not in _TAKEN:
        known = ", ".join(it.decode() for it in (JSON, BINARY, ARROW))
        raise Refused(415, f"a batch of {kind[:60].decode('latin-1')} is not taken; send {known}")
    return kind


def _header(scope: Scope, wanted: bytes) -> bytes:
    for name, value in scope["headers"]:
        if name == wanted:
            return bytes(value)
    return b""


async def _body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """A request's body, `limit` bytes at most."""
    length = _header(scope, b"content-length")
    if length and int(length) > limit:
        raise Refused(413, f"a body of {int(length)} bytes; at most {limit} are taken")
    try:
        # The first part, too: whoever sends a head and nothing more holds a place meanwhile.
        async with asyncio.timeout(_BODY_S):
            message = await receive()
            body: bytes = message.get("body", b"")
            if not message.get("more_body"):
                return body
            parts, size = [body], len(body)
            while message.get("more_body"):
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "the body broke off")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise Refused(413, f"a body of more than {limit} bytes")
    except TimeoutError:
        raise Refused(408, f"the body did not come within {_BODY_S:g} s") from None
    return b"".join(parts)
