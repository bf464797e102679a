"""What has happened: attempts, rounds, metrics, events. Reads only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Row, and_, func, select

from hansa.contract.jobs import MetricValue, Participation
from hansa.server.records import AttemptRecord, EventRecord, MetricRecord, RoundRecord
from hansa.server.store import checkpoints
from hansa.server.store.database import Database
from hansa.server.store.moments import moment
from hansa.server.store.tables import attempts, events, metrics, participation, rounds

_PARTICIPATION = [participation.c[name] for name in Participation.model_fields]


class History:
    """The store's past, as records."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def attempts(self, job: str, *, after: int = 0, limit: int = 1000) -> list[AttemptRecord]:
        """Attempts with a number above `after`, oldest first."""
        with self._database.read() as connection:
            query = select(attempts).where(attempts.c.job == job, attempts.c.attempt > after)
            rows = connection.execute(query.order_by(attempts.c.attempt).limit(limit)).all()
            parts = _participation(connection, job, [row.attempt for row in rows])
        return [_attempt(row, parts.get(row.attempt, ())) for row in rows]

    def open_attempt(self, job: str) -> AttemptRecord | None:
        """The attempt that is under way, or None."""
        with self._database.read() as connection:
            row = connection.execute(
                select(attempts).where(attempts.c.job == job, attempts.c.status == "open")
            ).first()
        return None if row is None else _attempt(row, ())

    def summed_attempt(self, job: str) -> AttemptRecord | None:
        """The attempt whose sum is known and is not applied yet, or None."""
        with self._database.read() as connection:
            row = connection.execute(
                select(attempts).where(attempts.c.job == job, attempts.c.status == "summed")
            ).first()
        return None if row is None else _attempt(row, ())

    def tag(self, job: str) -> str | None:
        """Tag of the state after the newest round, in mode `he`; None where it is not known."""
        newest = select(rounds.c.tag).where(rounds.c.job == job).order_by(rounds.c.round.desc()).limit(1)
        with self._database.read() as connection:
            return connection.execute(newest).scalar()

    def settled_attempt(self, job: str) -> int:
        """Number of the newest attempt below all that are not over; 0 before the first."""
        own, unsettled = attempts.c.job == job, attempts.c.status.in_(("open", "summed"))
        with self._database.read() as connection:
            first = connection.execute(select(func.min(attempts.c.attempt)).where(own, unsettled)).scalar()
            newest = connection.execute(select(func.max(attempts.c.attempt)).where(own)).scalar()
        return (newest or 0) if first is None else first - 1

    def rounds(
        self, job: str, *, after: int = 0, above_attempt: int = 0, limit: int = 1000
    ) -> list[RoundRecord]:
        """Rounds above `after` made by attempts above another number, oldest first, with their models' figures."""
        which = and_(rounds.c.round > after, rounds.c.attempt > above_attempt)
        with self._database.read() as connection:
            rows = connection.execute(_rounds(job, which).limit(limit)).all()
            parts = _participation(connection, job, [row.attempt for row in rows])
            figures = _figures(connection, job, [row.round for row in rows])
        return [_round(row, parts.get(row.attempt, ()), figures.get(row.round, {})) for row in rows]

    def round(self, job: str, number: int) -> RoundRecord | None:
        """One round, or None."""
        found = self.rounds(job, after=number - 1, limit=1)
        return found[0] if found and found[0].round == number else None

    def metrics(
        self,
        job: str,
        *,
        after: int = -1,
        above_attempt: int = 0,
        name: str | None = None,
        limit: int = 10_000,
    ) -> list[MetricRecord]:
        """Figures of the models after round `after`, measured by attempts above another number, oldest first."""
        query = select(metrics).where(
            metrics.c.job == job, metrics.c.round > after, metrics.c.attempt > above_attempt
        )
        if name is not None:
            query = query.where(metrics.c.name == name)
        with self._database.read() as connection:
            rows = connection.execute(
                query.order_by(metrics.c.round, metrics.c.attempt, metrics.c.name).limit(limit)
            ).all()
        return [_metric(row) for row in rows]

    def events(self, *, after: int = 0, job: str | None = None, limit: int = 1000) -> list[EventRecord]:
        """Lines of the log with an id above `after`, oldest first."""
        query = select(events).where(events.c.id > after)
        if job is not None:
            query = query.where(events.c.job == job)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(events.c.id).limit(limit)).all()
        return [_event(row) for row in rows]

    def newest_events(self, job: str, *, kind: str, limit: int) -> list[EventRecord]:
        """The newest lines of one kind about a job, the newest first."""
        query = select(events).where(events.c.job == job, events.c.kind == kind)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(events.c.id.desc()).limit(limit)).all()
        return [_event(row) for row in rows]

    def newest_event(self) -> int:
        """The newest line's id, 0 before the first."""
        with self._database.read() as connection:
            return connection.execute(select(events.c.id).order_by(events.c.id.desc()).limit(1)).scalar() or 0

    def checkpoint(self, job: str, number: int) -> dict[str, NDArray[Any]] | None:
        """The state after round `number`, None where it is not kept any more."""
        with self._database.read() as connection:
            return checkpoints.read(connection, job, number)


