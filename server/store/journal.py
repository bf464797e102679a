"""A job's journal over SQL, held under a fencing lease.

Every write begins by reading the job's epoch in the same transaction (under the row's lock on PostgreSQL,
under the one writer's lock on SQLite): once a newer claim has raised it, an older holder writes nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, delete, func, insert, select, update

from hansa.contract.decisions import Decision
from hansa.contract.jobs import AttemptKind, AttemptResult, JobPlan, JobStatus
from hansa.contract.messages import Finish, Receipt
from hansa.contract.typed import canonical_json
from hansa.server.store import apart, budgets, checkpoints, decisions, events
from hansa.server.store.database import Database
from hansa.server.store.tables import (
    attempts,
    finishes,
    jobs,
    knobs,
    members,
    metrics,
    participation,
    rounds,
)
from hansa.strategies.journal_laws import (
    OpenedAttempt,
    check_opening,
    check_probe,
    check_receipts,
    check_result,
    check_tried,
)
from hansa.strategies.ports import KEPT_FINISHES, Arrays, LeaseLost, MemberPresence, Progress, Wanted

# Presence that has not changed is written again after this long, for "last seen".
_SEEN_EVERY_S = 5.0


class JobJournal:
    """`strategies.ports.Journal` over the store; made by `Store.claim`."""

    def __init__(self, database: Database, plan: JobPlan, epoch: int) -> None:
        self._database = database
        self._plan = plan
        self._epoch = epoch
        self._present: tuple[MemberPresence, ...] | None = None
        self._present_at = 0.0

    @property
    def plan(self) -> JobPlan:
        """What the job sets out to do."""
        return self._plan

    def progress(self) -> Progress:
        """Where the job stands, with the state of its newest round."""
        with self._database.read() as connection:
            newest = newest_round(connection, self._job)
            evaluated = (
                select(metrics.c.name).where(metrics.c.job == self._job, metrics.c.round == newest).limit(1)
            )
            state = checkpoints.read(connection, self._job, newest)
            if state is None and newest == 0:
                state = checkpoints.read_start(connection, self._job)
            return Progress(
                round=newest,
                attempt=_newest_attempt(connection, self._job),
                state=state,
                evaluated=connection.execute(evaluated).first() is not None,
            )

    def open_attempt(
        self,
        kind: AttemptKind,
        *,
        base: int,
        cohort: Sequence[str],
        left_out: Mapping[str, str],
        knobs: Mapping[str, float],
        tries: AttemptResult | None = None,
    ) -> int:
        """Take the next attempt number; it is on disk when this returns."""
        with self._write() as connection:
            newest = newest_round(connection, self._job)
            check_opening(base, cohort, newest)
            if tries is None:
                abandon_open(connection, self._job, "followed by a newer attempt")
            else:
                check_tried(tries, _opened(connection, self._job, tries.attempt), base=base)
                _set_status(connection, tries)
            number = _newest_attempt(connection, self._job) + 1
            row = {
                "job": self._job,
                "attempt": number,
                "kind": kind,
                "status": "open",
                "base": base,
                "cohort": list(cohort),
                "left_out": dict(left_out),
                "knobs": dict(knobs),
                "reason": "",
                "opened": time.time(),
            }
            connection.execute(insert(attempts), row)
        return number

    def commit(self, result: AttemptResult, state: Arrays | None) -> None:
        """Write an attempt's result, and the state it led to, in one transaction.

        Raises
        ------
        LeaseLost : another process holds the job
        ValueError : the result breaks a law of journals; nothing is written
        """
        with self._write() as connection:
            self._commit(connection, result, state)

    def adopt(
        self, train: AttemptResult, probe: AttemptResult | None, state: Arrays | None, decision: Decision
    ) -> None:
        """Write a step, and what a probe found of it, in one transaction.

        Raises
        ------
        LeaseLost, ValueError : as `commit`
        """
        if probe is not None:
            check_probe(train, probe)
        with self._write() as connection:
            self._commit(connection, train, state)
            if probe is not None:
                # What it measured is the model that the step led to.
                self._commit(connection, probe, None, measured=train.round)
            decisions.keep(connection, self._job, decision, expected=train.knobs, lenient=True)

    def decide(self, decision: Decision) -> bool:
        """Keep a decision that sets no knob; False where its key is there already."""
        with self._write() as connection:
            return decisions.keep(connection, self._job, decision)

    def audited(self) -> tuple[int, int] | None:
        """First and last round of the newest audit that was asked for; None where none ever was."""
        with self._database.read() as connection:
            return decisions.audited(connection, self._job)

    def probe_wanted(self) -> bool:
        """Whether a probe was asked for since the last one."""
        with self._database.read() as connection:
            return decisions.probe_wanted(connection, self._job)

    def _commit(
        self,
        connection: Connection,
        result: AttemptResult,
        state: Arrays | None,
        *,
        measured: int | None = None,
    ) -> None:
        newest = newest_round(connection, self._job)
        opened = _opened(connection, self._job, result.attempt)
        check_result(result, state, job=self._job, opened=opened, newest_round=newest)
        of = result.base if measured is None else measured
        _close(connection, result, of)
        apart.note_attempt(connection, result)
        if result.metrics:
            checkpoints.mark_best(connection, self._job, of, newest if result.round is None else result.round)
        if state is not None:
            # A contract check leads to round 0, which no list of rounds shows.
            number = result.round or 0
            row = {
                "job": self._job,
                "round": number,
                "attempt": result.attempt,
                "applied": time.time(),
                "step": result.step,
                "slope": None if result.slope is None else result.slope.value,
                "tag": result.tag or None,
                "slope_error": None if result.slope is None else result.slope.error,
            }
            connection.execute(insert(rounds), row)
            checkpoints.write(connection, self._job, number, state)

    def receipts(self, attempt: int, order: str, receipts: Mapping[str, Receipt]) -> dict[str, str]:
        """Keep what members signed, in one transaction; says whose ledgers have two hashes for one row."""
        kept = {name: receipt for name, receipt in receipts.items() if receipt.head is not None}
        if not kept:
            return {}
        with self._write() as connection:
            check_receipts(attempt, kept, _opened(connection, self._job, attempt))
            forked = budgets.keep(connection, self._job, attempt, order, kept)
            for name, sentence in forked.items():
                events.append(connection, "ledger-fork", sentence, job=self._job, member=name)
        return forked

    def keep_finish(self, finish: Finish) -> None:
        """Keep the proof that an attempt finished; older ones than the newest few go."""
        with self._write() as connection:
            own = finishes.c.job == self._job
            row = {"job": self._job, "attempt": finish.attempt, "proof": canonical_json(finish).decode()}
            connection.execute(delete(finishes).where(own, finishes.c.attempt == finish.attempt))
            connection.execute(insert(finishes), row)
            newest = select(finishes.c.attempt).where(own).order_by(finishes.c.attempt.desc())
            last = connection.execute(newest.limit(1).offset(KEPT_FINISHES - 1)).scalar()
            if last is not None:
                connection.execute(delete(finishes).where(own, finishes.c.attempt < last))

    def finishes(self) -> list[Finish]:
        """The proofs that are kept, the oldest first."""
        query = select(finishes.c.proof).where(finishes.c.job == self._job).order_by(finishes.c.attempt)
        with self._database.read() as connection:
            return [Finish.model_validate_json(proof) for proof in connection.execute(query).scalars()]

    def knobs(self) -> dict[str, float]:
        """Current values, pins applied."""
        with self._database.read() as connection:
            rows = connection.execute(select(knobs.c.name, knobs.c.value).where(knobs.c.job == self._job))
            return {**{row.name: row.value for row in rows}, **self._plan.pinned}

    def pinned(self) -> frozenset[str]:
        """Knobs that nobody may move now, by the plan or because somebody pinned them."""
        own = (knobs.c.job == self._job) & knobs.c.pinned
        with self._database.read() as connection:
            return frozenset(connection.execute(select(knobs.c.name).where(own)).scalars()) | {
                *self._plan.pinned
            }

    def held(self) -> dict[str, str]:
        """Members that an operator holds out of selection, each with the reason."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(members.c.name, members.c.held).where(members.c.held.is_not(None))
            )
            return {name: reason for name, reason in rows if reason is not None}

    def present(self, members: Sequence[MemberPresence]) -> None:
        """Members that are connected now; every other one is not."""
        with self._write() as connection:
            now = time.time()
            found = tuple(members)
            if found == self._present and now - self._present_at < _SEEN_EVERY_S:
                return
            _write_presence(connection, found, now)
        self._present, self._present_at = found, now

    def wanted(self) -> Wanted:
        """What the operator wants of this job."""
        with self._database.read() as connection:
            wanted: Wanted = connection.execute(
                select(jobs.c.wanted).where(jobs.c.id == self._job)
            ).scalar_one()
            return wanted

    def wanted_by(self) -> tuple[str, str]:
        """Who wanted that, and why."""
        query = select(jobs.c.wanted_by, jobs.c.wanted_reason).where(jobs.c.id == self._job)
        with self._database.read() as connection:
            row = connection.execute(query).one()
        return row.wanted_by, row.wanted_reason

    def set_status(self, status: JobStatus, reason: str = "", *, wanted: Wanted | None = None) -> None:
        """Write the job's status and why; see `strategies.ports.Journal`."""
        with self._write() as connection:
            now = connection.execute(select(jobs.c.wanted).where(jobs.c.id == self._job)).scalar_one()
            if wanted in (None, now):
                write_status(connection, self._job, status, reason)
            else:
                queue_again(connection, self._job)

    def event(
        self,
        kind: str,
        sentence: str,
        *,
        member: str = "",
        facts: Mapping[str, str | int | float] | None = None,
    ) -> None:
        """Append to the event log."""
        with self._write() as connection:
            events.append(connection, kind, sentence, job=self._job, member=member, facts=facts)
            apart.note_event(connection, self._job, kind, sentence, member, facts)

    def renew(self) -> None:
        """Say that the holder lives; see `lease.renewed`."""
        with self._write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == self._job).values(renewed=time.time()))

    @property
    def _job(self) -> str:
        return self._plan.job

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._database.write() as connection:
            epoch = connection.execute(
                select(jobs.c.epoch).where(jobs.c.id == self._job).with_for_update()
            ).scalar_one_or_none()
            if epoch != self._epoch:
                raise LeaseLost(
                    f"job {self._job}: another run has taken over (lease {self._epoch}, now {epoch})"
                )
            yield connection


