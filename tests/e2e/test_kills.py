"""Kill anything at any moment: the job goes on, attempts only rise, no round counts twice."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from running import RunningFederation, hansa, running, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PROCESSES = (
    "node-hospitium",
    "agent-stapelhaus",
    "serverapp",
    "superlink",
    "control",
    "executor",
    "agent-kontor-bank",
    "node-kontor-bank",
)


def check_history(federation: RunningFederation) -> None:
    """What must hold of a store whatever was killed."""
    rounds = [row[0] for row in federation.rows("SELECT round FROM rounds ORDER BY round")]
    assert rounds == list(range(1, len(rounds) + 1))
    attempts = [row[0] for row in federation.rows("SELECT attempt FROM rounds ORDER BY round")]
    assert attempts == sorted(set(attempts))
    opened = [row[0] for row in federation.rows("SELECT attempt FROM attempts ORDER BY opened")]
    assert opened == sorted(opened)
    bases = federation.rows("SELECT base, round FROM attempts WHERE status = 'applied' ORDER BY round")
    assert all(base == number - 1 for base, number in bases)


def test_a_job_survives_the_death_of_every_process_in_turn(tmp_path: Path) -> None:
    dice = random.Random(7)
    with running(tmp_path, "--rounds", "100000", "--set", "noise=none") as federation:
        federation.reach(3)
        for process in PROCESSES:
            time.sleep(dice.uniform(0, 0.5))
            before = federation.round
            federation.kill(process)
            federation.reach(before + 5, 90)
            check_history(federation)
        cohorts = federation.rows(
            "SELECT json_array_length(active) FROM attempts WHERE status='applied' ORDER BY round"
        )
        assert min(count for (count,) in cohorts) >= 4
        until(
            lambda: (
                federation.rows(
                    "SELECT json_array_length(active) FROM attempts WHERE status='applied' ORDER BY round DESC LIMIT 1"
                )
                == [(5,)]
            ),
            120,
        )
        assert federation.job_status == "running"


def test_a_stopped_job_stops_and_a_resumed_one_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, "--rounds", "100000", "--set", "noise=none") as federation:
        federation.reach(3)
        job = federation.rows("SELECT id FROM jobs")[0][0]
        assert hansa("jobs", "pause", job, cwd=tmp_path).returncode == 0
        until(lambda: federation.job_status == "paused", 20)
        reached = federation.round
        time.sleep(1.0)
        assert federation.round == reached
        assert hansa("jobs", "resume", job, cwd=tmp_path).returncode == 0
        federation.reach(reached + 3)
        check_history(federation)
        assert hansa("jobs", "stop", job, cwd=tmp_path).returncode == 0
        until(lambda: federation.job_status == "stopped", 20)