def _participation(
    connection: Connection, job: str, numbers: list[int]
) -> Mapping[int, tuple[Participation, ...]]:
    found: dict[int, list[Participation]] = defaultdict(list)
    if numbers:
        between = and_(participation.c.attempt >= numbers[0], participation.c.attempt <= numbers[-1])
        query = (
            select(participation.c.attempt, *_PARTICIPATION)
            .where(participation.c.job == job, between)
            .order_by(participation.c.attempt, participation.c.member)
        )
        for attempt, *values in connection.execute(query):
            found[attempt].append(Participation(**dict(zip(Participation.model_fields, values, strict=True))))
    return {number: tuple(parts) for number, parts in found.items()}


def _figures(connection: Connection, job: str, numbers: list[int]) -> Mapping[int, dict[str, MetricValue]]:
    found: dict[int, dict[str, MetricValue]] = defaultdict(dict)
    if numbers:
        between = and_(metrics.c.round >= numbers[0], metrics.c.round <= numbers[-1])
        query = (
            select(metrics).where(metrics.c.job == job, between).order_by(metrics.c.attempt, metrics.c.name)
        )
        for row in connection.execute(query):
            found[row.round][row.name] = MetricValue(value=row.value, error=row.error)
    return found


def _rounds(job: str, which: ColumnElement[bool]) -> Any:
    own = and_(attempts.c.job == rounds.c.job, attempts.c.attempt == rounds.c.attempt)
    query = (
        select(attempts, rounds.c.applied, rounds.c.step, rounds.c.slope, rounds.c.slope_error)
        .join(attempts, own)
        .where(rounds.c.job == job, which)
    )
    return query.order_by(rounds.c.round)


def _attempt(row: Row[Any], parts: tuple[Participation, ...]) -> AttemptRecord:
    return AttemptRecord(
        job=row.job,
        attempt=row.attempt,
        kind=row.kind,
        status=row.status,
        base=row.base,
        round=row.round,
        cohort=tuple(row.cohort),
        active=None if row.active is None else tuple(row.active),
        left_out=row.left_out,
        knobs=row.knobs,
        seconds=row.seconds,
        reason=row.reason,
        opened=moment(row.opened),
        closed=moment(row.closed),
        participation=parts,
    )


def _round(row: Row[Any], parts: tuple[Participation, ...], figures: dict[str, MetricValue]) -> RoundRecord:
    return RoundRecord(
        job=row.job,
        round=row.round,
        attempt=row.attempt,
        base=row.base,
        cohort=tuple(row.cohort),
        active=tuple(row.active),
        left_out=row.left_out,
        knobs=row.knobs,
        seconds=row.seconds,
        applied=moment(row.applied),
        step=row.step,
        slope=None if row.slope is None else MetricValue(value=row.slope, error=row.slope_error),
        metrics=figures,
        participation=parts,
    )


def _metric(row: Row[Any]) -> MetricRecord:
    return MetricRecord(
        job=row.job, round=row.round, attempt=row.attempt, name=row.name, value=row.value, error=row.error
    )


def _event(row: Row[Any]) -> EventRecord:
    return EventRecord(
        id=row.id,
        at=moment(row.at),
        job=row.job,
        kind=row.kind,
        member=row.member,
        sentence=row.sentence,
        facts=row.facts,
    )
