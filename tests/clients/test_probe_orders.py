"""A server that lies in a probe: rates that the charter rules out, jobs without probes, steps that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from federation import attempt_request, make_federation, make_order, make_plan, request
from masked_side import answer_of

from hansa.clients.protocol import Agent
from hansa.contract.blind_messages import ApplyRequest
from hansa.contract.messages import JobRequest, RefusalReply, TrainRequest
from hansa.contract.segments import EVALUATION, STEP, segment_specs
from hansa.contract.wire import describe
from hansa.models.scores import score_histogram
from hansa.strategies.grids import grid_of

FEDERATION = make_federation(4)


def agent_with(**plan: Any) -> Agent:
    agent = FEDERATION.agent("a")
    approved = answer_of(
        agent, request(FEDERATION, JobRequest(plan=make_plan(**{"tuning": "probe", **plan})))
    )
    assert approved.said == "job"
    return agent


def brought(step: float = 1.0) -> dict[str, np.ndarray]:
    size = FEDERATION.model.parameters
    return {"released": np.zeros(size), STEP: np.full(size, step)}


def probe(segments: dict[str, np.ndarray] | None = None, **changes: Any) -> bytes:
    fields = {"kind": "evaluate", "probes": 1, "factors": (0.5, 1.0, 2.0), **changes}
    order = make_order(FEDERATION, attempt=2, **fields)
    return attempt_request(FEDERATION, order, brought() if segments is None else segments)


def test_what_leaves_is_one_histogram_a_step_side_by_side() -> None:
    agent = agent_with()
    answer = answer_of(agent, probe())
    assert answer.said == "upload"
    order = make_order(FEDERATION, attempt=2, kind="evaluate", probes=1, factors=(0.5, 1.0, 2.0))
    [spec] = segment_specs(FEDERATION.charter, make_plan(tuning="probe"), order, FEDERATION.model.parameters)
    bins = FEDERATION.charter.metrics.bins
    assert spec.length == 3 * 2 * bins
    words = answer.segments[EVALUATION]
    assert words.size == spec.length
    held_out = FEDERATION.records["a"].holdout
    sums = grid_of(spec, len(order.cohort)).decode(np.array(words)).reshape(3, -1)
    for factor, found in zip(order.factors, sums, strict=True):
        weights = np.full(FEDERATION.model.parameters, factor)
        predicted = FEDERATION.model.predict(weights, held_out.X)
        expected = score_histogram(
            FEDERATION.charter.task.features, held_out.y, predicted, held_out.entities, bins
        )
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"factors": (1.0, 100.0)}, "knob-out-of-range"),
        ({"factors": (0.001, 1.0)}, "knob-out-of-range"),
        ({"factors": (0.0, 1.0)}, "not-approved"),
        ({"factors": ()}, "not-approved"),
        ({"probes": 0}, "not-approved"),
        ({"probes": 2}, "not-approved"),
        ({"kind": "train"}, "not-approved"),
        ({"segments": {"released": np.zeros(FEDERATION.model.parameters)}}, "bad-size"),
        ({"segments": {**brought(), "weights": np.zeros(FEDERATION.model.parameters)}}, "bad-size"),
        ({"segments": {**brought(), "sum": np.zeros(3)}}, "bad-size"),
        ({"segments": {**brought(), STEP: np.zeros(1)}}, "bad-size"),
        ({"segments": brought(np.nan)}, "bad-size"),
        ({"segments": brought(1e7)}, "bad-size"),
    ],
)
def test_a_probe_that_is_none_is_refused_and_uses_nothing_up(changes: dict[str, Any], code: str) -> None:
    agent = agent_with()
    refused = answer_of(agent, probe(**changes)).body
    assert isinstance(refused, RefusalReply)
    assert refused.code == code, refused.sentence
    assert answer_of(agent, probe()).said == "upload"


@pytest.mark.parametrize("plan", [{"tuning": "none"}, {"pinned": {"server_rate": 0.2}}])
def test_a_job_without_probes_has_no_step_tried(plan: dict[str, Any]) -> None:
    refused = answer_of(agent_with(**plan), probe()).body
    assert isinstance(refused, RefusalReply)
    assert refused.code in ("not-approved", "knob-out-of-range")


def test_a_sum_is_tried_in_mode_he_only() -> None:
    tried = ApplyRequest(order=make_order(FEDERATION), active=tuple(FEDERATION.records))
    segments = brought()
    order = make_order(FEDERATION, attempt=2, kind="evaluate", probes=1, factors=(1.0,))
    order = order.model_copy(update={"arrays": {it.name: it.sha256 for it in describe(segments)}})
    payload = request(FEDERATION, TrainRequest(order=order, pending=tried), segments)
    refused = answer_of(agent_with(), payload).body
    assert isinstance(refused, RefusalReply)
    assert refused.code == "mode-downgrade"
