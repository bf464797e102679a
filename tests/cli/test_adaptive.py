"""`hansa adaptive`: episodes with real agents, a real control and the real sidecar, without waiting."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from hansa.cli.adaptive import app

RUNNER = CliRunner()


def episodes(*options: str) -> dict[str, dict[str, object]]:
    done = RUNNER.invoke(app, ["--json", "--rounds", "32", "--set", "noise=none", *options])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output.strip().splitlines()[-1])["episodes"]
    return {it["name"]: it for it in found}


@pytest.mark.slow
def test_a_rate_that_somebody_spoils_is_seen_and_mended() -> None:
    [bad] = episodes("--only", "bad rate").values()
    assert (bad["verdict"], bad["status"]) == ("seen", "finished")
    assert "back" in str(bad["done"])
    assert float(bad["loss"]) < 0.3  # type: ignore[arg-type]


@pytest.mark.slow
def test_who_is_poisoned_is_found_and_calm_jobs_are_left_alone() -> None:
    found = episodes("--only", "calm", "--only", "poisoned member")
    assert found["calm"]["verdict"] == "left alone"
    assert found["poisoned member"]["held"]


# Seconds of a machine that does other things hide who is slow.
@pytest.mark.long
@pytest.mark.alone
def test_a_member_that_answers_late_is_seen() -> None:
    assert episodes("--only", "slow member")["slow member"]["verdict"] == "seen"


def test_an_episode_that_there_is_not_is_said_to_be_none() -> None:
    done = RUNNER.invoke(app, ["--only", "nothing of the kind"])
    assert done.exit_code != 0
    assert "no such episode" in str(done.exception)
