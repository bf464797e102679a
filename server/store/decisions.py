"""What was decided about a job: each key once, and the knobs it set in the same transaction."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from hansa.contract.decisions import Decision
from hansa.contract.errors import HansaError
from hansa.server.records import DecisionRecord
from hansa.server.store import events
from hansa.server.store.database import Database
from hansa.server.store.moments import moment
from hansa.server.store.tables import decisions, knobs


class Decisions:
    """All jobs' decisions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, job: str, *, after: int = 0, limit: int = 1000) -> list[DecisionRecord]:
        """A job's decisions with an id above `after`, oldest first."""
        query = select(decisions).where(decisions.c.job == job, decisions.c.id > after)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query.order_by(decisions.c.id).limit(limit))]

    def newest(self, job: str, *, after: int = 0, limit: int) -> list[DecisionRecord]:
        """A job's newest decisions with an id above `after`, oldest first."""
        query = select(decisions).where(decisions.c.job == job, decisions.c.id > after)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(decisions.c.id.desc()).limit(limit)).all()
        return [_record(row) for row in reversed(rows)]

    def find(self, job: str, key: str) -> DecisionRecord | None:
        """One decision by its key, or None."""
        with self._database.read() as connection:
            row = connection.execute(_by_key(job, key)).first()
        return None if row is None else _record(row)

    def keep(
        self, job: str, decision: Decision, *, expected: dict[str, float] | None = None
    ) -> DecisionRecord:
        """Enter a decision and set its knobs, all or nothing; one whose key is there stays as it is.

        Parameters
        ----------
        expected : values that knobs had when it was made

        Raises
        ------
        HansaError : a knob is pinned, is not there, or has another value by now
        """
        with self._database.write() as connection:
            keep(connection, job, decision, expected=expected)
            row = connection.execute(_by_key(job, decision.key)).one()
        return _record(row)


def keep(
    connection: Connection,
    job: str,
    decision: Decision,
    *,
    expected: dict[str, float] | None = None,
    lenient: bool = False,
) -> bool:
    """Within the caller's transaction; False where the key is there already, and nothing was changed.

    Parameters
    ----------
    lenient : a knob that was pinned, or has another value by now, stays, and the rest is done
    """
    if connection.execute(_by_key(job, decision.key)).first() is not None:
        return False
    rows = connection.execute(select(knobs).where(knobs.c.job == job).with_for_update())
    known = {row.name: row for row in rows}
    expected = expected or {}
    if lenient:
        movable = {
            name: it
            for name, it in decision.knobs.items()
            if name in known
            and not known[name].pinned
            and known[name].value == expected.get(name, known[name].value)
        }
        decision, expected = decision.model_copy(update={"knobs": movable}), {}
    for name, value in expected.items():
        if name not in known or known[name].value != value:
            now = f"{known[name].value:g}" if name in known else "not there"
            raise HansaError(
                f"knob '{name}' is {now} by now, and the decision was made when it was {value:g}; decide anew"
            )
    for name, value in decision.knobs.items():
        if name not in known:
            raise HansaError(f"job {job} has no knob '{name}'; it has {', '.join(sorted(known)) or 'none'}")
        if known[name].pinned:
            raise HansaError(f"knob '{name}' is pinned to {known[name].value:g} for this job")
        mine = (knobs.c.job == job) & (knobs.c.name == name)
        values = {"value": value, "set_by": decision.by, "reason": decision.sentence, "at": time.time()}
        connection.execute(update(knobs).where(mine).values(values))
    row = decision.model_dump(mode="json") | {"job": job, "at": time.time()}
    connection.execute(insert(decisions), row)
    events.append(
        connection,
        "decision",
        f"{decision.by}: {decision.sentence}",
        job=job,
        facts={"key": decision.key, **decision.knobs},
    )
    return True


def probe_wanted(connection: Connection, job: str) -> bool:
    """Whether a probe was asked for since the last one."""
    own = decisions.c.job == job
    asked = connection.execute(select(func.max(decisions.c.id)).where(own, decisions.c.probe)).scalar() or 0
    probed = (
        connection.execute(select(func.max(decisions.c.id)).where(own, decisions.c.by == "probe")).scalar()
        or 0
    )
    return asked > probed


def audited(connection: Connection, job: str) -> tuple[int, int] | None:
    """First and last round of the newest audit that was asked for; None where none ever was."""
    query = select(decisions.c.inputs).where(decisions.c.job == job, decisions.c.by == "audit")
    for inputs in connection.execute(query.order_by(decisions.c.id.desc())).scalars():
        first, last = inputs.get("first"), inputs.get("last")
        if isinstance(first, int) and isinstance(last, int):
            return first, last
    return None


def _by_key(job: str, key: str) -> Any:
    return select(decisions).where(decisions.c.job == job, decisions.c.key == key)


def _record(row: Row[Any]) -> DecisionRecord:
    return DecisionRecord(
        id=row.id,
        job=row.job,
        at=moment(row.at),
        key=row.key,
        by=row.by,
        round=row.round,
        sentence=row.sentence,
        knobs=row.knobs,
        probe=row.probe,
        inputs=row.inputs,
    )
