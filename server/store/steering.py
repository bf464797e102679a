"""What operators and the tuner set while a job runs: knobs, and members held out of selection."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, insert, select, update

from hansa.contract.errors import HansaError
from hansa.contract.jobs import JobPlan
from hansa.server.records import KnobRecord, MemberRecord
from hansa.server.store import events
from hansa.server.store.database import Database
from hansa.server.store.moments import moment
from hansa.server.store.tables import attempts, jobs, knobs, members


class Knobs:
    """A job's hyper-parameters. Ranges are the charter's: whoever sets a value has checked it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, job: str) -> list[KnobRecord]:
        """The job's knobs, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(knobs).where(knobs.c.job == job).order_by(knobs.c.name))
            return [_knob(row) for row in rows]

    def set(self, job: str, values: dict[str, float], *, by: str, reason: str = "") -> list[KnobRecord]:
        """Set some values, all or none; they hold from the next attempt on.

        Raises
        ------
        HansaError : the job has no such knob, or it is pinned
        """
        with self._database.write() as connection:
            rows = connection.execute(select(knobs).where(knobs.c.job == job).with_for_update())
            known = {row.name: row for row in rows}
            for name, value in values.items():
                if name not in known:
                    raise HansaError(
                        f"job {job} has no knob '{name}'; it has {', '.join(sorted(known)) or 'none'}"
                    )
                if known[name].pinned:
                    raise HansaError(f"knob '{name}' is pinned to {known[name].value:g} for this job")
                connection.execute(
                    update(knobs)
                    .where(knobs.c.job == job, knobs.c.name == name)
                    .values(value=value, set_by=by, reason=reason, at=time.time())
                )
                events.append(
                    connection,
                    "knob-set",
                    f"{by} set {name} from {known[name].value:g} to {value:g}"
                    + (f": {reason}" if reason else ""),
                    job=job,
                    facts={"knob": name, "value": value},
                )
        return self.of(job)

    def pin(
        self, job: str, names: Collection[str], pinned: bool, *, by: str, reason: str = ""
    ) -> list[KnobRecord]:
        """Hold knobs where they are, whoever wants to move them, or let them be moved again; all or none.

        Raises
        ------
        HansaError : the job has no such knob, or its plan pins it, which members have approved
        """
        with self._database.write() as connection:
            row = connection.execute(select(jobs.c.plan).where(jobs.c.id == job)).one()
            in_plan = JobPlan.model_validate_json(row.plan).pinned
            rows = connection.execute(select(knobs).where(knobs.c.job == job).with_for_update())
            known = {row.name: row for row in rows}
            for name in names:
                if name not in known:
                    raise HansaError(
                        f"job {job} has no knob '{name}'; it has {', '.join(sorted(known)) or 'none'}"
                    )
                if name in in_plan and not pinned:
                    raise HansaError(f"the job's plan pins '{name}'; members approved it so, and it stays")
                if known[name].pinned == pinned:
                    continue
                mine = (knobs.c.job == job) & (knobs.c.name == name)
                values = {"pinned": pinned, "set_by": by, "reason": reason, "at": time.time()}
                connection.execute(update(knobs).where(mine).values(values))
                what = "pinned" if pinned else "opened"
                events.append(
                    connection,
                    f"knob-{what}",
                    f"{by} {what} {name} at {known[name].value:g}" + (f": {reason}" if reason else ""),
                    job=job,
                    facts={"knob": name},
                )
        return self.of(job)


class Members:
    """Presence as last seen, and holds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[MemberRecord]:
        """Every member ever seen or held, by name."""
        with self._database.read() as connection:
            return [_member(row) for row in connection.execute(select(members).order_by(members.c.name))]

    def hold(self, name: str, reason: str, *, by: str) -> None:
        """Keep a member out of selection from the next attempt on."""
        self._set(name, reason, by)

    def release(self, name: str, *, by: str) -> None:
        """Let a member be selected again."""
        self._set(name, None, by)

    def _set(self, name: str, reason: str | None, by: str) -> None:
        values: dict[str, Any] = {"held": reason, "held_by": by if reason is not None else ""}
        with self._database.write() as connection:
            changed = connection.execute(update(members).where(members.c.name == name).values(values))
            if not changed.rowcount:
                row = values | {"name": name, "present": False, "node": ""}
                connection.execute(insert(members), row)
            kind, sentence = ("member-released", f"{by} released {name}")
            if reason is not None:
                kind, sentence = ("member-held", f"{by} holds {name} out: {reason}")
            events.append(connection, kind, sentence, member=name)


class Signed:
    """What control has signed for an attempt: one order and one active set, ever (PROTOCOL 4)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def order(self, job: str, attempt: int, digest: str) -> str | None:
        """The digest of an attempt's order: this one, unless another was settled before; durable on return.

        None where the attempt is not open any more.
        """
        found = self._settle(job, attempt, "order_digest", digest)
        return None if found is None else str(found)

    def settled_order(self, job: str, attempt: int) -> str | None:
        """The digest of the order that was signed for an attempt; None where none was, or it is not open any more."""
        under_way = attempts.c.status.in_(("open", "summed"))
        mine = (attempts.c.job == job) & (attempts.c.attempt == attempt) & under_way
        with self._database.read() as connection:
            found = connection.execute(select(attempts.c.order_digest).where(mine)).first()
        return None if found is None or found[0] is None else str(found[0])

    def active_set(self, job: str, attempt: int, active: tuple[str, ...]) -> tuple[str, ...] | None:
        """The active set of an attempt, in the same way."""
        found = self._settle(job, attempt, "active", list(active))
        return None if found is None else tuple(found)

    def _settle(self, job: str, attempt: int, column: str, value: Any) -> Any:
        mine = (attempts.c.job == job) & (attempts.c.attempt == attempt) & (attempts.c.status == "open")
        with self._database.write() as connection:
            found = connection.execute(select(attempts.c[column]).where(mine).with_for_update()).first()
            if found is None:
                return None
            if found[0] is not None:
                return found[0]
            connection.execute(update(attempts).where(mine).values({column: value}))
        return value


def _knob(row: Row[Any]) -> KnobRecord:
    return KnobRecord(
        name=row.name,
        value=row.value,
        pinned=row.pinned,
        set_by=row.set_by,
        reason=row.reason,
        at=moment(row.at),
    )


def _member(row: Row[Any]) -> MemberRecord:
    return MemberRecord(
        name=row.name,
        present=row.present,
        isolated=row.isolated,
        charter_version=row.charter_version,
        started=moment(row.started),
        seen=moment(row.seen),
        held=row.held,
        held_by=row.held_by,
        apart=row.apart,
        apart_since=moment(row.apart_since),
    )
