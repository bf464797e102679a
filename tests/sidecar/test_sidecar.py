"""The sidecar over a control that really listens: what it sees it does once, wherever it or the server is killed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from federation import JOB
from watched import WatchedJob, listening, loss_at, watched

from hansa.contract.jobs import MetricValue
from hansa.sidecar.anomaly import Alarm
from hansa.sidecar.job_watch import COURSE_REST_S, JobMemory, _due
from hansa.sidecar.server_api import Away, ServerApi

BAD = {"log_loss": MetricValue(value=2.5, error=0.002), "auc": MetricValue(value=0.55, error=0.002)}


def grown(job: WatchedJob, rounds: int) -> None:
    for _ in range(rounds):
        job.train(loss_at(job.round))


def test_a_job_that_diverges_goes_back_once_at_a_lower_rate(tmp_path: Path) -> None:
    with watched(tmp_path) as job:
        sidecar = job.sidecar()
        grown(job, 12)
        sidecar.look()
        assert job.decisions("recovery") == []
        # The model of round 12 is bad: that is known when round 13 is trained on it.
        job.train(BAD)
        sidecar.look()
        [decision] = job.decisions("recovery")
        assert job.round < 12
        assert job.rate == pytest.approx(0.06)
        assert decision.inputs["to_round"] == job.round
        assert "0.2 -> 0.06" in decision.sentence
        sidecar.look()
        grown(job, 1)
        sidecar.look()
        assert [it.key for it in job.decisions("recovery") if "to_round" in it.inputs] == [decision.key]
        # It goes well: the rate comes back in steps.
        for _ in range(30):
            grown(job, 1)
            sidecar.look()
        rates = [it.knobs["server_rate"] for it in job.decisions("recovery")]
        assert rates[0] < rates[1] <= rates[-1] <= 0.2 + 1e-9
        assert job.rate == rates[-1]


class Dying(ServerApi):
    """A connection whose process is killed before or after its n-th request that changes something."""

    def __init__(self, url: str, token: str, dies: int, *, answered: bool) -> None:
        super().__init__(url, token)
        self.dies, self.answered, self.count = dies, answered, 0

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        if method != "POST":
            return super()._ask(method, path, body)
        self.count += 1
        if self.count == self.dies:
            if self.answered:
                super()._ask(method, path, body)
            raise KeyboardInterrupt
        return super()._ask(method, path, body)


@pytest.mark.slow
@pytest.mark.parametrize("answered", [False, True])
def test_killed_at_any_request_it_decides_nothing_twice_and_nothing_else(
    tmp_path: Path, answered: bool
) -> None:
    with watched(tmp_path / "whole") as job:
        story(job, lambda: job.sidecar().look())
        expected = [(it.key, it.knobs) for it in job.desk.store.decisions.of(JOB)]
        end = (job.round, job.rate)
    assert len(expected) > 2
    for dies in range(1, len(expected) + 1):
        with watched(tmp_path / f"killed-{dies}") as job:
            token = job.api()._headers["Authorization"].split()[1]
            api = Dying(job.url, token, dies, answered=answered)

            def look(job: WatchedJob = job, api: Dying = api) -> None:
                try:
                    job.sidecar(api).look()
                except KeyboardInterrupt:
                    # Another process, over the same folder.
                    job.sidecar(api).look()

            story(job, look)
            assert api.count >= dies
            found = [(it.key, it.knobs) for it in job.desk.store.decisions.of(JOB)]
            assert sorted(found, key=str) == sorted(expected, key=str)
            assert (job.round, job.rate) == end


def story(job: WatchedJob, look: Any) -> None:
    """Rounds that go well, one that does not, an alarm about seconds, a member that is late."""
    grown(job, 14)
    look()
    job.train(loss_at(job.round), seconds=20.0)
    look()
    job.train(BAD)
    look()
    look()
    for _ in range(9):
        job.train(loss_at(job.round), missing=("c",))
    look()


def test_a_machine_that_is_busy_now_and_then_is_told_once_an_hour_and_is_no_alarm(tmp_path: Path) -> None:
    with watched(tmp_path) as job:
        sidecar = job.sidecar()
        grown(job, 14)
        sidecar.look()
        for seconds in (20.0, 90.0):
            job.train(loss_at(job.round), seconds=seconds)
            sidecar.look()
            grown(job, 14)
        # Killed in between, it knows what it told.
        job.sidecar().look()
        [told] = [it for it in job.decisions("watch") if it.inputs["metric"] == "seconds"]
        assert told.inputs["severity"] == "notice"
        [memory] = sidecar_memories(tmp_path)
        assert len(memory["course"]) == 1
        # An hour later it is told again.
        memory["course"] = {whom: at - COURSE_REST_S for whom, at in memory["course"].items()}
        found = JobMemory.from_json(memory)
        record = {"applied": datetime.now(UTC).isoformat()}
        alarm = Alarm("seconds", 1.0, "step", "notice", "up", (), "")
        assert [_due(found, record, alarm) for _ in range(2)] == [True, False]
        slow = replace(alarm, members=("c",))
        assert [_due(found, record, it) for it in (replace(slow, direction="down"), slow, slow)] == [
            False,
            True,
            False,
        ]


def sidecar_memories(folder: Path) -> list[dict[str, Any]]:
    """What the sidecar remembers of its jobs."""
    read = (json.loads(path.read_text()) for path in sorted((folder / "sidecar").iterdir()))
    return [it for it in read if "course" in it]


def test_memory_that_is_lost_costs_no_second_decision(tmp_path: Path) -> None:
    with watched(tmp_path) as job:
        story(job, lambda: job.sidecar().look())
        before = [it.key for it in job.desk.store.decisions.of(JOB)]
        for path in (tmp_path / "sidecar").iterdir():
            path.write_text("{")
        job.sidecar().look()
        after = [it.key for it in job.desk.store.decisions.of(JOB)]
        assert after[: len(before)] == before
        assert [it for it in after[len(before) :] if it.startswith("recovery: roll")] == []


def test_a_server_that_is_away_is_asked_again(tmp_path: Path) -> None:
    with watched(tmp_path) as job:
        with listening(job.desk) as port:
            sidecar = job.sidecar(
                ServerApi(f"http://127.0.0.1:{port}", job.api()._headers["Authorization"][7:])
            )
            grown(job, 13)
            sidecar.look()
        job.train(BAD)
        sidecar.look()
        assert job.decisions("recovery") == []
        with listening(job.desk, port):
            sidecar.look()
        assert len(job.decisions("recovery")) == 1


def test_what_the_operator_paused_stays_paused(tmp_path: Path) -> None:
    with watched(tmp_path) as job:
        sidecar = job.sidecar()
        grown(job, 13)
        sidecar.look()
        job.desk.store.jobs.want(JOB, "pause", "operator")
        job.train(BAD)
        sidecar.look()
        assert (job.round, job.decisions("recovery")) == (14, [])
        assert job.desk.store.jobs.get(JOB).wanted == "pause"


def test_a_rate_that_is_pinned_is_not_moved_and_the_job_goes_back_all_the_same(tmp_path: Path) -> None:
    with watched(tmp_path, pinned={"server_rate": 0.2}) as job:
        sidecar = job.sidecar()
        grown(job, 13)
        sidecar.look()
        job.train(BAD)
        sidecar.look()
        [decision] = job.decisions("recovery")
        assert decision.knobs == {}
        assert (job.round < 13, job.rate) == (True, 0.2)


def test_where_every_knob_is_pinned_it_only_watches(tmp_path: Path) -> None:
    with watched(tmp_path) as job:
        sidecar = job.sidecar()
        grown(job, 13)
        sidecar.look()
        job.desk.store.knobs.pin(JOB, ["server_rate", "client_rate"], True, by="operator")
        job.train(BAD)
        sidecar.look()
        assert job.decisions("watch")
        assert (job.round, job.decisions("recovery")) == (14, [])


def test_a_model_that_is_no_number_cuts_the_rate_and_the_round_before_stands(tmp_path: Path) -> None:
    with watched(tmp_path) as job:
        sidecar = job.sidecar()
        grown(job, 6)
        sidecar.look()
        job.fail("the new model has values that are not finite; the one before it stays")
        sidecar.look()
        assert (job.round, job.rate) == (6, pytest.approx(0.06))
        job.fail("3 uploads arrived, the charter needs 4; missing: d")
        sidecar.look()
        assert job.rate == pytest.approx(0.06)


def test_an_alarm_has_a_probe_asked_for_where_the_job_has_probes(tmp_path: Path) -> None:
    with watched(tmp_path, tuning="probe") as job:
        sidecar = job.sidecar()
        grown(job, 40)
        sidecar.look()
        assert not job.journal.probe_wanted()
        worse = {"log_loss": MetricValue(value=0.42, error=0.002)}
        for _ in range(8):
            job.train(worse)
            sidecar.look()
        alarms = [it for it in job.decisions("watch") if it.inputs["metric"] == "loss"]
        assert alarms
        assert job.decisions("tuner")[0].probe
        assert job.journal.probe_wanted()


def test_a_member_that_is_late_again_and_again_is_named_and_not_held_out(tmp_path: Path) -> None:
    with watched(tmp_path) as job:
        sidecar = job.sidecar()
        for _ in range(20):
            job.train(loss_at(job.round), missing=("c",))
            sidecar.look()
        [named] = job.decisions("members")
        assert (named.inputs["member"], named.inputs["fault"]) == ("c", "late")
        assert all(it.held is None for it in job.desk.store.members.all())


def test_what_is_no_answer_of_control_is_said_to_be_none(tmp_path: Path) -> None:
    api = ServerApi("http://127.0.0.1:1", "x", timeout_s=0.5)
    with pytest.raises(Away, match="does not answer"):
        api.jobs()
    with pytest.raises(ValueError, match="http://HOST:PORT"):
        ServerApi("https://example.org", "x")


def test_a_loss_that_rises_slowly_has_a_probe_asked_for_once_in_a_while(tmp_path: Path) -> None:
    with watched(tmp_path, tuning="probe", pinned={"server_rate": 0.2, "client_rate": 1.0}) as job:
        sidecar = job.sidecar()
        for number in range(40):
            job.train({"log_loss": MetricValue(value=0.4 + 0.003 * number, error=0.002)})
            sidecar.look()
        asked = [it for it in job.decisions("tuner") if it.probe]
        # After each a few rounds are let pass.
        assert 1 <= len(asked) <= 8
        assert "rising" in asked[0].sentence


def test_figures_of_other_members_records_are_no_divergence(tmp_path: Path) -> None:
    with watched(tmp_path) as job:
        sidecar = job.sidecar()
        grown(job, 14)
        sidecar.look()
        # While c is away the model is evaluated on the others' records, on which it looks worse.
        worse = {"log_loss": MetricValue(value=0.52, error=0.002), "auc": MetricValue(value=0.7, error=0.002)}
        for _ in range(3):
            job.train(worse, missing=("c",))
            sidecar.look()
        for _ in range(6):
            job.train(loss_at(job.round))
            sidecar.look()
        assert job.decisions("recovery") == []
        assert [it for it in job.decisions("watch") if it.inputs["metric"] in ("loss", "auc")] == []
