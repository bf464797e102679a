"""Parts one after the other: what fails is said, what was there before is kept, Ctrl-C ends it."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from hansa.cli.adaptive_run import EpisodeResult
from hansa.cli.episode_series import EpisodeSeries
from hansa.cli.episodes import Episode, Trouble
from hansa.cli.interrupts import Interruption
from hansa.cli.results import Figure
from hansa.cli.suite import summary
from hansa.cli.suite.found import Fact, Found, Outcome
from hansa.cli.suite.learning import AdaptivePart
from hansa.cli.suite.running import Interrupted, Stage, exit_code, run_parts
from hansa.cli.suite.scenarios import ScenariosPart
from hansa.cli.suite.serving import ScalingPart
from hansa.contract.errors import HansaError


@dataclass
class Scripted:
    """A part that does what a test says."""

    name: str
    raises: BaseException | None = None
    kill: bool = False
    problem: str = ""
    title: str = "a part"
    command: str = "hansa part"

    def run(self, stage: Stage) -> Found:
        found = Found(headline=(Fact("steps", 1),), problem=self.problem)
        if self.kill:
            os.kill(os.getpid(), signal.SIGINT)
            stage.check(lambda: found)
        if self.raises is not None:
            raise self.raises
        return found


def run(parts: Sequence[Scripted]) -> tuple[list[Outcome], int, list[list[str]]]:
    seen: list[list[str]] = []
    with Interruption() as interruption:
        stage = Stage(interruption, Console(file=io.StringIO()))
        outcomes = run_parts(parts, stage, lambda all_: seen.append([it.status for it in all_]))
        return outcomes, exit_code(outcomes, interruption), seen


def test_a_part_that_fails_does_not_end_the_others() -> None:
    outcomes, code, seen = run(
        [
            Scripted("a", raises=HansaError("a disk is full")),
            Scripted("b", raises=KeyError("x")),
            Scripted("c"),
        ]
    )
    assert [it.status for it in outcomes] == ["failed", "failed", "done"]
    assert [it.reason for it in outcomes] == ["a disk is full", "KeyError: 'x'", ""]
    assert code == 1
    assert seen[0] == ["waiting"] * 3
    assert seen[1] == ["failed", "waiting", "waiting"]


def test_what_does_not_hold_fails_and_keeps_its_figures() -> None:
    [outcome], code, _ = run([Scripted("a", problem="a ledger is damaged")])
    assert (outcome.status, outcome.reason, code) == ("failed", "a ledger is damaged", 1)
    assert outcome.found.headline[0].value == 1


def test_an_interruption_keeps_what_there_is_and_begins_nothing_more() -> None:
    outcomes, code, _ = run([Scripted("a"), Scripted("b", kill=True), Scripted("c")])
    assert [it.status for it in outcomes] == ["done", "interrupted", "waiting"]
    assert outcomes[1].found.headline[0].value == 1
    assert code == 130


def test_the_object_for_programs_has_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    code = summary.run_and_show([Scripted("a"), Scripted("b", raises=HansaError("no"))], as_json=True)
    printed = capsys.readouterr()
    found = json.loads(printed.out.splitlines()[-1])
    assert code == 1
    assert found["status"] == "failed"
    assert [(it["part"], it["status"]) for it in found["parts"]] == [("a", "done"), ("b", "failed")]
    assert "hansa: b: no; alone: hansa part" in printed.err


def test_a_day_is_scaled_and_its_figures_are_those_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    code = summary.run_and_show([ScalingPart(seed=1)], as_json=True)
    [part] = json.loads(capsys.readouterr().out.splitlines()[-1])["parts"]
    assert code == 0
    assert part["headline"]["cost"] == part["result"]["policies"]["ours"]["money"]
    assert part["command"] == "hansa scaling --seed 1"


def test_a_day_that_is_late_more_often_than_allowed_has_failed(capsys: pytest.CaptureFixture[str]) -> None:
    code = summary.run_and_show([ScalingPart(seed=3)], as_json=True)
    printed = capsys.readouterr()
    [part] = json.loads(printed.out.splitlines()[-1])["parts"]
    assert (code, part["status"]) == (1, "failed")
    assert "above capacity in 1.25 % of minutes, and 1 % are allowed" in part["reason"]
    assert part["headline"]["minutes late"] > 1.0


def ended(name: str, trouble: Trouble, status: str = "finished", *by: str) -> EpisodeResult:
    back = {"to_round": 2}
    decisions = [SimpleNamespace(by=it, round=3, key="", sentence="", knobs={}, inputs=back) for it in by]
    return EpisodeResult(
        episode=Episode(name, trouble, "told"),
        status=status,
        reason="",
        decisions=decisions,  # type: ignore[arg-type]
        loss=0.5,
        auc=0.7,
        held={},
        seconds=1.0,
    )


@pytest.mark.parametrize(
    ("raised", "status", "reason"),
    [
        (KeyError("x"), "failed", "episode 2 of 2: KeyError: 'x'"),
        (Interrupted(), "interrupted", "interrupted"),
    ],
)
def test_episodes_before_one_that_breaks_are_kept(
    raised: Exception, status: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Iterator[EpisodeResult]:
        yield ended("calm", "none")
        raise raised

    monkeypatch.setattr("hansa.cli.adaptive.episode_object", lambda it: {"name": it.episode.name})
    chosen = [Episode("calm", "none", "told"), Episode("fast", "rate", "told")]
    series = SimpleNamespace(left_out=(), chosen=chosen, rounds=20, run=broken)
    monkeypatch.setattr(EpisodeSeries, "prepare", lambda **_: series)
    [outcome], _, _ = run([AdaptivePart()])  # type: ignore[list-item]
    assert (outcome.status, outcome.reason) == (status, reason)
    assert outcome.found.data["episodes"] == [{"name": "calm"}]
    assert outcome.found.data["left_out"] == ["fast"]


@pytest.mark.parametrize(
    ("raised", "status", "scenarios"),
    [(ValueError("no such shape"), "failed", 2), (Interrupted(), "interrupted", 1)],
)
def test_scenarios_before_and_behind_one_that_breaks_are_kept(
    raised: Exception, status: str, scenarios: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"title": "", "members": 3, "model": "linear", "rounds": 1, "noise": "local", "seconds": 1.0}
    told = iter([raised, {**good, "scenario": "b", "local": {"auc": Figure(0.7, 0.7, {}).as_json()}}])

    def simulated(name: str) -> dict[str, Any]:
        if isinstance(found := next(told), Exception):
            raise found
        return found

    monkeypatch.setattr("hansa.cli.suite.scenarios._simulated", simulated)
    [outcome], _, _ = run([ScenariosPart(("a", "b"))])  # type: ignore[list-item]
    assert outcome.status == status
    assert len(outcome.found.data["scenarios"]) == scenarios - (status == "interrupted")


@pytest.mark.parametrize(
    ("results", "problem"),
    [
        ([ended("calm", "none"), ended("fast", "rate")], ""),
        ([ended("calm", "none"), ended("fast", "rate", "failed")], "fast is failed"),
        ([ended("calm", "none"), ended("drift", "drift", "paused")], ""),
        ([ended("calm", "none", "paused")], "calm is paused"),
        # Noise may look like trouble once; a second time is more than is promised.
        ([ended("calm", "none", "finished", "recovery")], ""),
        (
            [ended("calm", "none", "finished", "recovery", "recovery")],
            "2 roll-backs in 20 calm rounds, promised at most 1 in 100",
        ),
        ([replace(ended("calm", "none"), held={"b": "audit"})], "calm has b held out"),
    ],
)
def test_episodes_that_failed_or_were_disturbed_for_nothing_fail_the_part(
    results: list[EpisodeResult], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hansa.cli.adaptive.episode_object", lambda it: {"name": it.episode.name})
    series = SimpleNamespace(left_out=(), chosen=[it.episode for it in results], rounds=20)
    series.run = lambda: iter(results)
    monkeypatch.setattr(EpisodeSeries, "prepare", lambda **_: series)
    outcomes, code, _ = run([AdaptivePart()])  # type: ignore[list-item]
    assert (outcomes[0].reason, code) == (problem, int(bool(problem)))
    assert outcomes[0].status == ("failed" if problem else "done")
