"""The keeper: every wanted job has a run, whatever happened to the one before."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from journals import DEFAULTS, apply_round, plan

from hansa.contract.errors import ConnectionFailed, HansaError
from hansa.server import keeper as keeping
from hansa.server.keeper import QUICK_FAILURES, Keeper, RunStatus, quick_failures, wait_after
from hansa.server.records import JobRecord, RunRecord
from hansa.server.store import Store, open_store
from hansa.strategies.ports import LeaseLost


class FakeRuns:
    """A SuperLink of a dictionary."""

    def __init__(self) -> None:
        self.known: dict[str, RunStatus] = {}
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.away = False
        self.refuses = ""

    def start(self, job: str) -> str:
        self._check()
        if self.refuses:
            raise HansaError(self.refuses)
        self.started.append(job)
        run = str(2**63 + len(self.started))
        self.known[run] = "running"
        return run

    def status(self, run: str) -> RunStatus:
        self._check()
        return self.known.get(run, "unknown")

    def stop(self, run: str) -> None:
        self._check()
        self.stopped.append(run)
        self.known[run] = "finished"

    def _check(self) -> None:
        if self.away:
            raise ConnectionFailed("127.0.0.1:1: the SuperLink cannot be reached")


class Scene:
    """A store, a SuperLink and a clock that is moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.store: Store = open_store(f"sqlite:///{folder}/store.sqlite")
        self.runs = FakeRuns()
        self.later = timedelta(0)
        self.keeper = self.make()

    def make(self, parallel: int = 1) -> Keeper:
        return Keeper(self.store, self.runs, parallel=parallel, now=lambda: datetime.now(UTC) + self.later)

    def submit(self) -> str:
        job = uuid.uuid4().hex
        self.store.jobs.submit(plan(job=job), "0" * 64, DEFAULTS)
        return job

    def job(self, job: str) -> JobRecord:
        return self.store.jobs.get(job)

    def newest_run(self, job: str) -> RunRecord:
        return self.store.runs.of(job)[0]

    def look(self, seconds: float = 0.0) -> None:
        self.later += timedelta(seconds=seconds)
        self.keeper.look()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.store.close()


def test_a_submitted_job_gets_one_run(scene: Scene) -> None:
    job = scene.submit()
    for _ in range(3):
        scene.look()
    assert scene.runs.started == [job]
    assert scene.newest_run(job).ended is None


def test_a_run_that_ends_before_its_job_is_followed_by_another(scene: Scene) -> None:
    job = scene.submit()
    scene.look()
    apply_round(scene.store.claim(job, "run x"))
    scene.runs.known[scene.newest_run(job).run] = "failed"
    scene.look()
    assert scene.runs.started == [job, job]
    before = scene.store.runs.of(job)[1]
    assert (before.outcome, before.round_before, before.round_after) == ("failed", 0, 1)


def test_a_superlink_that_forgot_its_runs_gets_a_new_one(scene: Scene) -> None:
    job = scene.submit()
    scene.look()
    scene.runs.known.clear()
    scene.look()
    assert scene.runs.started == [job, job]
    assert scene.store.runs.of(job)[1].outcome == "unknown"


def test_a_superlink_that_is_away_costs_nothing(scene: Scene) -> None:
    job = scene.submit()
    scene.runs.away = True
    for _ in range(10):
        scene.look(60)
    assert scene.job(job).status == "queued"
    scene.runs.away = False
    scene.look()
    assert scene.runs.started == [job]


def test_a_finished_job_gets_no_run(scene: Scene) -> None:
    job = scene.submit()
    scene.look()
    scene.store.claim(job, "run x").set_status("finished")
    scene.runs.known[scene.newest_run(job).run] = "finished"
    scene.look()
    assert scene.runs.started == [job]
    assert scene.newest_run(job).outcome == "finished"


def test_a_job_that_finishes_while_the_keeper_looks_gets_no_run(scene: Scene) -> None:
    job = scene.submit()
    scene.look()
    stale = scene.job(job)
    scene.store.claim(job, "run x").set_status("finished")
    scene.runs.known[scene.newest_run(job).run] = "finished"
    scene.keeper._look_after(stale, 1)
    assert scene.runs.started == [job]


