"""What every part of control works with: the store, the charter, the operator's key."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import Depends, Request
from numpy.typing import NDArray

from hansa.contract.charter import Charter
from hansa.contract.errors import InputError
from hansa.contract.jobs import JobPlan
from hansa.contract.keys import SigningKey, from_text
from hansa.contract.signatures import verify_charter
from hansa.server.config import ServerConfig
from hansa.server.control.problems import Conflict, NotThere
from hansa.server.control.processes import ProcessTable
from hansa.server.control.submission import check_plan, check_start
from hansa.server.records import JobRecord
from hansa.server.store import Store, open_store
from hansa.server.tokens import Tokens, load_tokens
from hansa.strategies.apply import ModelState


@dataclass(frozen=True)
class ControlDesk:
    """Control's state; all of it that changes and must last is in the store."""

    store: Store
    charter: Charter
    charter_hash: str
    key: SigningKey
    tokens: Tokens
    # HOST:PORT of Flower's Control API.
    superlink: str
    # The job that a run which names none works on, where no keeper starts runs (`flwr run` by hand).
    own_job: Path | None = None
    processes: ProcessTable = field(default_factory=ProcessTable)

    def submit(self, plan: JobPlan, start: NDArray[np.float64] | None = None) -> JobRecord:
        """Queue a job that the charter allows; a plan that is known already is the job it made.

        Parameters
        ----------
        start : weights of the model that the plan starts from; None where it names none, and in mode `he`
        """
        found = self.store.jobs.find(plan.job)
        if found is not None and found.plan == plan:
            return found
        check_plan(plan, self.charter, datetime.now(UTC))
        check_start(plan, start, self.charter)
        defaults = {name: knob.default for name, knob in self.charter.knobs.items()}
        state = None if start is None else ModelState.start(start).arrays()
        return self.store.jobs.submit(plan, self.charter_hash, defaults, state)

    def job(self, job: str) -> JobRecord:
        """The job of that id, or of the only job whose id begins so; raises `NotThere`."""
        found = self.store.jobs.find(job)
        if found is None and len(job) >= 4:
            alike = [it for it in self.store.jobs.all() if it.job.startswith(job)]
            found = alike[0] if len(alike) == 1 else None
        if found is None:
            raise NotThere(f"there is no job '{job}'; see: hansa jobs list")
        return found

    def resume(self, job: JobRecord, by: str, reason: str = "", *, only_own: bool = False) -> JobRecord:
        """Queue a job again that is under the charter in force; raises `Conflict` for one of another."""
        if job.charter != self.charter_hash:
            raise Conflict(f"job {job.job} {self._of_another(job)}; submit a new job")
        return self.store.jobs.want(job.job, "run", by, reason, only_own=only_own)

    def stop_what_was_superseded(self) -> tuple[list[JobRecord], list[JobRecord]]:
        """Stop the jobs of the charter before, with which no member goes on; these, and those of other charters.

        The others may be another consortium's, or those of a control with a newer charter: they are let be.
        """
        others = [it for it in self.store.jobs.unfinished() if it.charter != self.charter_hash]
        before = [it for it in others if it.charter == self.charter.previous]
        for it in before:
            self.store.jobs.settle(it.job, "stopped", self._of_another(it), "control")
        return before, [it for it in others if it not in before]

    def _of_another(self, job: JobRecord) -> str:
        return (
            f"is bound to charter {job.charter[:12]}…; in force is version {self.charter.version}, "
            f"{self.charter_hash[:12]}…"
        )


def open_desk(
    config: ServerConfig, folder: Path, superlink: str, *, own_job: Path | None = None
) -> ControlDesk:
    """Read what `server.toml` names.

    Raises
    ------
    InputError : a file is missing or wrong, or the key is not the operator's key of the charter
    """
    verified = verify_charter(folder / config.charter, folder / config.signatures)
    path = folder / config.operator_key
    key = SigningKey.load(path)
    if key.public != from_text(verified.charter.operator_key):
        raise InputError(f"{path}: not the operator's key that the charter names")
    return ControlDesk(
        store=open_store(config.store, folder),
        charter=verified.charter,
        charter_hash=verified.hash,
        key=key,
        tokens=load_tokens(folder / config.tokens),
        superlink=superlink,
        own_job=own_job,
    )


# A coroutine, so that it goes through no thread.
async def _desk(request: Request) -> ControlDesk:
    desk: ControlDesk = request.app.state.desk
    return desk


Desk = Annotated[ControlDesk, Depends(_desk)]
