"""Going back to a kept round: what came after it counts no more, and everything about it stays in the books."""

from __future__ import annotations

from sqlalchemy import Connection, and_, delete, func, or_, select, update

from hansa.server.store import checkpoints, events
from hansa.server.store.journal import abandon_open, newest_round
from hansa.server.store.tables import attempts, metrics, rounds
from hansa.strategies.journal_laws import rollback_sentence, rollback_target, undone_sentence


def undo_rounds(connection: Connection, job: str, to: int | None, *, by: str, reason: str) -> int:
    """Undo a job's rounds above `to`, by default the best evaluated one; the newest round that there was.

    Attempts, participation and receipts stay: each was charged, and its number is never taken again.

    Raises
    ------
    InputError : that round's state is not kept
    """
    newest, kept = newest_round(connection, job), checkpoints.kept(connection, job)
    best = next((number for number, is_best in kept.items() if is_best), None)
    to = rollback_target(to, newest=newest, kept=kept, best=best)
    abandon_open(connection, job, undone_sentence(to, reason))
    # Figures of a round that is undone would be taken for those of the next one of its number.
    connection.execute(delete(metrics).where(metrics.c.job == job, metrics.c.round > to))
    first = select(func.min(rounds.c.attempt)).where(rounds.c.job == job, rounds.c.round > to)
    tried = connection.execute(first).scalar()
    checkpoints.drop_after(connection, job, to)
    connection.execute(delete(rounds).where(rounds.c.job == job, rounds.c.round > to))
    connection.execute(
        update(attempts)
        .where(
            attempts.c.job == job,
            attempts.c.status.in_(("applied", "evaluated")),
            # What tried an undone step started from a round that stands.
            or_(
                attempts.c.round > to,
                attempts.c.base > to,
                and_(attempts.c.kind == "evaluate", attempts.c.attempt > tried),
            ),
        )
        .values(status="undone", reason=undone_sentence(to, reason))
    )
    facts: dict[str, str | int | float] = {"from": newest, "to": to, "by": by}
    sentence = rollback_sentence(by, newest, to, reason)
    events.append(connection, "rolled-back", sentence, job=job, facts=facts)
    return newest