def test_runs_that_end_at_once_pause_the_job_with_the_last_reason(scene: Scene) -> None:
    job = scene.submit()
    for number in range(QUICK_FAILURES):
        scene.look(60)
        assert len(scene.runs.started) == number + 1
        scene.store.claim(job, "run x").event("run-failed", "the model does not load")
        scene.runs.known[scene.newest_run(job).run] = "failed"
    scene.look(60)
    found = scene.job(job)
    assert found.status == "paused"
    assert f"{QUICK_FAILURES} runs in a row" in found.reason
    assert "the model does not load" in found.reason
    scene.look(600)
    assert len(scene.runs.started) == QUICK_FAILURES


def test_resuming_starts_the_count_anew(scene: Scene) -> None:
    test_runs_that_end_at_once_pause_the_job_with_the_last_reason(scene)
    [job] = [it.job for it in scene.store.jobs.all()]
    scene.store.jobs.want(job, "run", "operator")
    scene.look()
    assert len(scene.runs.started) == QUICK_FAILURES + 1


def test_after_a_quick_failure_it_waits_longer_each_time(scene: Scene) -> None:
    job = scene.submit()
    scene.look()
    scene.runs.known[scene.newest_run(job).run] = "failed"
    scene.look()
    assert len(scene.runs.started) == 1
    scene.look(1.5)
    assert len(scene.runs.started) == 2
    assert [wait_after(it).total_seconds() for it in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]


def test_a_run_that_made_progress_does_not_count_as_a_failure() -> None:
    now = datetime.now(UTC)

    def run(outcome: str, rounds: int, seconds: float = 1.0) -> RunRecord:
        ended = now + timedelta(seconds=seconds)
        return RunRecord(
            id=1,
            job="j",
            run="1",
            started=now,
            ended=ended,
            outcome=outcome,
            round_before=3,
            round_after=3 + rounds,
        )

    empty = run("failed", 0)
    assert quick_failures([empty, empty], since=now) == 2
    assert quick_failures([empty, run("failed", 1), empty], since=now) == 1
    assert quick_failures([empty, run("unknown", 0), empty], since=now) == 1
    assert quick_failures([empty, run("failed", 0, seconds=99), empty], since=now) == 1
    assert quick_failures([empty], since=now + timedelta(seconds=1)) == 0


def test_one_job_runs_at_a_time_unless_more_may(scene: Scene) -> None:
    first, second, third = scene.submit(), scene.submit(), scene.submit()
    scene.look()
    assert scene.runs.started == [first]
    scene.keeper = scene.make(parallel=2)
    scene.look()
    assert scene.runs.started == [first, second]
    scene.store.claim(first, "run x").set_status("finished")
    scene.look()
    assert scene.runs.started == [first, second, third]


def test_a_paused_job_makes_room_for_the_next(scene: Scene) -> None:
    first, second = scene.submit(), scene.submit()
    scene.look()
    scene.store.claim(first, "run x").set_status("paused", "too few members")
    scene.runs.known[scene.newest_run(first).run] = "finished"
    scene.look()
    assert scene.runs.started == [first, second]


@pytest.mark.parametrize(("wanted", "status"), [("stop", "stopped"), ("pause", "paused")])
def test_a_job_that_never_ran_is_stopped_at_once(scene: Scene, wanted: str, status: str) -> None:
    job = scene.submit()
    scene.store.jobs.want(job, wanted, "operator")  # type: ignore[arg-type]
    scene.look()
    assert scene.job(job).status == status
    assert scene.runs.started == []


def test_a_run_that_does_not_stop_by_itself_is_stopped(scene: Scene) -> None:
    job = scene.submit()
    scene.look()
    journal = scene.store.claim(job, keeping.holder_of(scene.newest_run(job).run))
    scene.store.jobs.want(job, "stop", "operator")
    scene.look()
    assert scene.runs.stopped == []
    scene.look(120)
    assert scene.runs.stopped == [scene.newest_run(job).run]
    assert scene.job(job).status == "stopped"
    with pytest.raises(LeaseLost):
        journal.set_status("running")


