"""Figures of control for Prometheus, and the memory of the consortium's processes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from hansa.contract.exposition import CONTENT_TYPE
from hansa.contract.process_figures import process_meter, resident_bytes
from hansa.server.control.access import may_read, may_steer
from hansa.server.control.desk import Desk
from hansa.server.control.figures import control_figures
from hansa.server.control.problems import RESPONSES
from hansa.server.control.processes import MOST_PROCESSES, ProcessReading, ProcessRecord

reading = APIRouter(tags=["processes"], dependencies=[Depends(may_read)], responses=RESPONSES)
writing = APIRouter(tags=["processes"], dependencies=[Depends(may_steer)], responses=RESPONSES)

_Readings = Annotated[list[ProcessReading], Field(max_length=MOST_PROCESSES)]


@reading.get("/metrics", summary="Figures for Prometheus, in its text format")
def metrics(desk: Desk) -> Response:
    """Sums over the store are made anew at each request; they outlive control."""
    meter = process_meter("control", lambda: control_figures(desk))
    return Response(meter.text(), media_type=CONTENT_TYPE)


@reading.get("/v1/processes", summary="Memory of the consortium's processes")
def list_processes(desk: Desk) -> list[ProcessRecord]:
    """As the sidecar read it last; a member's own processes are its own affair."""
    return desk.processes.all()


@writing.post("/v1/processes", summary="Enter what processes hold now")
def enter_processes(readings: _Readings, desk: Desk) -> list[ProcessReading]:
    """Answers control's own. An alarm that was not there before becomes a line of the event log."""
    for it in desk.processes.enter(readings):
        desk.store.events.append("memory", f"{it.process}: {it.alarm}")
    return [ProcessReading(process="control", resident=resident_bytes())]
