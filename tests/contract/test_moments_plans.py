"""Mechanism `moments`: what a charter and a job must say for it, and what is refused before anything starts."""

from __future__ import annotations

import pytest
from federation import make_federation, make_plan
from pydantic import ValidationError

from hansa.clients.approval import propose
from hansa.clients.attempt_log import AttemptLog
from hansa.contract.charter import Charter, ModelChoice, PrivacyPlan, Training
from hansa.contract.errors import InputError, RefusalError
from hansa.contract.features import MulticlassLabel, RegressionLabel
from hansa.contract.plan import check_mechanism

MOMENTS = Training(mechanism="moments", max_entities=1000)


def with_(charter: Charter, **changes: object) -> Charter:
    document = {name: getattr(charter, name) for name in Charter.model_fields}
    return Charter.model_validate({**document, "training": MOMENTS, **changes})


def test_a_job_of_moments_has_one_round_and_one_step() -> None:
    check_mechanism(make_plan(1), "moments")
    check_mechanism(make_plan(9, steps=3), "gradient")
    with pytest.raises(InputError, match=r"'rounds': .* from one release; use rounds = 1 \(got 3\)"):
        check_mechanism(make_plan(3), "moments")
    with pytest.raises(InputError, match=r"'steps': .*use steps = 1 \(got 2\)"):
        check_mechanism(make_plan(1, steps=2), "moments")


def test_a_member_approves_no_job_of_more_rounds() -> None:
    charter = with_(make_federation(4).charter)
    with pytest.raises(RefusalError, match="one release") as refusal:
        propose(make_plan(2), AttemptLog(":memory:"), charter)
    assert refusal.value.code == "not-approved"
    assert propose(make_plan(1), AttemptLog(":memory:"), charter) == {}


def test_moments_are_of_one_output_and_of_a_row() -> None:
    charter = make_federation(4).charter
    task = charter.task
    number = task.features.model_copy(update={"label": RegressionLabel(low=0.0, high=1.0)})
    with_(charter, task=task.model_copy(update={"features": number}))
    with_(charter, task=task.model_copy(update={"model": ModelChoice(name="additive")}))
    classes = task.features.model_copy(update={"label": MulticlassLabel(classes=("a", "b", "c"))})
    with pytest.raises(ValidationError, match="regression of one output, and the label has 3 classes"):
        with_(charter, task=task.model_copy(update={"features": classes}))
    with pytest.raises(ValidationError, match=r"linear in its row \(additive, linear\), not 'mlp'"):
        with_(charter, task=task.model_copy(update={"model": ModelChoice(name="mlp")}))


def test_a_private_charter_of_moments_says_that_one_round_takes_all() -> None:
    charter = make_federation(4).charter
    with pytest.raises(ValidationError, match=r"write privacy\.fewest_rounds = 1 \(it is 3\)"):
        with_(charter, privacy=PrivacyPlan(noise="local"))
    with_(charter, privacy=PrivacyPlan(noise="local", fewest_rounds=1))
