"""`hansa simulate` refuses what control would refuse, in the same words; the model beside what members get alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli_side import write_scenario
from typer.testing import CliRunner

from hansa.cli import simulation
from hansa.cli.comparison import WAYS
from hansa.cli.overrides import override
from hansa.cli.simulate import app, many
from hansa.contract.errors import InputError
from hansa.contract.library import scenario_folder
from hansa.contract.plan import make_plan
from hansa.contract.scenario import read_scenario
from hansa.server.control.submission import check_plan


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["privacy.noise=none", "check=true"], "field 'check'"),
        (["rounds=2"], "privacy.fewest_rounds"),
        (["privacy.noise=distributed", "mode=masked", "privacy.s=1", "steps=3"], "field 'steps'"),
        (["privacy.charges_per_job=20"], "privacy.charges_per_job"),
    ],
)
def test_a_plan_that_control_would_not_take_is_not_simulated(settings: list[str], sentence: str) -> None:
    changes = [it for setting in settings for it in ("--set", setting)]
    done = CliRunner().invoke(app, ["hospitals", *changes])
    assert isinstance(done.exception, InputError)
    folder: Path = scenario_folder("hospitals")
    scenario, features = read_scenario(folder)
    changed = override(scenario, settings)
    federation = simulation.federation(changed, features, folder=folder)
    with pytest.raises(InputError, match=sentence) as at_control:
        check_plan(make_plan(changed.name, changed.job), federation.charter, datetime.now(UTC))
    assert str(done.exception) == str(at_control.value)


def test_members_made_of_one_original_have_titles_of_their_own() -> None:
    scenario, _ = read_scenario(scenario_folder("hospitals"))
    titles = [member.title for member in many(scenario, 12).members]
    assert titles[0] == scenario.members[0].title
    assert len(set(titles)) == 12


def test_ways_to_train_stand_side_by_side(tmp_path: Path) -> None:
    origin = str(write_scenario(tmp_path / "tiny"))
    done = CliRunner().invoke(app, [origin, "--compare"])
    assert done.exit_code == 0, done.output
    heading, mean = (
        next(line for line in done.output.splitlines() if words in line)
        for words in ("on held-out records", "mean of members")
    )
    assert [heading.index(way) for way in WAYS] == sorted(heading.index(way) for way in WAYS)
    assert all(f"Member {name}" in done.output for name in "ABC")
    assert len([it for it in mean.replace("│", " ").split() if it.startswith("0.")]) == len(WAYS)


def test_the_comparison_as_json_has_every_way_and_member(tmp_path: Path) -> None:
    origin = str(write_scenario(tmp_path / "tiny", rows=400))
    done = CliRunner().invoke(app, [origin, "--compare", "--json"])
    assert done.exit_code == 0, done.output
    compared = json.loads(done.output.splitlines()[-1])["compare"]
    assert set(compared) == set(WAYS)
    for way in WAYS:
        assert set(compared[way]["auc"]["per_member"]) == {"a", "b", "c"}
        assert compared[way]["auc"]["mean"] > 0.65
    # Its own version is another one than the model that all have.
    assert compared["personalised"] != compared["federated"]


@pytest.mark.parametrize(
    ("settings", "least"), [(["privacy.noise=none"], 0.85), (["privacy.noise=local"], 0.75)]
)
def test_the_consortium_learns_with_and_without_privacy(settings: list[str], least: float) -> None:
    changes = [it for setting in settings for it in ("--set", setting)]
    done = CliRunner().invoke(app, ["consortium", *changes, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output.splitlines()[-1])
    assert [line["round"] for line in found["rounds"]] == [1, 2, 3]
    assert found["local"]["auc"]["mean"] >= least
