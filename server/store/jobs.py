"""Jobs and Flower's runs that work on them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from sqlalchemy import Row, Select, func, insert, select, update

from hansa.contract.decisions import Decision
from hansa.contract.errors import HansaError
from hansa.contract.jobs import JobPlan, JobStatus
from hansa.contract.typed import canonical_json
from hansa.server.records import JobRecord, RunRecord
from hansa.server.store import checkpoints, decisions, events
from hansa.server.store.database import Database
from hansa.server.store.journal import JobJournal, abandon_open, newest_round, queue_again
from hansa.server.store.moments import moment
from hansa.server.store.rollback import undo_rounds
from hansa.server.store.tables import attempts, jobs, knobs, rounds, runs
from hansa.strategies.journal_laws import check_rollback
from hansa.strategies.ports import Wanted

# Rounds that may come between a decision to go back and its arrival.
GONE_ON = 3
OVER: tuple[JobStatus, ...] = ("stopped", "finished", "failed")


class Jobs:
    """Submitted jobs, the newest last."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(
        self,
        plan: JobPlan,
        charter: str,
        knob_values: Mapping[str, float],
        state: Mapping[str, NDArray[Any]] | None = None,
    ) -> JobRecord:
        """Queue a job under the charter of that hash, its knobs at these values.

        Parameters
        ----------
        state : of round 0, where the job starts from a model that is not the seed's

        Raises
        ------
        HansaError : a job of this id is there already
        """
        now = time.time()
        with self._database.write() as connection:
            if connection.execute(select(jobs.c.id).where(jobs.c.id == plan.job)).first() is not None:
                raise HansaError(f"job {plan.job} was submitted before; a new job needs a new id")
            row = {
                "id": plan.job,
                "name": plan.name,
                "plan": canonical_json(plan).decode(),
                "charter": charter,
                "status": "queued",
                "reason": "",
                "wanted": "run",
                "wanted_by": "operator",
                "wanted_reason": "",
                "epoch": 0,
                "holder": "",
                "renewed": now,
                "created": now,
                "updated": now,
                "queued": now,
            }
            connection.execute(insert(jobs), row)
            values = {**knob_values, **plan.pinned}
            rows = [_first_value(plan, name, value, now) for name, value in values.items()]
            if rows:
                connection.execute(insert(knobs), rows)
            if state is not None:
                checkpoints.write_start(connection, plan.job, state)
            events.append(
                connection,
                "job-submitted",
                f"job '{plan.name}' of {plan.rounds} rounds{_from(plan)}",
                job=plan.job,
            )
        return self.get(plan.job)

    def get(self, job: str) -> JobRecord:
        """The job of that id; raises `HansaError` where there is none."""
        found = self.find(job)
        if found is None:
            raise HansaError(f"job {job} is not in the store")
        return found

    def find(self, job: str) -> JobRecord | None:
        """The job of that id, or None."""
        with self._database.read() as connection:
            row = connection.execute(_jobs().where(jobs.c.id == job)).first()
        return None if row is None else _job(row)

    def all(self, *, limit: int = 1000) -> list[JobRecord]:
        """The newest `limit` jobs in the order of submission."""
        with self._database.read() as connection:
            rows = connection.execute(_jobs().order_by(jobs.c.created.desc(), jobs.c.id).limit(limit)).all()
        return [_job(row) for row in reversed(rows)]

    def unfinished(self) -> list[JobRecord]:
        """Jobs that are not over, in the order of submission."""
        with self._database.read() as connection:
            query = _jobs().where(jobs.c.status.not_in(OVER)).order_by(jobs.c.created, jobs.c.id)
            return [_job(row) for row in connection.execute(query)]

    def queue(self) -> tuple[int, int]:
        """Jobs that wait for somebody to run them, and jobs that run."""
        query = select(jobs.c.status, func.count()).where(
            jobs.c.wanted == "run", jobs.c.status.in_(("queued", "running"))
        )
        with self._database.read() as connection:
            counts = {
                str(status): int(count) for status, count in connection.execute(query.group_by(jobs.c.status))
            }
        return counts.get("queued", 0), counts.get("running", 0)

    def want(
        self, job: str, wanted: Wanted, by: str, reason: str = "", *, only_own: bool = False
    ) -> JobRecord:
        """Write what somebody wants; wanting a paused or stopped job to run queues it again.

        Parameters
        ----------
        only_own : do nothing where the last word is another's

        Raises
        ------
        HansaError : there is no such job, it is over for good, or the last word is another's
        """
        with self._database.write() as connection:
            row = connection.execute(
                select(jobs.c.status, jobs.c.wanted, jobs.c.wanted_by)
                .where(jobs.c.id == job)
                .with_for_update()
            ).first()
            if row is None:
                raise HansaError(f"job {job} is not in the store")
            if only_own and row.wanted != "run" and row.wanted_by != by:
                raise HansaError(f"{row.wanted_by} asked job {job} to {row.wanted}; {by} does not undo that")
            if row.status == "finished" or (row.status in OVER and wanted != "run"):
                raise HansaError(f"job {job} is {row.status}; it cannot be asked to {wanted}")
            values: dict[str, Any] = {"wanted": wanted, "updated": time.time()}
            if row.wanted != wanted:
                values |= {"wanted_by": by, "wanted_reason": reason}
                sentence = f"{by} asks the job to {wanted}" + (f": {reason}" if reason else "")
                events.append(connection, "job-wanted", sentence, job=job)
            connection.execute(update(jobs).where(jobs.c.id == job).values(values))
            if wanted == "run" and row.status in ("paused", "stopped", "failed"):
                queue_again(connection, job)
        return self.get(job)

    def roll_back(self, job: str, to: int | None, *, by: str, reason: str) -> tuple[JobRecord, int]:
        """Undo a job's rounds above one that is kept; see `rollback.undo_rounds`. The job, and where it stood.

        Raises
        ------
        HansaError : there is no such job, a run may be working on it, or it is finished
        InputError : that round's state is not kept
        """
        with self._database.write() as connection:
            row = connection.execute(select(jobs.c.status).where(jobs.c.id == job).with_for_update()).first()
            if row is None:
                raise HansaError(f"job {job} is not in the store")
            check_rollback(job, row.status)
            newest = undo_rounds(connection, job, to, by=by, reason=reason)
            # A run that has not noticed yet that it is over would write what follows from undone rounds.
            values = {"epoch": jobs.c.epoch + 1, "holder": by, "updated": time.time()}
            connection.execute(update(jobs).where(jobs.c.id == job).values(values))
        return self.get(job), newest

    def recover(
        self, job: str, to: int, *, undoes: int, decision: Decision, expected: dict[str, float]
    ) -> JobRecord:
        """Take a job that runs back to a kept round, at other knobs, and have it go on from there; once a decision.

        One transaction: whoever asks may die at any point, and ask again.

        Parameters
        ----------
        undoes : the attempt of the round that was the newest when this was decided
        expected : values that knobs had then

        Raises
        ------
        HansaError : there is no such job, it does not run, it has gone on or back since, or a knob was moved
        InputError : that round's state is not kept
        """
        with self._database.write() as connection:
            row = connection.execute(
                select(jobs.c.status, jobs.c.wanted, jobs.c.plan).where(jobs.c.id == job).with_for_update()
            ).first()
            if row is None:
                raise HansaError(f"job {job} is not in the store")
            if decisions.keep(connection, job, decision, expected=expected):
                if row.status not in ("queued", "running") or row.wanted != "run":
                    raise HansaError(f"job {job} is {row.status}; nothing is recovered")
                stands = (rounds.c.job == job) & (rounds.c.attempt == undoes)
                found = connection.execute(select(rounds.c.round).where(stands)).scalar()
                if found is None:
                    raise HansaError(f"attempt {undoes} of job {job} stands no more; decide anew")
                newest = newest_round(connection, job)
                if newest - found > GONE_ON:
                    raise HansaError(f"job {job} has gone on to round {newest} since; decide anew")
                if newest >= JobPlan.model_validate_json(row.plan).rounds:
                    # Members may have been told that it is over.
                    raise HansaError(f"job {job} has made all its rounds; nothing is recovered")
                undo_rounds(connection, job, to, by=decision.by, reason=decision.sentence)
                # The run that is at work writes nothing more; the keeper starts another.
                values = {"epoch": jobs.c.epoch + 1, "holder": decision.by, "updated": time.time()}
                connection.execute(update(jobs).where(jobs.c.id == job).values(values))
                queue_again(connection, job)
        return self.get(job)

    def kept(self, job: str) -> dict[int, bool]:
        """Rounds whose states can be gone back to, each with whether it is the best evaluated one."""
        with self._database.read() as connection:
            return checkpoints.kept(connection, job)

    def claim(self, job: str, holder: str) -> JobJournal:
        """Take the job's lease: every older journal of it is refused from now on.

        Raises
        ------
        HansaError : there is no such job, or it is finished
        """
        now = time.time()
        with self._database.write() as connection:
            row = connection.execute(
                update(jobs)
                .where(jobs.c.id == job, jobs.c.status != "finished")
                .values(epoch=jobs.c.epoch + 1, holder=holder, renewed=now, updated=now)
                .returning(jobs.c.epoch, jobs.c.plan)
            ).first()
            if row is None:
                raise HansaError(f"job {job} is finished already, or not in the store")
            abandon_open(connection, job, f"taken over by {holder}")
        return JobJournal(self._database, JobPlan.model_validate_json(row.plan), row.epoch)

    def settle(
        self, job: str, status: JobStatus, reason: str, by: str, *, wanted: Wanted | None = None
    ) -> None:
        """Write a job's status from outside its run, whose lease ends with it; as `JobJournal.set_status`."""
        self.claim(job, by).set_status(status, reason, wanted=wanted)


