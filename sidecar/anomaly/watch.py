"""All metrics of one job or service under one watch."""

from __future__ import annotations

from typing import Any, Literal

from .alarms import Alarm, Reading
from .ops import OpsMetric
from .rounds import RoundMetric

Profile = Literal["rounds", "ops"]

# A name that is new is watched only while there is room: memory stays bounded whatever names arrive.
MOST_METRICS = 64


class Watch:
    """One detector a metric, made when the metric is first read.

    Parameters
    ----------
    profile : `rounds` for loss, AUC, seconds, participation; `ops` for CPU, requests, bytes, memory
    """

    def __init__(self, profile: Profile) -> None:
        self.profile: Profile = profile
        self._metrics: dict[str, RoundMetric | OpsMetric] = {}

    def see(self, reading: Reading) -> Alarm | None:
        """Judge one reading beside the earlier ones of its metric and remember it.

        Errors
        ------
        ValueError : `at` is not a finite number, or the reading is of a 65th metric
        """
        watched = self._metrics.get(reading.metric)
        if watched is None:
            if len(self._metrics) >= MOST_METRICS:
                raise ValueError(f"{reading.metric} would be one metric too many: {MOST_METRICS} are watched")
            watched = RoundMetric(reading.metric) if self.profile == "rounds" else OpsMetric(reading.metric)
            self._metrics[reading.metric] = watched
        return watched.see(reading)

    def state(self) -> dict[str, Any]:
        """Everything the watch remembers, as JSON has it."""
        metrics = [watched.state() for watched in self._metrics.values()]
        return {"version": 1, "profile": self.profile, "metrics": metrics}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Watch:
        """What `state` wrote.

        Errors
        ------
        ValueError : the state is of another version
        """
        if state.get("version") != 1:
            raise ValueError(
                f"the watch's state is of version {state.get('version')}, not 1: start the watch anew"
            )
        made = cls(state["profile"])
        kind = RoundMetric if made.profile == "rounds" else OpsMetric
        made._metrics = {metric["metric"]: kind.restore(metric) for metric in state["metrics"]}
        return made
