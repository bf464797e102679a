"""Counts the SuperLink's requests: path, status, seconds. Paths that Flower does not have are one: `other`."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hansa.contract.exposition import OTHER, Family, Meter
from hansa.server.lane.calls import PATHS

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 5.0, 15.0, 30.0)

REQUESTS = Family(
    "hansa_superlink_requests_total", "counter", "Requests by path and status.", ("path", "code"), 400
)
SECONDS = Family(
    "hansa_superlink_request_seconds",
    "histogram",
    "From a request to its answer; pulls are held until there is something, 15 s at most.",
    ("path",),
    50,
    _BUCKETS,
)
OPEN = Family("hansa_superlink_requests_in_flight", "gauge", "Requests that are being answered or held.")
LANE = Family("hansa_superlink_lane", "gauge", "1 while the direct lane serves, 0 where it stepped aside.")
NODES = Family("hansa_superlink_registered_nodes", "gauge", "Nodes that may join.")
CERTIFICATE = Family(
    "hansa_certificate_expiry_timestamp_seconds",
    "gauge",
    "When a certificate runs out.",
    ("certificate",),
    10,
)


class Counted:
    """An application whose HTTP requests are counted; another kind passes."""

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self._app, self._meter, self._open = app, meter, 0
        meter.declare(REQUESTS, SECONDS, OPEN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in PATHS else OTHER
        began, code = time.perf_counter(), "none"

        async def noted(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = str(message["status"])
            await send(message)

        self._moved(1)
        try:
            await self._app(scope, receive, noted)
        finally:
            self._moved(-1)
            self._meter.add(REQUESTS, path, code)
            self._meter.observe(SECONDS, time.perf_counter() - began, path)

    def _moved(self, by: int) -> None:
        self._open += by
        self._meter.set(OPEN, to=self._open)
