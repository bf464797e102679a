"""The sidecar of a real federation: a rate that somebody spoils is mended, whoever is killed meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import RunningFederation, hansa, running, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# Nobody follows the sums here: what mends the job is the sidecar.
JOB = (
    *("--rounds", "100000", "--set", "steps=1", "--set", "mode=masked", "--set", "noise=none"),
    *("--set", "rule=fedavg", "--set", "knobs.server_rate.high=1000000"),
)


def recovered(federation: RunningFederation) -> list[tuple[str, str]]:
    return federation.rows("SELECT key, inputs FROM decisions WHERE by = 'recovery' ORDER BY id")


def went_back(federation: RunningFederation) -> int:
    return sum("to_round" in json.loads(inputs) for _, inputs in recovered(federation))


def spoil(federation: RunningFederation) -> None:
    """The rate becomes far too large."""
    done = hansa(
        *("jobs", "knobs", "--set", "server_rate=900000", "--reason", "by mistake"),
        *("--instance", str(federation.instance)),
        cwd=federation.cwd,
    )
    assert done.returncode == 0, done.stderr


def rate(federation: RunningFederation) -> float:
    return float(federation.rows("SELECT value FROM knobs WHERE name = 'server_rate'")[0][0])


def test_a_rate_that_somebody_spoils_is_mended_and_the_job_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, *JOB) as federation:
        federation.reach(15)
        federation.kill("sidecar")
        spoil(federation)
        # Another process, over what the first one remembered; and control dies while it is asked.
        until(lambda: recovered(federation), 60)
        federation.kill("control")
        until(lambda: rate(federation) < 900000 and went_back(federation) >= 1, 60)
        before = federation.round
        federation.reach(before + 20, 60)
        keys = [key for key, _ in recovered(federation)]
        assert len(set(keys)) == len(keys)
        assert federation.job_status == "running"
        undone = federation.rows("SELECT count(*) FROM attempts WHERE status = 'undone'")[0][0]
        assert undone >= 1
        rounds = [row[0] for row in federation.rows("SELECT round FROM rounds ORDER BY round")]
        assert rounds == list(range(1, len(rounds) + 1))
        shown = hansa(
            *("tuner", "explain", "--by", "recovery", "--json"),
            *("--instance", str(federation.instance)),
            cwd=tmp_path,
        )
        assert shown.returncode == 0, shown.stderr
        assert any("back to round" in it["sentence"] for it in json.loads(shown.stdout))
