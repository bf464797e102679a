"""Agents killed at random moments of masked attempts, one and two at a time: the job goes on and every sum is whole."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from running import running
from test_kills import check_history

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MEMBERS = ("kontor-bank", "speicher-credit", "hospitium", "heiliggeist", "stapelhaus")


def test_agents_that_die_at_any_step_of_masked_attempts_cost_attempts_and_nothing_else(
    tmp_path: Path,
) -> None:
    dice = random.Random(11)
    with running(tmp_path, "--rounds", "100000", "--set", "steps=1") as federation:
        federation.reach(5)
        for again in range(8):
            before = federation.round
            for member in dice.sample(MEMBERS, 1 + again % 2):
                time.sleep(dice.uniform(0, 0.4))
                federation.kill(f"agent-{member}")
            federation.reach(before + 3, 90)
        check_history(federation)
        assert federation.job_status == "running"
        least = federation.rows("SELECT min(json_array_length(active)) FROM attempts WHERE status='applied'")
        # n = 5, c = 1: four members open a sum, fewer never do.
        assert least[0][0] >= 4
        # A sum with a mask left on it is noise over the whole grid: the model would be worthless at once.
        aucs = federation.rows("SELECT value FROM metrics WHERE name='auc' ORDER BY round DESC LIMIT 5")
        assert len(aucs) == 5
        assert all(value > 0.7 for (value,) in aucs)
        # Nobody cheated: whatever was refused or dropped must not look as if somebody had.
        accused = ("bad-share", "bad-reply", "bad-prekey", "both-shares", "second-active-set")
        events = federation.rows("SELECT kind, member, sentence FROM events")
        assert [event for event in events if event[0] in accused] == []