def newest_round(connection: Connection, job: str) -> int:
    """Number of the newest applied round, 0 before the first."""
    return connection.execute(select(func.max(rounds.c.round)).where(rounds.c.job == job)).scalar() or 0


def abandon_open(connection: Connection, job: str, reason: str) -> None:
    """Close whatever attempt is open: nobody may ask for signatures in its name any more."""
    connection.execute(
        update(attempts)
        .where(attempts.c.job == job, attempts.c.status.in_(("open", "summed")))
        .values(status="abandoned", reason=reason, closed=time.time())
    )


def write_status(connection: Connection, job: str, status: JobStatus, reason: str) -> None:
    """Set a job's status; a change is an event."""
    row = connection.execute(select(jobs.c.status, jobs.c.reason).where(jobs.c.id == job)).one()
    if tuple(row) == (status, reason):
        return
    connection.execute(
        update(jobs).where(jobs.c.id == job).values(status=status, reason=reason, updated=time.time())
    )
    sentence = f"job is {status}" + (f": {reason}" if reason else "")
    events.append(connection, "job-status", sentence, job=job, facts={"status": status})
    if status in ("finished", "stopped"):
        apart.note_over(connection, job)


def queue_again(connection: Connection, job: str) -> None:
    """Have the keeper start a run for the job; runs before now do not count against it."""
    connection.execute(update(jobs).where(jobs.c.id == job).values(queued=time.time()))
    write_status(connection, job, "queued", "")


