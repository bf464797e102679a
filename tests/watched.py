"""A control that really listens, with one running job whose rounds a test writes, and sidecars that look at it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from desks import SECRETS, open_test_desk
from federation import JOB, make_plan

from hansa.contract.jobs import AttemptResult, MetricValue, Participation
from hansa.server.control.app import build_app
from hansa.server.control.desk import ControlDesk
from hansa.sidecar.looking import Sidecar
from hansa.sidecar.memory import Memories
from hansa.sidecar.server_api import ServerApi
from hansa.strategies.ports import LeaseLost

COHORT = ("a", "b", "c", "d")


class WatchedJob:
    """One job in the store of a control that listens on a free port of this machine."""

    def __init__(self, desk: ControlDesk, url: str, folder: Path, **plan: Any) -> None:
        self.desk, self.url, self.folder = desk, url, folder
        knobs = {name: bounds.default for name, bounds in desk.charter.knobs.items()}
        desk.store.jobs.submit(make_plan(**{"rounds": 100_000, **plan}), desk.charter_hash, knobs)
        self.claim()

    def claim(self) -> None:
        """A run begins, as the keeper would start one."""
        self.journal = self.desk.store.claim(JOB, "run")
        self.journal.set_status("running")

    def train(
        self,
        metrics: Mapping[str, MetricValue],
        *,
        step: float | None = 0.1,
        seconds: float = 0.2,
        missing: tuple[str, ...] = (),
    ) -> int:
        """One more round whose base has these figures; its number. Another run goes on where the lease is lost."""
        try:
            return self._train(metrics, step, seconds, missing)
        except LeaseLost:
            self.claim()
            return self._train(metrics, step, seconds, missing)

    def _train(
        self, metrics: Mapping[str, MetricValue], step: float | None, seconds: float, missing: tuple[str, ...]
    ) -> int:
        base, knobs = self.journal.progress().round, self.journal.knobs()
        number = self.journal.open_attempt("train", base=base, cohort=COHORT, left_out={}, knobs=knobs)
        active = tuple(name for name in COHORT if name not in missing)
        result = AttemptResult(
            job=JOB,
            attempt=number,
            kind="train",
            status="applied",
            base=base,
            round=base + 1,
            cohort=COHORT,
            active=active,
            participation=tuple(
                Participation(
                    member=name,
                    outcome="replied" if name in active else "missing",
                    seconds=seconds if name in active else 5.0,
                )
                for name in COHORT
            ),
            knobs=knobs,
            metrics=dict(metrics),
            step=step,
            seconds=seconds,
        )
        self.journal.commit(result, {"weights": np.full(3, float(base + 1))})
        return base + 1

    def fail(self, reason: str) -> None:
        """An attempt that comes to nothing."""
        base, knobs = self.journal.progress().round, self.journal.knobs()
        number = self.journal.open_attempt("train", base=base, cohort=COHORT, left_out={}, knobs=knobs)
        result = AttemptResult(
            job=JOB,
            attempt=number,
            kind="train",
            status="failed",
            base=base,
            round=None,
            cohort=COHORT,
            active=COHORT,
            participation=(),
            knobs=knobs,
            seconds=0.1,
            reason=reason,
        )
        self.journal.commit(result, None)

    def sidecar(self, api: ServerApi | None = None) -> Sidecar:
        """A sidecar's process that has just started, over the folder of those before it."""
        return Sidecar(api or self.api(), Memories(self.folder / "sidecar"))

    def api(self) -> ServerApi:
        return ServerApi(self.url, SECRETS["write"])

    def decisions(self, by: str) -> list[Any]:
        """What was decided by that part, oldest first."""
        return [it for it in self.desk.store.decisions.of(JOB) if it.by == by]

    @property
    def rate(self) -> float:
        return {it.name: it.value for it in self.desk.store.knobs.of(JOB)}["server_rate"]

    @property
    def round(self) -> int:
        return self.desk.store.jobs.get(JOB).round


def loss_at(number: int, *, error: float = 0.002) -> dict[str, MetricValue]:
    """Figures of a curve that falls and levels off, with noise that is as large as it says."""
    noise = error * float(np.random.default_rng(number).standard_normal())
    loss = 0.35 + 0.34 * 0.9**number + noise
    return {
        "log_loss": MetricValue(value=loss, error=error),
        "auc": MetricValue(value=0.85 - 0.3 * 0.9**number - noise, error=error),
    }


@contextmanager
def watched(folder: Path, charter: Mapping[str, Any] | None = None, **plan: Any) -> Iterator[WatchedJob]:
    """A control that listens until the block ends."""
    folder.mkdir(exist_ok=True)
    with open_test_desk(folder, **(charter or {})) as desk, listening(desk) as port:
        yield WatchedJob(desk, f"http://127.0.0.1:{port}", folder, **plan)


@contextmanager
def listening(desk: ControlDesk, port: int = 0) -> Iterator[int]:
    """Control's application on a port of this machine."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        settings = uvicorn.Config(build_app(desk), log_config=None, access_log=False, ws="none")
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)
