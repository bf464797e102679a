"""`keeper.Runs` over Flower's Control API."""

from __future__ import annotations

from hansa.server.keeper import RunStatus
from hansa.server.runs import run_status, start_run, stop_run


class FlowerRuns:
    """Runs at one SuperLink, by the job they work on.

    Parameters
    ----------
    address : HOST:PORT of the SuperLink's inner listener
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def start(self, job: str) -> str:
        """Start a run that works on the job; its id."""
        return str(start_run(self._address, {"job": job}))

    def status(self, run: str) -> RunStatus:
        """Where the run stands."""
        state = run_status(self._address, int(run))
        if state is None:
            return "unknown"
        if state.finished:
            return "finished" if state.sub_status == "completed" else "failed"
        return "running" if state.status == "running" else "pending"

    def stop(self, run: str) -> None:
        """End the run, if it has not ended."""
        stop_run(self._address, int(run))