def _newest_attempt(connection: Connection, job: str) -> int:
    return connection.execute(select(func.max(attempts.c.attempt)).where(attempts.c.job == job)).scalar() or 0


def _opened(connection: Connection, job: str, number: int) -> OpenedAttempt | None:
    row = connection.execute(
        select(attempts.c.kind, attempts.c.status, attempts.c.base, attempts.c.cohort).where(
            attempts.c.job == job, attempts.c.attempt == number
        )
    ).first()
    return None if row is None else OpenedAttempt(number, row.kind, row.status, row.base, tuple(row.cohort))


def _set_status(connection: Connection, result: AttemptResult) -> None:
    connection.execute(
        update(attempts)
        .where(attempts.c.job == result.job, attempts.c.attempt == result.attempt)
        .values(
            status=result.status,
            round=result.round,
            active=list(result.active),
            seconds=result.seconds,
            reason=result.reason,
            closed=time.time(),
        )
    )


def _close(connection: Connection, result: AttemptResult, measured: int) -> None:
    key = {"job": result.job, "attempt": result.attempt}
    _set_status(connection, result)
    if result.participation:
        connection.execute(insert(participation), [key | part.model_dump() for part in result.participation])
    if result.metrics:
        rows = [
            key | {"round": measured, "name": name, "value": metric.value, "error": metric.error}
            for name, metric in result.metrics.items()
        ]
        connection.execute(insert(metrics), rows)


def _write_presence(connection: Connection, present: tuple[MemberPresence, ...], now: float) -> None:
    names = [member.name for member in present]
    connection.execute(update(members).where(members.c.name.not_in(names)).values(present=False))
    known = set(connection.execute(select(members.c.name)).scalars())
    for member in present:
        values = {
            "present": True,
            "node": str(member.node_id),
            "isolated": member.isolated,
            "charter_version": member.charter_version,
            "started": member.started,
            "seen": now,
        }
        if member.name in known:
            connection.execute(update(members).where(members.c.name == member.name).values(values))
        else:
            row = values | {"name": member.name, "held": None, "held_by": ""}
            connection.execute(insert(members), row)
