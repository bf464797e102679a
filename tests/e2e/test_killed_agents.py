"""Agents killed at random moments and at every step of masked attempts: the job goes on and every sum is whole."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest
from running import RunningFederation, running, until
from test_kills import check_history

from hansa.clients.ledger import LEDGER, read_rows
from hansa.privacy.records import ChargeRow

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MEMBERS = ("kontor-bank", "speicher-credit", "hospitium", "heiliggeist", "stapelhaus")


# What a member's own log says of its newest attempt while it is at a step.
STEPS = {
    "accepted": "reply IS NULL",
    "uploaded": "reply IS NOT NULL AND active IS NULL",
    "bound": "active IS NOT NULL",
}


def check_health(federation: RunningFederation) -> None:
    """What must hold of a masked job in which nobody cheated, whoever died."""
    check_history(federation)
    assert federation.job_status == "running"
    least = federation.rows("SELECT min(json_array_length(active)) FROM attempts WHERE status='applied'")
    # n = 5, c = 1: four members open a sum, fewer never do.
    assert least[0][0] >= 4
    # A sum with a mask left on it is noise over the whole grid: the model would be worthless at once.
    aucs = federation.rows("SELECT value FROM metrics WHERE name='auc' ORDER BY round DESC LIMIT 5")
    assert len(aucs) == 5
    assert all(value > 0.7 for (value,) in aucs)
    # Whatever was refused or dropped must not look as if somebody had cheated.
    accused = ("bad-share", "bad-reply", "bad-prekey", "both-shares", "second-active-set")
    events = federation.rows("SELECT kind, member, sentence FROM events")
    assert [event for event in events if event[0] in accused] == []


def kill_at(federation: RunningFederation, member: str, step: str) -> None:
    """SIGKILL a member's agent the moment its own log shows that it is at a step of an attempt that just began."""
    pid = federation.pid(f"agent-{member}")
    path = federation.instance / "members" / member / "agent.sqlite"
    query = f"SELECT attempt FROM attempts WHERE attempt > ? AND {STEPS[step]} ORDER BY attempt DESC LIMIT 1"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10) as log:
        newest = int(log.execute("SELECT max(attempt) FROM attempts").fetchone()[0])
        deadline = time.monotonic() + 30
        while log.execute(query, (newest,)).fetchone() is None:
            assert time.monotonic() < deadline, f"{member} is never {step}"
    os.kill(pid, signal.SIGKILL)


def charges_of(federation: RunningFederation, member: str) -> Counter[tuple[int, str]]:
    """How often a member's ledger says that it paid for which attempt and purpose."""
    rows = read_rows(federation.instance / "members" / member / LEDGER)
    charged = [it.body for it in rows if isinstance(it.body, ChargeRow)]
    assert not any(it.recovered for it in charged)
    # A release costs the same each time: no attempt is paid for in part.
    assert len({(it.purpose, it.amount) for it in charged}) == len({it.purpose for it in charged})
    return Counter((it.attempt, it.purpose) for it in charged)


def test_agents_that_die_under_noise_have_paid_for_what_they_took_part_in_and_the_job_finishes(
    tmp_path: Path,
) -> None:
    # Far enough from each other for what the charter admits of unfinished attempts: 3, and one more for five finished.
    rounds, killed = 30, Counter[str]()
    with running(tmp_path, "--rounds", str(rounds), "--set", "steps=1") as federation:
        federation.reach(3)
        for step, member in zip(STEPS, MEMBERS, strict=False):
            before = federation.round
            kill_at(federation, member, step)
            killed[member] += 1
            federation.reach(min(before + 3, rounds), 60)
        until(lambda: federation.job_status == "finished", 90)
        check_history(federation)
        assert federation.round == rounds
        kinds = {kind for (kind,) in federation.rows("SELECT kind FROM events")}
        assert not kinds & {"attempt-limit", "ledger-behind-witness", "ledger-fork", "budget-exhausted"}
        attempts = {
            attempt: (kind, set(json.loads(cohort)), set(json.loads(active)))
            for attempt, kind, cohort, active in federation.rows(
                "SELECT attempt, kind, cohort, active FROM attempts"
            )
        }
        charges = {member: charges_of(federation, member) for member in MEMBERS}
        for member, paid in charges.items():
            assert set(paid.values()) == {1}
            active = {number for number, (_, _, members) in attempts.items() if member in members}
            asked = {number for number, (_, members, _) in attempts.items() if member in members}
            charged = {number for number, _ in paid}
            assert active <= charged <= asked
            # What it was charged for and did not upload, it died in.
            assert len(charged - active) <= killed[member]
        for number, (kind, _, active) in attempts.items():
            purposes = [{what for paid_for, what in charges[it] if paid_for == number} for it in active]
            assert all(it == purposes[0] and kind in it for it in purposes)


@pytest.mark.long
def test_agents_that_die_at_each_step_of_a_masked_attempt_cost_at_most_that_attempt(tmp_path: Path) -> None:
    with running(tmp_path, "--rounds", "100000", "--set", "steps=1", "--set", "noise=none") as federation:
        federation.reach(5)
        for again, step in enumerate([*STEPS, *STEPS]):
            before = federation.round
            kill_at(federation, MEMBERS[again % len(MEMBERS)], step)
            federation.reach(before + 4, 90)
        check_health(federation)


@pytest.mark.long
def test_agents_that_die_at_any_step_of_masked_attempts_cost_attempts_and_nothing_else(
    tmp_path: Path,
) -> None:
    dice = random.Random(11)
    with running(tmp_path, "--rounds", "100000", "--set", "steps=1", "--set", "noise=none") as federation:
        federation.reach(5)
        for again in range(8):
            before = federation.round
            for member in dice.sample(MEMBERS, 1 + again % 2):
                time.sleep(dice.uniform(0, 0.4))
                federation.kill(f"agent-{member}")
            federation.reach(before + 3, 90)
        check_health(federation)
