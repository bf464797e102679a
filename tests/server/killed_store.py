"""Kills a job's work before each of its statements in turn, and checks what the store holds each time.

Run with a folder and what is done to the job, `round` or `rollback`; prints how many kills there were.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from journals import DEFAULTS, MEMBERS, apply_round, open_one, plan, result, state
from sqlalchemy import Engine, event

from hansa.contract.jobs import MetricValue
from hansa.server.store import Store, checkpoints, open_store

# A state goes with every round: that, too, may be where it is killed.
checkpoints.KEPT = 2
# What is done to a job: the store, the job, and a folder for what was told to be done.
Act = Callable[[Store, str, Path], None]


def die_at(number: int, work: Path, act: Act) -> int:
    """Do something to a job in a forked process that kills itself before its `number`th statement; its signal, or 0."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    try:
        count = 0

        def step(*_: object) -> None:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

        store = open_store(f"sqlite:///{work}/store.sqlite")
        event.listen(Engine, "before_cursor_execute", step)
        event.listen(Engine, "commit", step)
        act(store, store.jobs.all()[0].job, work)
    finally:
        os._exit(0)


def one_round(store: Store, job: str, work: Path) -> None:
    """All that a run does for one round."""
    journal = store.claim(job, f"run {os.getpid()}")
    (work / "claimed").touch()
    attempt = open_one(journal)
    (work / "attempt").write_text(str(attempt))
    journal.event("note", f"attempt {attempt}")
    done = result(journal, attempt, metrics={"auc": MetricValue(value=0.5)})
    journal.commit(done, state(done.round or 0))
    (work / "round").write_text(str(done.round))
    journal.set_status("running", f"round {done.round}")


def roll_back(store: Store, job: str, work: Path) -> None:
    """The way back to the best of six rounds."""
    store.jobs.roll_back(job, 3, by="operator", reason="it diverged")
    (work / "back").touch()


def check_all_or_nothing(work: Path, job: str) -> None:
    """The job stands where it stood, or at round 3 with all that belongs to that."""
    with sqlite3.connect(work / "store.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    store = open_store(f"sqlite:///{work}/store.sqlite")
    history, back = store.history, store.jobs.get(job).round == 3
    undone = ["undone"] * 3 if back else ["applied"] * 3
    assert back or not (work / "back").exists()
    assert [it.status for it in history.attempts(job)] == ["applied"] * 3 + undone
    assert [it.round for it in history.rounds(job)] == list(range(1, 4 if back else 7))
    assert [it.round for it in history.metrics(job)] == list(range(4 if back else 6))
    kept = [number for number in range(9) if history.checkpoint(job, number) is not None]
    assert kept == ([3] if back else [3, 5, 6])
    assert len(history.newest_events(job, kind="rolled-back", limit=9)) == back
    assert store.jobs.get(job).epoch == 1 + back
    store.close()


def check_consistent(work: Path, job: str) -> None:
    """Whatever was interrupted: numbers without gaps, rounds with all that belongs to them."""
    store = open_store(f"sqlite:///{work}/store.sqlite")
    with sqlite3.connect(work / "store.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    attempts, rounds = store.history.attempts(job), store.history.rounds(job)
    assert [it.attempt for it in attempts] == list(range(1, len(attempts) + 1))
    assert [it.round for it in rounds] == list(range(1, len(rounds) + 1))
    assert {it.attempt: it.round for it in attempts if it.status == "applied"} == {
        it.attempt: it.round for it in rounds
    }
    assert sum(it.status == "open" for it in attempts) <= 1
    for it in attempts:
        closed = it.status not in ("open", "abandoned")
        assert len(it.participation) == (len(MEMBERS) if closed else 0)
        measured = [metric for metric in store.history.metrics(job) if metric.attempt == it.attempt]
        assert len(measured) == (1 if closed else 0)
    progress = store.claim(job, "checker").progress()
    assert progress.round == len(rounds)
    if progress.round:
        assert progress.state is not None
        assert np.array_equal(progress.state["weights"], state(progress.round)["weights"])
    for name, found in (("attempt", len(attempts)), ("round", len(rounds))):
        told = work / name
        assert not told.exists() or found >= int(told.read_text()), f"what was told as {name} is gone"
    store.close()


def main(work: Path, what: str) -> int:
    """How many kills it took until the work came to its end."""
    made = plan(rounds=1000)
    store = open_store(f"sqlite:///{work}/store.sqlite")
    store.jobs.submit(made, "0" * 64, DEFAULTS)
    act, check = one_round, check_consistent
    if what == "rollback":
        act, check = roll_back, check_all_or_nothing
        journal = store.claim(made.job, "run 1")
        for number in range(6):
            apply_round(journal, metrics={"auc": MetricValue(value=0.9 if number == 3 else 0.5)})
        journal.set_status("paused")
    store.close()
    for number in range(1, 200):
        died = die_at(number, work, act)
        check(work, made.job)
        if not died:
            return number - 1
        assert died == signal.SIGKILL
    return 199


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2]))
