"""Sums over the store for monitoring, made anew when asked: they are right after any restart."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import case, func, select

from hansa.server.store.database import Database
from hansa.server.store.tables import attempts, events, jobs, participation, receipts, rounds

# Kinds of events, codes of refusals: so many are told apart at most.
_MOST = 100


@dataclass(frozen=True)
class StoreFigures:
    """Counts by what they are divided by; times are Unix seconds.

    Parameters
    ----------
    attempts : by kind and status
    round_seconds : rounds of at most so many seconds, by bound; the last is all of them
    round_seconds_sum : of all rounds
    newest_round : when a job's newest round was applied, by job
    """

    jobs: dict[str, int]
    attempts: dict[tuple[str, str], int]
    participations: dict[str, int]
    refusals: dict[str, int]
    bytes_up: int
    bytes_down: int
    events: dict[str, int]
    receipts: int
    round_seconds: list[int]
    round_seconds_sum: float
    newest_round: dict[str, float]


class Figures:
    """Sums over everything that the store has."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, bounds: tuple[float, ...], live: tuple[str, ...]) -> StoreFigures:
        """All of them in one transaction.

        Parameters
        ----------
        bounds : upper bounds of seconds a round
        live : jobs whose newest round is asked for
        """
        own = (attempts.c.job == rounds.c.job) & (attempts.c.attempt == rounds.c.attempt)
        within = [func.sum(case((attempts.c.seconds <= it, 1), else_=0)) for it in bounds]
        lengths = select(*within, func.count(), func.sum(attempts.c.seconds))
        said = participation.c.code
        with self._database.read() as connection:

            def counts(query: object) -> dict[str, int]:
                return {str(name): int(count) for name, count in connection.execute(query)}  # type: ignore[call-overload]

            row = connection.execute(lengths.select_from(rounds.join(attempts, own))).one()
            by_kind = select(attempts.c.kind, attempts.c.status, func.count())
            traffic = connection.execute(
                select(func.sum(participation.c.bytes_up), func.sum(participation.c.bytes_down))
            ).one()
            newest = select(rounds.c.job, func.max(rounds.c.applied)).where(rounds.c.job.in_(live))
            many = func.count()
            return StoreFigures(
                jobs=counts(select(jobs.c.status, many).group_by(jobs.c.status)),
                attempts={
                    (kind, status): count
                    for kind, status, count in connection.execute(
                        by_kind.group_by(attempts.c.kind, attempts.c.status)
                    )
                },
                participations=counts(
                    select(participation.c.outcome, many).group_by(participation.c.outcome)
                ),
                refusals=counts(
                    select(said, many).where(said != "").group_by(said).order_by(many.desc()).limit(_MOST)
                ),
                bytes_up=int(traffic[0] or 0),
                bytes_down=int(traffic[1] or 0),
                events=counts(
                    select(events.c.kind, many).group_by(events.c.kind).order_by(many.desc()).limit(_MOST)
                ),
                receipts=connection.execute(select(func.count()).select_from(receipts)).scalar_one(),
                round_seconds=[int(it or 0) for it in row[:-1]],
                round_seconds_sum=float(row[-1] or 0.0),
                newest_round={
                    job: float(at) for job, at in connection.execute(newest.group_by(rounds.c.job))
                },
            )
