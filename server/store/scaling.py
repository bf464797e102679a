"""What the scaler decided, each service and moment once; the newest of each service are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, func, insert, select

from hansa.contract.scaling import DemandBand, ScalingEntry
from hansa.server.records import ScalingRecord
from hansa.server.store.database import Database
from hansa.server.store.tables import scaling

# A week of minutes.
KEPT = 7 * 24 * 60
# Names of services that there may be, so that no client fills the store.
MOST_SERVICES = 64
_PLAIN = [name for name in ScalingEntry.model_fields if name != "band"]


class Scaling:
    """Decisions about all services."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enter(self, entries: Sequence[ScalingEntry]) -> int:
        """Enter those that are not there, and drop what is older than the newest `KEPT`; how many were new.

        Entries of more than `MOST_SERVICES` services are not taken.
        """
        new = 0
        with self._database.write() as connection:
            known = set(connection.execute(select(scaling.c.service).distinct()).scalars())
            for it in entries:
                own = scaling.c.service == it.service
                there = connection.execute(select(scaling.c.id).where(own, scaling.c.at == it.at)).first()
                if there is not None or (it.service not in known and len(known) >= MOST_SERVICES):
                    continue
                known.add(it.service)
                band = it.band or DemandBand(low=0.0, middle=0.0, high=0.0)
                row = {name: getattr(it, name) for name in _PLAIN}
                row |= {
                    "banded": it.band is not None,
                    "low": band.low,
                    "middle": band.middle,
                    "high": band.high,
                }
                connection.execute(insert(scaling), row)
                new += 1
            for name in {it.service for it in entries}:
                own = scaling.c.service == name
                oldest = select(scaling.c.id).where(own).order_by(scaling.c.id.desc()).offset(KEPT).limit(1)
                last = connection.execute(oldest).scalar()
                if last is not None:
                    connection.execute(delete(scaling).where(own, scaling.c.id <= last))
        return new

    def of(self, service: str | None = None, *, after: int = 0, limit: int = 1000) -> list[ScalingRecord]:
        """Decisions with an id above `after`, the oldest first; of one service or of all."""
        query = select(scaling).where(scaling.c.id > after)
        if service is not None:
            query = query.where(scaling.c.service == service)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query.order_by(scaling.c.id).limit(limit))]

    def newest(self) -> list[ScalingRecord]:
        """The newest decision about each service, by name."""
        ids = select(func.max(scaling.c.id)).group_by(scaling.c.service)
        query = select(scaling).where(scaling.c.id.in_(ids)).order_by(scaling.c.service)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]


def _record(row: Row[Any]) -> ScalingRecord:
    band = DemandBand(low=row.low, middle=row.middle, high=row.high) if row.banded else None
    return ScalingRecord(id=row.id, band=band, **{name: getattr(row, name) for name in _PLAIN})
