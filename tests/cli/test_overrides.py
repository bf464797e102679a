"""`--set key=value`."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_side import write_scenario

from hansa.cli.overrides import override, override_job
from hansa.contract.errors import InputError
from hansa.contract.scenario import Scenario, ScenarioJob, read_scenario


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    return read_scenario(write_scenario(tmp_path))[0]


def test_what_is_changed_most_has_a_short_name(scenario: Scenario) -> None:
    changed = override(
        scenario,
        [
            "rounds=7",
            "model=mlp",
            "mode=masked",
            "steps=4",
            "client_rate=2",
            "rule=fedavg",
            "training.clip=1",
        ],
    )
    assert (changed.job.rounds, changed.job.steps, changed.job.rule.name) == (7, 4, "fedavg")
    assert (changed.model.name, changed.protection.mode, changed.training.clip) == ("mlp", "masked", 1.0)
    assert changed.knobs["client_rate"].default == 2.0


def test_options_of_a_model_are_the_models_own(scenario: Scenario) -> None:
    changed = override(scenario, ["model.options.hidden=[32, 16]", "model.options.dropout=0.1"])
    assert changed.model.options == {"hidden": [32, 16], "dropout": 0.1}


def test_an_optional_field_that_stands_nowhere_can_be_set(scenario: Scenario) -> None:
    assert override(scenario, ["protection.minimum_cohort=3"]).protection.minimum_cohort == 3


def test_a_job_is_evaluated_as_often_as_the_charter_has_it_unless_it_says_less_often(
    scenario: Scenario, tmp_path: Path
) -> None:
    assert override(scenario, ["metrics.every=5"]).job.evaluate_every == 5
    assert override(scenario, ["metrics.every=5", "evaluate_every=10"]).job.evaluate_every == 10
    assert override(scenario, ["evaluate_every=3"]).job.evaluate_every == 3
    with pytest.raises(InputError, match=r"job\.evaluate_every = 7 must be a multiple of metrics\.every = 5"):
        override(scenario, ["metrics.every=5", "evaluate_every=7"])
    path = tmp_path / "scenario.toml"
    path.write_text(path.read_text().replace("[job]", "[metrics]\nevery = 4\n\n[job]"))
    assert read_scenario(tmp_path)[0].job.evaluate_every == 4


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("rounds", r"expected key=value"),
        ("=3", r"expected key=value"),
        ("rounds=many", r"field 'job\.rounds': .*valid integer \(got 'many'\)"),
        ("rounds=0", r"field 'job\.rounds': .*greater than or equal to 1"),
        ("protection.mode=plain", r"field 'protection\.mode': .*'clear', 'masked' or 'he'"),
        ("members=x", r"--set members: not a key that can be set"),
        ("speed=9", r"--set speed: not a key that can be set"),
        ("training.clippy=1", r"'clippy' is not known; expected one of clip,"),
        ("protection=1", r"is a section; name one of its fields"),
        ("knobs.momentum.default=1", r"'momentum' is not there; expected one of client_rate, server_rate"),
        ("client_rate=99", r"must hold low <= default <= high"),
    ],
)
def test_a_setting_that_does_not_fit_says_why(scenario: Scenario, setting: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        override(scenario, [setting])


def test_a_signed_charter_leaves_only_the_job_to_change() -> None:
    job = override_job(ScenarioJob(), ["rounds=9"], Path("here"))
    assert job.rounds == 9
    with pytest.raises(InputError, match="the charter in here is signed already"):
        override_job(ScenarioJob(), ["protection.mode=masked"], Path("here"))