class Runs:
    """Flower's runs: an id each, and what it achieved for its job."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def started(self, job: str, run: str) -> RunRecord:
        """Remember a run that was just started."""
        with self._database.write() as connection:
            row = {
                "job": job,
                "run": run,
                "started": time.time(),
                "outcome": "",
                "round_before": newest_round(connection, job),
            }
            key = connection.execute(insert(runs).returning(runs.c.id), row).scalar_one()
            events.append(connection, "run-started", f"Flower run {run} works on the job", job=job)
            return _run(connection.execute(select(runs).where(runs.c.id == key)).one())

    def ended(self, run: RunRecord, outcome: str) -> None:
        """Remember that a run is over."""
        with self._database.write() as connection:
            newest = newest_round(connection, run.job)
            connection.execute(
                update(runs)
                .where(runs.c.id == run.id, runs.c.ended.is_(None))
                .values(ended=time.time(), outcome=outcome, round_after=newest)
            )
            sentence = f"Flower run {run.run} ended: {outcome}"
            events.append(connection, "run-ended", sentence, job=run.job, facts={"outcome": outcome})

    def of(self, job: str, *, limit: int = 20) -> Sequence[RunRecord]:
        """The job's newest runs, the newest first."""
        with self._database.read() as connection:
            query = select(runs).where(runs.c.job == job).order_by(runs.c.id.desc()).limit(limit)
            return [_run(row) for row in connection.execute(query)]

    def live_of_jobs_over(self) -> list[RunRecord]:
        """Runs not known to have ended, of jobs that are over."""
        query = select(runs).join(jobs, jobs.c.id == runs.c.job)
        with self._database.read() as connection:
            rows = connection.execute(query.where(runs.c.ended.is_(None), jobs.c.status.in_(OVER)))
            return [_run(row) for row in rows]


