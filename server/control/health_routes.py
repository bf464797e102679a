"""`GET /v1/health`: is control alive, does its store answer, is the SuperLink there. Needs no token."""

from __future__ import annotations

import socket
from typing import Literal

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError

from hansa import __version__
from hansa.server.control.desk import Desk
from hansa.server.replies import Health

router = APIRouter(prefix="/v1", tags=["health"])

_SUPERLINK_TIMEOUT_S = 0.5


@router.get("/health", summary="Is everything there?")
def health(desk: Desk) -> Health:
    """Answers 200 whenever control itself lives."""
    try:
        event, store = desk.store.history.newest_event(), True
    except SQLAlchemyError:
        event, store = 0, False
    superlink = _reachable(desk.superlink)
    status: Literal["ok", "degraded"] = "ok" if store and superlink else "degraded"
    return Health(status=status, version=__version__, store=store, superlink=superlink, event=event)


def _reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SUPERLINK_TIMEOUT_S).close()
    except OSError:
        return False
    return True
