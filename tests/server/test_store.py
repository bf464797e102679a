"""The store itself: schema, what is kept, what nobody may change, and what a kill leaves behind."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from few_kept import few_kept as few_kept
from journals import DEFAULTS, MEMBERS, POSTGRES, Bench, apply_round, bench, open_one, result
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from hansa.contract.errors import ConnectionFailed, HansaError, InputError
from hansa.contract.jobs import MetricValue
from hansa.server.store import open_store, renewed
from hansa.server.store.database import connect
from hansa.server.store.schema import HEAD, MIGRATIONS
from hansa.server.store.tables import metadata
from hansa.strategies.ports import LeaseLost

URLS = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.skipif(not POSTGRES, reason="no database named")),
]


@pytest.fixture(params=URLS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return POSTGRES if request.param == "postgresql" else f"sqlite:///{tmp_path}/store.sqlite"


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Bench]:
    with bench("sqlite", tmp_path) as made:
        yield made


# --- schema -----------------------------------------------------------------------------------


def test_migrations_build_exactly_the_tables_of_the_code(url: str) -> None:
    open_store(url).close()
    database = connect(url)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_a_store_of_a_newer_hansa_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    open_store(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(InputError, match=r"revision 9999, newer than this Hansa knows \(up to"):
        open_store(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)


def test_processes_that_open_a_new_store_together_find_one_schema(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def open_one_store() -> None:
        try:
            open_store(f"sqlite:///{tmp_path}/store.sqlite").close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=open_one_store) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


BAD_URLS = {
    "not a URL": ("store.sqlite", InputError, "expected e.g. sqlite:///"),
    "another database": ("mysql://host/db", InputError, "'mysql' is not supported"),
    "in memory": ("sqlite://", InputError, "does not last"),
    "no such folder": ("sqlite:////nowhere/at/all/store.sqlite", InputError, "folder does not exist"),
    "nobody listens": ("postgresql://u:secret@127.0.0.1:1/db", ConnectionFailed, "cannot be opened"),
}


@pytest.mark.parametrize("name", BAD_URLS)
def test_a_url_that_will_not_do_gets_a_sentence_without_its_password(name: str) -> None:
    if name == "nobody listens":
        pytest.importorskip("psycopg")
    given, kind, sentence = BAD_URLS[name]
    with pytest.raises(kind, match=sentence) as caught:
        open_store(given)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_store_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_text("these are not the bytes of a database " * 50)
    with pytest.raises(InputError, match="is not a database of ours"):
        open_store("sqlite:///store.sqlite", tmp_path)


def test_sqlite_is_opened_so_that_a_commit_lasts(tmp_path: Path) -> None:
    database = connect("sqlite:///store.sqlite", tmp_path)
    with database.read() as connection:
        found = {
            it: connection.execute(text(f"PRAGMA {it}")).scalar() for it in ("journal_mode", "synchronous")
        }
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
    assert found == {"journal_mode": "wal", "synchronous": 2}
    database.close()


# --- what nobody may change -------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET sentence = 'nothing happened'",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO events (id, at, kind, member, sentence, facts) VALUES (1, 0, 'x', '', 'y', '{}')",
        "TRUNCATE events",
    ],
)
def test_the_event_log_is_append_only(url: str, statement: str) -> None:
    on_sqlite = url.startswith("sqlite")
    if statement.startswith("TRUNCATE") == on_sqlite or ("REPLACE" in statement and not on_sqlite):
        pytest.skip("not a statement of this database")
    store = open_store(url)
    store.members.hold("alpha", "audit", by="operator")
    before = store.history.newest_event()
    database = connect(url)
    with pytest.raises(DBAPIError, match="append-only"), database.write() as connection:
        connection.execute(text(statement))
    assert store.history.newest_event() == before
    assert store.history.events(after=before - 1)[0].sentence == "operator holds alpha out: audit"
    database.close()
    store.close()


def test_events_carry_rising_numbers(job: Bench) -> None:
    journal = job.claim("a")
    for number in range(5):
        journal.event("note", f"line {number}", member="alpha", facts={"number": number})
    assert job.store is not None
    events = job.store.history.events(job=job.plan.job)
    assert [it.id for it in events] == sorted({it.id for it in events})
    assert (events[-1].sentence, events[-1].facts) == ("alpha: line 4", {"number": 4})


def test_a_job_is_submitted_once(job: Bench) -> None:
    assert job.store is not None
    with pytest.raises(HansaError, match="submitted before"):
        job.store.jobs.submit(job.plan, "0" * 64, DEFAULTS)


def test_a_finished_job_is_not_claimed_again(job: Bench) -> None:
    job.claim("a").set_status("finished")
    with pytest.raises(HansaError, match="finished already"):
        job.claim("b")


# --- what is kept -----------------------------------------------------------------------------


def kept(job: Bench) -> set[int]:
    assert job.store is not None
    return {number for number in range(20) if job.store.history.checkpoint(job.plan.job, number) is not None}


@pytest.mark.usefixtures("few_kept")
def test_the_last_two_checkpoints_are_kept(job: Bench) -> None:
    journal = job.claim("a")
    for _ in range(5):
        apply_round(journal)
    assert kept(job) == {4, 5}


@pytest.mark.usefixtures("few_kept")
def test_the_best_evaluated_checkpoint_is_kept_too(job: Bench) -> None:
    journal = job.claim("a")
    apply_round(journal)
    # The figures that come with a round are those of the model before it.
    for loss in (0.5, 0.3, 0.4, 0.6, 0.5):
        apply_round(
            journal, metrics={"log_loss": MetricValue(value=loss), "auc": MetricValue(value=1 - loss)}
        )
    assert kept(job) == {2, 5, 6}
    attempt = open_one(journal, "evaluate")
    better = {"log_loss": MetricValue(value=0.2)}
    journal.commit(result(journal, attempt, status="evaluated", kind="evaluate", metrics=better), None)
    apply_round(journal)
    apply_round(journal)
    assert kept(job) == {6, 7, 8}


def test_history_gives_attempts_and_rounds_back(job: Bench) -> None:
    journal = job.claim("a")
    failed = open_one(journal)
    journal.commit(result(journal, failed, status="failed"), None)
    apply_round(journal)
    open_one(journal)
    assert job.store is not None
    attempts = job.store.history.attempts(job.plan.job)
    assert [(it.attempt, it.status, it.reason) for it in attempts] == [
        (1, "failed", "too few"),
        (2, "applied", ""),
        (3, "open", ""),
    ]
    assert [part.member for part in attempts[0].participation] == sorted(MEMBERS)
    assert (attempts[2].active, attempts[2].left_out) == (None, {"delta": "held"})
    [applied] = job.store.history.rounds(job.plan.job)
    assert (applied.round, applied.attempt, applied.active) == (1, 2, MEMBERS[:2])


def test_one_active_set_is_settled_for_an_attempt(job: Bench) -> None:
    journal = job.claim("a")
    number = open_one(journal)
    assert job.store is not None
    assert job.store.signed.active_set(job.plan.job, number, MEMBERS[:2]) == MEMBERS[:2]
    assert job.store.signed.active_set(job.plan.job, number, MEMBERS) == MEMBERS[:2]
    later = open_one(journal)
    assert job.store.signed.active_set(job.plan.job, number, MEMBERS[:2]) is None
    assert job.store.signed.active_set(job.plan.job, later, MEMBERS) == MEMBERS


# --- leases -----------------------------------------------------------------------------------


def test_a_lease_is_renewed_while_the_block_runs(job: Bench) -> None:
    assert job.store is not None
    journal = job.store.claim(job.plan.job, "run 7")
    before = job.store.jobs.get(job.plan.job).renewed
    with renewed(journal, every_s=0.01):
        for _ in range(200):
            if job.store.jobs.get(job.plan.job).renewed > before:
                break
            threading.Event().wait(0.01)
    now = job.store.jobs.get(job.plan.job)
    assert now.renewed > before
    assert now.holder == "run 7"
    job.store.claim(job.plan.job, "run 8")
    with pytest.raises(LeaseLost):
        journal.renew()


def test_two_writers_wait_for_each_other_and_only_one_holds_the_lease(job: Bench) -> None:
    assert job.store is not None
    store, lost = job.store, []

    # All claim before one works: the last of them holds the lease.
    claimed = threading.Barrier(3)

    def work(holder: str) -> None:
        journal = store.claim(job.plan.job, holder)
        claimed.wait(timeout=20)
        try:
            for _ in range(20):
                apply_round(journal)
        except LeaseLost:
            lost.append(holder)

    threads = [threading.Thread(target=work, args=(f"run {number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [it.round for it in store.history.rounds(job.plan.job)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(lost) == 2
    attempts = store.history.attempts(job.plan.job)
    assert [it.attempt for it in attempts] == list(range(1, len(attempts) + 1))


# --- kills ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "fewest"), [("round", 25), ("rollback", 10)])
def test_a_kill_between_any_two_statements_leaves_a_consistent_store(
    tmp_path: Path, what: str, fewest: int
) -> None:
    # In a process of its own: a fork of pytest's copies all that pytest has loaded.
    script = Path(__file__).with_name("killed_store.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), what], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert fewest < int(done.stdout) < 199
