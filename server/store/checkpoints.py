"""Checkpoints: safetensors blobs of a job's newest states and of the best evaluated one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save
from sqlalchemy import Connection, and_, delete, insert, select, update

from hansa.server.store.tables import checkpoints, metrics, starts
from hansa.strategies.journal_laws import KEPT, best_round, goodness


def write(connection: Connection, job: str, number: int, state: Mapping[str, NDArray[Any]]) -> None:
    """Keep the state after round `number` and drop those that neither are new nor were the best."""
    blob = save({name: np.ascontiguousarray(array) for name, array in state.items()})
    row = {"job": job, "round": number, "state": blob, "best": False, "at": time.time()}
    connection.execute(insert(checkpoints), row)
    old = and_(checkpoints.c.job == job, checkpoints.c.round <= number - KEPT, ~checkpoints.c.best)
    connection.execute(delete(checkpoints).where(old))


def write_start(connection: Connection, job: str, state: Mapping[str, NDArray[Any]]) -> None:
    """Keep what a job starts from, for as long as there is the job."""
    blob = save({name: np.ascontiguousarray(array) for name, array in state.items()})
    connection.execute(insert(starts), {"job": job, "state": blob})


def read_start(connection: Connection, job: str) -> dict[str, NDArray[Any]] | None:
    """What a job starts from, None where that is the seed's model or the server has it not."""
    blob = connection.execute(select(starts.c.state).where(starts.c.job == job)).scalar_one_or_none()
    return None if blob is None else load(bytes(blob))


def read(connection: Connection, job: str, number: int) -> dict[str, NDArray[Any]] | None:
    """The state after round `number`, None where it is not kept."""
    blob = connection.execute(
        select(checkpoints.c.state).where(checkpoints.c.job == job, checkpoints.c.round == number)
    ).scalar_one_or_none()
    return None if blob is None else load(bytes(blob))


def mark_best(connection: Connection, job: str, number: int, newest: int) -> None:
    """Keep the checkpoint of round `number`, whose figures have just come, if none before was better.

    `newest` is the job's newest round once this transaction is over. The best one before is dropped here if
    nothing else keeps it: to clear its mark first would write its whole state once more.
    """
    best = connection.execute(
        select(checkpoints.c.round).where(checkpoints.c.job == job, checkpoints.c.best)
    ).scalar_one_or_none()
    if best == number:
        return
    if best is not None:
        found = _goodness(connection, job, (number, best))
        now, before = found[number], found[best]
        if now is None or (before is not None and now < before):
            return
        before_it = and_(checkpoints.c.job == job, checkpoints.c.round == best)
        if best <= newest - KEPT:
            connection.execute(delete(checkpoints).where(before_it))
        else:
            connection.execute(update(checkpoints).where(before_it).values(best=False))
    it = and_(checkpoints.c.job == job, checkpoints.c.round == number)
    connection.execute(update(checkpoints).where(it).values(best=True))


def kept(connection: Connection, job: str) -> dict[int, bool]:
    """Rounds whose checkpoints are kept, each with whether it is the best evaluated one."""
    rows = connection.execute(select(checkpoints.c.round, checkpoints.c.best).where(checkpoints.c.job == job))
    return {row.round: row.best for row in rows}


def drop_after(connection: Connection, job: str, number: int) -> None:
    """Drop the checkpoints above a round, whose figures are gone already; the best that is left is the best."""
    after = and_(checkpoints.c.job == job, checkpoints.c.round > number)
    connection.execute(delete(checkpoints).where(after))
    left = kept(connection, job)
    if any(left.values()):
        return
    best = best_round(_figures(connection, job, tuple(left)))
    if best is not None:
        it = and_(checkpoints.c.job == job, checkpoints.c.round == best)
        connection.execute(update(checkpoints).where(it).values(best=True))


def _goodness(connection: Connection, job: str, numbers: tuple[int, ...]) -> dict[int, float | None]:
    found = _figures(connection, job, numbers)
    return {number: goodness(it) for number, it in found.items()}


def _figures(connection: Connection, job: str, numbers: tuple[int, ...]) -> dict[int, dict[str, float]]:
    rows = connection.execute(
        select(metrics.c.round, metrics.c.name, metrics.c.value)
        .where(metrics.c.job == job, metrics.c.round.in_(numbers))
        .order_by(metrics.c.attempt)
    )
    figures: dict[int, dict[str, float]] = {number: {} for number in numbers}
    for row in rows:
        figures[row.round][row.name] = row.value
    return figures
