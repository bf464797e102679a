"""The scaler's shell: written down before it is done, done once, held still when a person says so."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from scaled import LIMITS, Counted, Scaled, Told, by_demand
from watched import watched

from hansa.contract.scaling import ScalingEntry
from hansa.sidecar.actuators import Replicas
from hansa.sidecar.scaler.by_demand import ByDemand
from hansa.sidecar.scaler.journal import ALL, Entry, Journal
from hansa.sidecar.scaler.shell import Parts, Policy, decide
from hansa.sidecar.scaling import Scaler, ScalingDecision, Signals
from hansa.sidecar.server_api import Away, Refused


def test_what_is_decided_is_done_and_kept_with_its_reason_and_its_cost(tmp_path: Path) -> None:
    it = Scaled(tmp_path)
    it.look(32.0)
    it.look(32.0)
    assert it.actuator.asked == [4]
    first, second = it.journal.history()
    assert (first.did, first.decision.current, first.decision.wanted, first.demand) == ("scaled", 1, 4, 32.0)
    assert "needs 4" in first.decision.reason
    assert (first.cpu, first.memory) == (0.5, 0.25)
    assert (second.did, second.ready) == ("nothing", 4)
    assert second.decision.cost == pytest.approx(4 * LIMITS.price / 60)
    assert it.journal.load("web").newest == second


def test_the_wish_is_on_disk_before_anything_is_started(tmp_path: Path) -> None:
    it = Scaled(tmp_path)
    seen: list[int | None] = []
    real = it.actuator.scale

    def scale(to: int) -> Replicas:
        memory = Journal(tmp_path).load("web")
        assert memory.newest is not None
        seen.append(memory.pending)
        assert (memory.newest.decision.wanted, memory.policy is None) == (to, False)
        return real(to)

    it.actuator.scale = scale  # type: ignore[method-assign]
    it.look(32.0)
    assert seen == [4]
    assert it.journal.load("web").pending is None


def test_killed_before_it_acts_another_one_acts(tmp_path: Path) -> None:
    it = Scaled(tmp_path)

    def die(to: int) -> Replicas:
        raise KeyboardInterrupt

    real, it.actuator.scale = it.actuator.scale, die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        it.look(32.0)
    it.actuator.scale = real  # type: ignore[method-assign]
    it.start().finish()
    assert it.actuator.asked == [4]
    # And only that one.
    it.start().finish()
    assert it.actuator.asked == [4]


def test_a_restart_goes_on_where_the_policy_was(tmp_path: Path) -> None:
    whole, parted = Scaled(tmp_path / "whole"), Scaled(tmp_path / "parted")
    for demand in (32.0, 32.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 48.0):
        whole.look(demand)
        parted.look(demand)
        parted.start()
    assert parted.actuator.asked == whole.actuator.asked == [4, 1, 5]
    assert parted.journal.history() == whole.journal.history()


def forecasting(state: Mapping[str, Any] | None) -> Policy:
    return Scaler(LIMITS) if state is None else Scaler.from_state(state, LIMITS)


def test_the_forecasting_policy_goes_on_after_a_restart_as_if_there_had_been_none(tmp_path: Path) -> None:
    whole = Scaled(tmp_path / "whole", policy=forecasting)
    parted = Scaled(tmp_path / "parted", policy=forecasting)
    for minute in range(400):
        demand = 22.0 + 18.0 * math.sin(minute / 30.0)
        whole.look(demand)
        parted.look(demand)
        if minute % 7 == 0:
            parted.start()
    assert parted.actuator.asked == whole.actuator.asked
    assert len(whole.actuator.asked) > 3
    assert parted.journal.history() == whole.journal.history()


def test_a_policy_takes_no_memory_of_another_one_for_its_own(tmp_path: Path) -> None:
    it = Scaled(tmp_path, policy=forecasting)
    it.look(32.0)
    it.policy = by_demand
    it.start()
    it.look(32.0)
    it.policy = forecasting
    it.start()
    it.look(32.0)
    assert [entry.decision.at for entry in it.journal.history()] == [60.0, 120.0, 180.0]


def test_a_memory_that_cannot_be_read_is_begun_anew(tmp_path: Path) -> None:
    it = Scaled(tmp_path)
    it.look(32.0)
    for content in ("{", '{"policy": {"acted": 1}, "newest": null, "pending": null, "untold": []}', "[]"):
        (tmp_path / "web.service.json").write_text(content)
        it.start()
        it.look(32.0)
        assert it.journal.load("web").newest is not None


def test_paused_it_decides_and_does_nothing(tmp_path: Path) -> None:
    it = Scaled(tmp_path)
    for name in ("web", ALL):
        Journal(tmp_path).pause(name, "the disk is being replaced")
        it.look(32.0)
        newest = it.journal.history()[-1]
        assert (newest.did, newest.decision.wanted, it.actuator.asked) == ("paused", 4, [])
        assert newest.problem == "paused: the disk is being replaced"
        assert Journal(tmp_path).resume(name)
        assert not Journal(tmp_path).resume(name)
    it.look(32.0)
    assert it.actuator.asked == [4]


def test_a_pause_that_cannot_be_read_holds_still(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    it = Scaled(tmp_path)
    (tmp_path / "paused.json").write_text("{")
    it.look(32.0)
    assert it.actuator.asked == []
    assert "remove it, or pause anew" in caplog.text


def test_a_wish_of_before_the_pause_is_not_done_after_a_restart(tmp_path: Path) -> None:
    it = Scaled(tmp_path)
    it.look(32.0)
    memory = it.journal.load("web")
    memory.pending = 2
    it.journal.save("web", memory)
    it.journal.pause("web", "hands off")
    it.start().finish()
    assert it.actuator.asked == [4]


def test_a_dry_run_does_nothing(tmp_path: Path) -> None:
    it = Scaled(tmp_path, act=False)
    it.look(32.0)
    it.start().finish()
    assert (it.journal.history()[-1].did, it.actuator.asked) == ("dry run", [])


def test_what_cannot_be_done_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    it = Scaled(tmp_path)
    real = it.actuator.read
    it.actuator.read = lambda: Replicas(1)  # type: ignore[method-assign]
    it.actuator.problem = "the gate is shut; open it"
    it.look(32.0)
    it.look(32.0)
    newest = it.journal.history()[-1]
    assert (newest.did, newest.problem) == ("failed", "the gate is shut; open it")
    assert caplog.text.count("the gate is shut") == 1
    it.actuator.read = real  # type: ignore[method-assign]
    # Not even to be read: then nothing is decided.
    it.look(32.0)
    assert len(it.journal.history()) == 2
    it.actuator.problem = ""
    it.look(32.0)
    assert it.actuator.replicas == 4
    assert "all is well again" in caplog.text


class Heard:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.signals: list[Signals] = []
        self.by_demand = ByDemand(LIMITS)

    def decide(self, signals: Signals) -> ScalingDecision:
        self.signals.append(signals)
        return self.by_demand.decide(signals)

    def state(self) -> dict[str, Any]:
        return self.by_demand.state()


@pytest.mark.parametrize("jobs", [False, True])
def test_where_demand_is_jobs_neither_load_nor_queue_speaks_for_more(tmp_path: Path, jobs: bool) -> None:
    it, heard = Scaled(tmp_path), Heard()
    entry = decide(Parts(lambda _: heard, it.source, it.actuator, jobs=jobs), heard, 60.0)
    [signals] = heard.signals
    told = (None, None, None) if jobs else (0.5, 0.25, 3.0)
    assert (signals.cpu, signals.memory, signals.queue) == told
    assert (entry.cpu, entry.memory, entry.queue) == (0.5, 0.25, 3.0)


def test_demand_that_nobody_knows_changes_nothing_and_is_said(tmp_path: Path) -> None:
    it = Scaled(tmp_path)
    it.source.demand = None
    it.look()
    newest = it.journal.history()[-1]
    assert (newest.demand, newest.problem, newest.did) == (None, "nobody answers", "nothing")


class Control:
    """Takes entries, is away, or refuses them."""

    def __init__(self) -> None:
        self.entries: list[Mapping[str, Any]] = []
        self.error: Exception | None = None
        # Of such an entry alone it takes no word.
        self.odd: set[float] = set()

    def enter_scaling(self, entries: Sequence[Mapping[str, Any]]) -> None:
        if self.error is not None:
            raise self.error
        if any(entry["at"] in self.odd for entry in entries):
            raise Refused(422, "no such field")
        self.entries += entries


def test_control_is_told_of_everything_once_it_is_back(tmp_path: Path) -> None:
    control = Control()
    it = Scaled(tmp_path, told=control)
    control.error = Away("not now")
    it.look(32.0)
    it.look(32.0)
    it.start()
    control.error = None
    it.look(32.0)
    assert [entry["at"] for entry in control.entries] == [60.0, 120.0, 180.0]
    assert it.journal.load("web").untold == []
    control.error = Refused(422, "no such field")
    it.look(32.0)
    assert it.journal.load("web").untold == []


def test_one_entry_that_control_does_not_take_costs_no_other(tmp_path: Path) -> None:
    control = Control()
    it = Scaled(tmp_path, told=control)
    control.error, control.odd = Refused(401, "wrong token"), {120.0}
    for _ in range(3):
        it.look(32.0)
    assert len(it.journal.load("web").untold) == 3
    control.error = None
    it.look(32.0)
    assert [entry["at"] for entry in control.entries] == [60.0, 180.0, 240.0]
    assert it.journal.load("web").untold == []


def test_control_takes_what_the_forecasting_policy_says_in_three_weeks(tmp_path: Path) -> None:
    source, actuator, policy = Told(), Counted(), Scaler(LIMITS)
    parts = Parts(forecasting, source, actuator)
    entries = []
    for minute in range(0, 21 * 1440, 15):
        source.demand = max(0.0, 22.0 + 20.0 * math.sin(minute / 1440 * 2 * math.pi))
        entry = decide(parts, policy, 1.79e9 + 60.0 * minute)
        actuator.scale(entry.decision.wanted)
        entries.append(entry.as_json())
        ScalingEntry.model_validate_json(json.dumps(entries[-1]))
    assert any(it["trusted"] and it["band"] is not None for it in entries)
    with watched(tmp_path) as job:
        said = job.api().enter_scaling(entries[-300:])
        assert said == {"entered": 300}
        [newest] = job.desk.store.scaling.newest()
        assert Entry.from_json(newest.model_dump(exclude={"id"})) == Entry.from_json(entries[-1])


def test_the_history_stays_within_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hansa.sidecar.scaler.journal.MOST_BYTES", 20_000)
    it = Scaled(tmp_path)
    for number in range(300):
        it.look(float(number % 40))
    files = sorted(tmp_path.glob("history*.jsonl"))
    assert len(files) == 2
    assert sum(path.stat().st_size for path in files) < 2 * 21_000
    kept = it.journal.history()
    assert 40 < len(kept) < 300
    assert [entry.decision.at for entry in kept] == [60.0 * (301 - back) for back in range(len(kept), 0, -1)]


def test_a_line_that_was_cut_short_hides_no_other(tmp_path: Path) -> None:
    it = Scaled(tmp_path)
    it.look(5.0)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"at": 1')
    it.look(5.0)
    assert len(it.journal.history()) == 2


def test_an_entry_is_the_same_after_a_journey(tmp_path: Path) -> None:
    it = Scaled(tmp_path)
    it.look(32.0)
    [entry] = it.journal.history()
    assert Entry.from_json(entry.as_json()) == entry