@pytest.mark.parametrize(("wanted", "status"), [("stop", "stopped"), ("pause", "paused")])
def test_a_resume_that_overtakes_the_pause_is_not_forgotten(scene: Scene, wanted: str, status: str) -> None:
    job = scene.submit()
    scene.look()
    run = scene.newest_run(job).run
    journal = scene.store.claim(job, keeping.holder_of(run))
    journal.set_status("running")
    scene.store.jobs.want(job, wanted, "operator")  # type: ignore[arg-type]
    read = journal.wanted()
    scene.store.jobs.want(job, "run", "operator")
    journal.set_status(status, f"{status} by the operator", wanted=read)  # type: ignore[arg-type]
    assert (scene.job(job).status, scene.job(job).reason) == ("queued", "")
    scene.runs.known[run] = "finished"
    scene.look()
    assert scene.runs.started == [job, job]


def test_a_resume_while_the_keeper_settles_a_job_is_not_forgotten(scene: Scene) -> None:
    job = scene.submit()
    scene.store.jobs.want(job, "pause", "operator")
    stale = scene.job(job)
    scene.store.jobs.want(job, "run", "operator")
    scene.keeper._look_after(stale, 1)
    assert scene.job(job).status == "queued"
    scene.look()
    assert scene.runs.started == [job]


def test_a_pause_that_the_strategy_decided_stays(scene: Scene) -> None:
    job = scene.submit()
    scene.look()
    run = scene.newest_run(job).run
    scene.store.claim(job, keeping.holder_of(run)).set_status("paused", "5 attempts came to nothing")
    scene.runs.known[run] = "finished"
    scene.look(60)
    assert (scene.job(job).status, scene.runs.started) == ("paused", [job])
    scene.store.jobs.want(job, "run", "operator")
    scene.look()
    assert scene.runs.started == [job, job]


def test_a_run_that_has_not_begun_its_work_is_stopped_at_once(scene: Scene) -> None:
    job = scene.submit()
    scene.look()
    scene.store.jobs.want(job, "stop", "operator")
    scene.look()
    assert scene.runs.stopped == [scene.newest_run(job).run]
    assert scene.job(job).status == "stopped"


def test_a_holder_that_fell_silent_is_replaced(scene: Scene) -> None:
    job = scene.submit()
    scene.look()
    run = scene.newest_run(job).run
    scene.store.claim(job, keeping.holder_of(run))
    scene.look(2)
    assert scene.runs.started == [job]
    scene.look(10)
    assert scene.runs.stopped == [run]
    scene.look(2)
    assert scene.runs.started == [job, job]


def test_a_run_that_waits_for_an_executor_is_left_alone(scene: Scene) -> None:
    job = scene.submit()
    scene.look()
    scene.runs.known[scene.newest_run(job).run] = "pending"
    for _ in range(3):
        scene.look(3600)
    assert scene.runs.started == [job]


def test_a_run_at_work_that_never_claims_its_job_is_replaced(scene: Scene) -> None:
    job = scene.submit()
    scene.look()
    run = scene.newest_run(job).run
    scene.runs.known[run] = "running"
    scene.look(3600)
    scene.look(5)
    assert scene.runs.started == [job]
    scene.look(15)
    assert scene.runs.stopped == [run]
    scene.look(2)
    assert scene.runs.started == [job, job]


def test_a_run_that_cannot_be_started_pauses_its_job(scene: Scene) -> None:
    job = scene.submit()
    scene.runs.refuses = "the SuperLink did not start the run"
    scene.look()
    assert scene.job(job).status == "paused"
    assert "did not start the run" in scene.job(job).reason


def test_the_keeper_outlives_a_look_that_fails(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    looks: list[int] = []
    ended = threading.Event()

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            ended.set()
        raise OSError("disk full")

    monkeypatch.setattr(keeping, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(scene.keeper, "look", look)
    scene.keeper.run(ended)
    assert len(looks) == 3
