"""Demand for executors, and what the scaler decided about each service."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from hansa.contract.scaling import ScalingEntry
from hansa.server.control.access import may_read, may_steer
from hansa.server.control.desk import Desk
from hansa.server.control.problems import RESPONSES
from hansa.server.records import QueueRecord, ScalingRecord

reading = APIRouter(prefix="/v1", tags=["scaling"], dependencies=[Depends(may_read)], responses=RESPONSES)
writing = APIRouter(prefix="/v1", tags=["scaling"], dependencies=[Depends(may_steer)], responses=RESPONSES)

_MOST = 1000


@reading.get("/queue", summary="How many jobs wait, and how many run")
def show_queue(desk: Desk) -> QueueRecord:
    """Those that are wanted to run: what executors are for."""
    waiting, running = desk.store.jobs.queue()
    return QueueRecord(waiting=waiting, running=running)


@reading.get("/scaling", summary="What the scaler decided, the newest last")
def list_scaling(
    desk: Desk,
    service: str | None = None,
    after: Annotated[int, Query(ge=0, description="Only those with a number above this")] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> list[ScalingRecord]:
    """Of one service or of all, each with its reason, its forecast and its cost; the newest week is kept."""
    return desk.store.scaling.of(service, after=after, limit=limit)


@reading.get("/scaling/newest", summary="The newest decision about each service")
def list_newest(desk: Desk) -> list[ScalingRecord]:
    """By name of the service."""
    return desk.store.scaling.newest()


@writing.post("/scaling", summary="Enter decisions about services")
def enter_scaling(
    entries: Annotated[list[ScalingEntry], Field(max_length=_MOST)], desk: Desk
) -> dict[str, int]:
    """Each service and moment once; says how many were new."""
    return {"entered": desk.store.scaling.enter(entries)}
