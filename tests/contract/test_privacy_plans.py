"""What a scenario or a job says of privacy and cannot work is refused before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from federation import make_federation

from hansa.contract.charter import PrivacyPlan, Protection
from hansa.contract.errors import InputError
from hansa.contract.plan import check_privacy
from hansa.contract.scenario import Scenario, ScenarioJob
from hansa.contract.shown import privacy_sentence, protection_warnings
from hansa.contract.typed import parse_document

LOCAL = PrivacyPlan(noise="local")


def scenario(**sections: Mapping[str, Any]) -> Scenario:
    data = {"kind": "csv", "path": "x.csv"}
    document = {
        "name": "tiny",
        "title": "tiny",
        "task": "say y",
        "model": {"name": "linear"},
        "members": [{"name": name, "data": data} for name in "abc"],
        "protection": {"mode": "masked"},
        "knobs": {},
        "privacy": {"noise": "local"},
        "grant": {"epsilon": 8.0, "delta": 1e-5},
    }
    return parse_document({**document, **sections}, Scenario, Path("tiny"))


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"grant": {"delta": 1e-4}}, r"grant\.delta = 0\.0001 is above the charter's bound"),
        ({"grant": {"epsilon": 8.0, "cap_epsilon": 4.0}}, r"grant\.epsilon = 8 is above .*cap_epsilon = 4"),
        ({"training": {"mechanism": "poisson"}}, r"cannot be paid in the currency gdp"),
        ({"grant": {"epsilon": -1.0}}, r"field 'grant\.epsilon'"),
        ({"grant": {"delta": 0.5}}, r"field 'grant\.delta'"),
        ({"privacy": {"noise": "some"}}, r"field 'privacy\.noise'"),
    ],
)
def test_a_grant_that_cannot_pay_is_refused(sections: Mapping[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        scenario(**sections)


def test_poisson_in_rdp_and_any_grant_without_noise_are_fine() -> None:
    assert scenario(training={"mechanism": "poisson"}, grant={"currency": "rdp"}).grant is not None
    assert scenario(privacy={"noise": "none"}, grant={"delta": 1e-3}).privacy.noise == "none"


@pytest.mark.parametrize(
    ("job", "privacy", "said"),
    [
        (ScenarioJob(rounds=2), LOCAL, r"'rounds': .*fewest_rounds = 3 rounds"),
        (ScenarioJob(rounds=3, steps=2), PrivacyPlan(noise="distributed", s=1), r"'steps': 2 steps at home"),
        (ScenarioJob(check=True), PrivacyPlan(), r"'check': the contract check is a noised release"),
        (
            ScenarioJob(rounds=9, evaluate_every=3, check=True),
            PrivacyPlan(noise="local", charges_per_job=13),
            "9 rounds take 14 charges",
        ),
    ],
)
def test_a_job_that_nobody_could_pay_is_refused(job: ScenarioJob, privacy: PrivacyPlan, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_privacy(job, privacy)
    check_privacy(job.model_copy(update={"check": False}), PrivacyPlan())


def test_the_sentence_says_whose_noise_it_is_and_none_is_warned_of() -> None:
    protection = Protection(mode="masked")
    none = make_federation(protection=protection).charter
    local = make_federation(protection=protection, privacy=LOCAL).charter
    shared = make_federation(protection=protection, privacy=PrivacyPlan(noise="distributed", s=1)).charter
    assert privacy_sentence(none) in protection_warnings(none)
    for charter, words in ((local, "adds all of its noise"), (shared, "while at most 1 collude")):
        assert words in privacy_sentence(charter)
        assert protection_warnings(charter) == []