def _first_value(plan: JobPlan, name: str, value: float, now: float) -> dict[str, Any]:
    pinned = name in plan.pinned
    return {
        "job": plan.job,
        "name": name,
        "value": value,
        "pinned": pinned,
        "set_by": "plan" if pinned else "charter",
        "reason": "pinned by the plan" if pinned else "the charter's default",
        "at": now,
    }


def _jobs() -> Select[Any]:
    newest = select(func.max(rounds.c.round)).where(rounds.c.job == jobs.c.id).scalar_subquery()
    attempt = select(func.max(attempts.c.attempt)).where(attempts.c.job == jobs.c.id).scalar_subquery()
    return select(jobs, newest.label("round"), attempt.label("attempt"))


def _job(row: Row[Any]) -> JobRecord:
    return JobRecord(
        job=row.id,
        name=row.name,
        status=row.status,
        reason=row.reason,
        wanted=row.wanted,
        wanted_by=row.wanted_by,
        wanted_reason=row.wanted_reason,
        charter=row.charter,
        plan=JobPlan.model_validate_json(row.plan),
        round=row.round or 0,
        attempt=row.attempt or 0,
        created=moment(row.created),
        updated=moment(row.updated),
        queued=moment(row.queued),
        holder=row.holder,
        renewed=moment(row.renewed),
        epoch=row.epoch,
    )


def _run(row: Row[Any]) -> RunRecord:
    return RunRecord(
        id=row.id,
        job=row.job,
        run=row.run,
        started=moment(row.started),
        ended=moment(row.ended),
        outcome=row.outcome,
        round_before=row.round_before,
        round_after=row.round_after,
    )


def _from(plan: JobPlan) -> str:
    if plan.start is None:
        return ""
    return f", starting from the model of job {plan.start.job[:8]} ({plan.start.weights[:8]})"
