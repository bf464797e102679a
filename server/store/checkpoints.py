"""Checkpoints: safetensors blobs of a job's newest two states and of the best evaluated one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save
from sqlalchemy import Connection, and_, delete, insert, select, update

from hansa.server.store.tables import checkpoints, metrics
from hansa.strategies.journal_laws import goodness

KEPT = 2


def write(connection: Connection, job: str, number: int, state: Mapping[str, NDArray[Any]]) -> None:
    """Keep the state after round `number` and drop those that neither are new nor were the best."""
    blob = save({name: np.ascontiguousarray(array) for name, array in state.items()})
    row = {"job": job, "round": number, "state": blob, "best": False, "at": time.time()}
    connection.execute(insert(checkpoints), row)
    old = and_(checkpoints.c.job == job, checkpoints.c.round <= number - KEPT, ~checkpoints.c.best)
    connection.execute(delete(checkpoints).where(old))


def read(connection: Connection, job: str, number: int) -> dict[str, NDArray[Any]] | None:
    """The state after round `number`, None where it is not kept."""
    blob = connection.execute(
        select(checkpoints.c.state).where(checkpoints.c.job == job, checkpoints.c.round == number)
    ).scalar_one_or_none()
    return None if blob is None else load(bytes(blob))


def mark_best(connection: Connection, job: str, number: int) -> None:
    """Keep the checkpoint of round `number`, whose figures have just come, if none before was better."""
    best = connection.execute(
        select(checkpoints.c.round).where(checkpoints.c.job == job, checkpoints.c.best)
    ).scalar_one_or_none()
    if best is not None and best != number:
        now, before = _goodness(connection, job, number), _goodness(connection, job, best)
        if now is None or (before is not None and now < before):
            return
    connection.execute(
        update(checkpoints).where(checkpoints.c.job == job).values(best=checkpoints.c.round == number)
    )


def _goodness(connection: Connection, job: str, number: int) -> float | None:
    rows = connection.execute(
        select(metrics.c.name, metrics.c.value)
        .where(metrics.c.job == job, metrics.c.round == number)
        .order_by(metrics.c.attempt)
    )
    return goodness({row.name: row.value for row in rows})
