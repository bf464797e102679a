"""`hansa simulate` refuses what control would refuse, in the same words."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hansa.cli import simulation
from hansa.cli.overrides import override
from hansa.cli.simulate import app
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
