"""Class weights from a scenario's setting to the served file: agents train with them, scoring takes them off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hansa
from hansa.clients.scoring.model_file import model_bytes, model_facts, parse_model
from hansa.clients.scoring.predictor import make_predictor


@pytest.mark.parametrize("more", [{}, {"model": "mlp"}, {"model": "additive"}])
def test_a_weighted_model_is_trained_and_served_with_calibrated_scores(more: dict[str, Any]) -> None:
    settings = {"noise": "none", "model.options.class_weights": [1.0, 12.0], **more}
    result = hansa.simulate("consortium", rounds=3, settings=settings)
    assert result.federation.charter.task.model.options["class_weights"] == [1.0, 12.0]
    parts = result.federation.records.values()
    X = np.concatenate([it.holdout.X for it in parts])
    y = np.concatenate([it.holdout.y for it in parts])
    predicted = result.federation.predict(result.job.released, X)
    assert predicted.mean() == pytest.approx(y.mean(), abs=0.03)
    assert np.mean(result.local["auc"].to_numpy()) > 0.75
    facts = model_facts(result.federation.charter.task, job="a", member="b", round=1, personal="")
    served = make_predictor(parse_model(model_bytes(facts, {"weights": result.weights}), "test"))
    np.testing.assert_allclose(served.many(X[:50]), predicted[:50], atol=1e-5)
    assert served.one(X[0].tolist()) == pytest.approx(predicted[0], abs=1e-5)


def test_moments_solves_for_the_plain_loss_and_says_so() -> None:
    settings = {
        "noise": "none", "mode": "clear", "training.mechanism": "moments", "rounds": 1, "steps": 1,
        "model.options.class_weights": [1.0, 2.0],
    }  # fmt: skip
    with pytest.raises(hansa.HansaError, match="moments"):
        hansa.simulate("consortium", settings=settings)
