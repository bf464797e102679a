"""Who takes no part, why, and since when: kept with the member, and gone once it takes part again."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, insert, or_, select, update

from hansa.contract.errors import REFUSAL_CODES
from hansa.contract.jobs import AttemptResult, Participation
from hansa.server.store.tables import jobs, members
from hansa.strategies.ports import CHARTER_VERSION, NOT_CONNECTED

_LIVE = ("queued", "running", "paused")
# What holds in one job only and is over with it.
_OF_THE_JOB = "not-approved: "
# A hello from another agreement.
_OTHER = ("other-charter",)
_SILENT = {"missing": "did not answer", "failed": "its answer was of no use", "refused": "refused"}


def note_attempt(connection: Connection, result: AttemptResult) -> None:
    """Keep what an attempt says: who was left out, who was asked and did not answer as it should, who took part."""
    reasons = dict(result.left_out)
    reasons |= {it.member: _reason(it) for it in result.participation if it.outcome != "replied"}
    for member, reason in reasons.items():
        _keep(connection, result.job, member, reason)
    took_part = [it.member for it in result.participation if it.outcome == "replied"]
    # What was said in another job that goes on stands until that one hears otherwise.
    live = select(jobs.c.id).where(jobs.c.status.in_(_LIVE), jobs.c.id != result.job)
    here = or_(members.c.apart_job.is_(None), members.c.apart_job.not_in(live))
    mine = members.c.name.in_(took_part) & members.c.apart.is_not(None) & here
    _clear(connection, mine)


def note_event(
    connection: Connection,
    job: str,
    kind: str,
    sentence: str,
    member: str,
    facts: Mapping[str, str | int | float] | None = None,
) -> None:
    """Keep a refusal that came before any attempt could say so, and the charter that its maker obeys, where it says."""
    if not member or kind not in (*REFUSAL_CODES, *_OTHER):
        return
    _keep(connection, job, member, f"{kind}: {sentence}")
    version = (facts or {}).get(CHARTER_VERSION)
    if isinstance(version, int):
        said = update(members).where(members.c.name == member)
        connection.execute(said.values(charter_version=version))


def note_over(connection: Connection, job: str) -> None:
    """A job is over: whoever did not approve it has nothing to approve any more."""
    _clear(connection, (members.c.apart_job == job) & members.c.apart.startswith(_OF_THE_JOB))


def _reason(part: Participation) -> str:
    return ": ".join(it for it in (part.code, part.sentence) if it) or _SILENT[part.outcome]


def _keep(connection: Connection, job: str, member: str, reason: str) -> None:
    mine = members.c.name == member
    found = connection.execute(select(members.c.apart, members.c.apart_job).where(mine)).first()
    if found is not None and found.apart is not None and reason.startswith((NOT_CONNECTED, "held out: ")):
        # That is told anyway; what the member said itself is worth more.
        return
    values: dict[str, str | float] = {"apart": reason, "apart_job": job}
    if found is None or found.apart is None:
        values["apart_since"] = time.time()
    if found is None:
        row = {"name": member, "present": False, "node": "", "held_by": "", **values}
        connection.execute(insert(members), row)
    elif (found.apart, found.apart_job) != (reason, job):
        connection.execute(update(members).where(mine).values(values))


def _clear(connection: Connection, which: ColumnElement[bool]) -> None:
    nothing = {"apart": None, "apart_since": None, "apart_job": None}
    connection.execute(update(members).where(which).values(nothing))
