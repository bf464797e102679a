"""The operator's key signs a preparation of columns only in jobs that begin with a contract check, after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from desks import as_text, client, header, open_test_desk
from federation import JOB, make_plan

from hansa.contract.charter import PrivacyPlan
from hansa.contract.messages import Order, SegmentHeader, TrainRequest
from hansa.contract.segments import PREPARATION

COHORT = ("a", "b", "c", "d")
KNOBS = {"server_rate": 0.2, "client_rate": 1.0}
NOISE = {"train": {"update": 9.0}, "statistics": {"statistics": 9.0}}
Asked = Callable[..., Any]


def segment(name: str, count: int) -> SegmentHeader:
    return SegmentHeader(name=name, dtype="f64", count=count, sha256="1" * 64)


@pytest.fixture(params=[True, False], ids=["check", "plain"])
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Asks for a signature on attempt 1 of a job with, or without, a contract check: answer and whether it has one."""
    with open_test_desk(tmp_path, privacy=PrivacyPlan(noise="local")) as desk:
        defaults = {name: knob.default for name, knob in desk.charter.knobs.items()}
        desk.store.jobs.submit(make_plan(check=request.param), desk.charter_hash, defaults)

        def ask(kind: str, *segments: SegmentHeader) -> Any:
            number = desk.store.claim(JOB, "run").open_attempt(
                kind,
                base=0,
                cohort=COHORT,
                left_out={},
                knobs=KNOBS,  # type: ignore[arg-type]
            )
            order = Order.model_validate(
                {
                    "job": JOB,
                    "attempt": number,
                    "kind": kind,
                    "base": 0,
                    "cohort": COHORT,
                    "knobs": KNOBS,
                    "noise": NOISE[kind],
                    "arrays": {it.name: it.sha256 for it in segments},
                }
            )
            content = header(desk, TrainRequest(order=order), segments=segments)
            return client(desk, "sign").post("/v1/sign", json={"job": JOB, "headers": [as_text(content)]})

        ask.check = request.param  # type: ignore[attr-defined]
        yield ask


def test_a_check_is_signed_where_the_plan_has_one(asked: Any) -> None:
    answer = asked("statistics")
    assert answer.status_code == (200 if asked.check else 409), answer.text
    if not asked.check:
        assert "what a job begins with that plans one" in answer.json()["detail"]
    assert asked("statistics", segment(PREPARATION, 5)).status_code == 409


def test_rounds_bring_a_preparation_exactly_where_there_was_a_check(asked: Any) -> None:
    weights, preparation = segment("weights", 3), segment(PREPARATION, 5)
    assert asked("train", weights, preparation).status_code == (200 if asked.check else 409)
    answer = asked("train", weights)
    assert answer.status_code == (409 if asked.check else 200)
    if asked.check:
        assert "brings no preparation of columns" in answer.json()["detail"]
