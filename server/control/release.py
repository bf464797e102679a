"""The released model: weights as safetensors, and what they mean as JSON."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from hansa.contract.jobs import MetricValue
from hansa.contract.segments import PREPARATION
from hansa.server.control.desk import ControlDesk
from hansa.server.control.problems import Conflict
from hansa.server.records import JobRecord
from hansa.server.replies import Release
from hansa.strategies.apply import ModelState
from hansa.strategies.contract_check import released


def describe(desk: ControlDesk, job: JobRecord) -> Release:
    """What the released model is; raises `Conflict` where there is none to hand out."""
    number, arrays = _released(desk, job)
    task = desk.charter.task
    found = desk.store.history.metrics(job.job, after=number - 1)
    return Release(
        job=job.job,
        name=job.name,
        charter=job.charter,
        task=task.title,
        mode=desk.charter.protection.mode,
        round=number,
        model=task.model,
        columns=list(task.features.encoded),
        label=task.features.label,
        parameters=arrays["weights"].size,
        prepared=PREPARATION in arrays,
        figures={it.name: MetricValue(value=it.value, error=it.error) for it in found if it.round == number},
    )


def tensors(desk: ControlDesk, job: JobRecord) -> bytes:
    """A safetensors file with the tensor `weights`, f64[d]; raises `Conflict` where there is none.

    Beside it stands `preparation`, f64[2p + 1], where the model needs its columns as the contract check prepared
    them and that cannot be taken into the weights: centre and scale of each column, and the start.
    """
    number, arrays = _released(desk, job)
    metadata = {
        "job": job.job,
        "round": str(number),
        "charter": job.charter,
        "model": desk.charter.task.model.name,
        "contract": desk.charter.task.features.digest,
    }
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=metadata)


def _released(desk: ControlDesk, job: JobRecord) -> tuple[int, dict[str, NDArray[np.float64]]]:
    if desk.charter.protection.mode == "he":
        raise Conflict("in mode 'he' the server never sees the model; each member exports its own copy")
    if job.charter != desk.charter_hash:
        raise Conflict(f"job {job.job} was run under another charter; its columns are not known here")
    arrays = desk.store.history.checkpoint(job.job, job.round)
    if arrays is None or job.round == 0:
        raise Conflict(f"job {job.job} has no applied round yet, so there is no model to export")
    handed = released(ModelState.from_arrays(arrays), desk.charter)
    return job.round, {"weights" if name == "released" else name: array for name, array in handed.items()}
