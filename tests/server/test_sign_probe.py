"""What the operator's key signs of probes: the step of the attempt whose sum is known, within the charter's range."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desks import as_text, client, header, open_test_desk
from federation import JOB, make_plan

from hansa.contract.jobs import AttemptResult
from hansa.contract.messages import Order, SegmentHeader, TrainRequest
from hansa.contract.segments import STEP
from hansa.server.control.desk import ControlDesk

KNOBS = {"server_rate": 0.2, "client_rate": 1.0}
COHORT = ("a", "b", "c", "d")


def opened(desk: ControlDesk, *, summed: bool = True, **plan: Any) -> ControlDesk:
    """Attempt 1 is summed and attempt 2 tries its step; or attempt 2 is one like any other."""
    desk.store.jobs.submit(make_plan(**{"tuning": "probe", **plan}), desk.charter_hash, KNOBS)
    lease = desk.store.claim(JOB, "run 1")
    lease.open_attempt("train", base=0, cohort=COHORT, left_out={}, knobs=KNOBS)
    result = AttemptResult(
        job=JOB,
        attempt=1,
        kind="train",
        status="summed",
        base=0,
        round=None,
        cohort=COHORT,
        active=COHORT,
        participation=(),
        knobs=KNOBS,
        seconds=0.1,
    )
    tries = result if summed else None
    lease.open_attempt("evaluate", base=0, cohort=COHORT, left_out={}, knobs=KNOBS, tries=tries)
    return desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ControlDesk]:
    with open_test_desk(tmp_path) as made:
        yield made


def segment(name: str) -> SegmentHeader:
    return SegmentHeader(name=name, dtype="f64", count=3, sha256="1" * 64)


def asked(desk: ControlDesk, names: tuple[str, ...] = ("released", STEP), **changes: Any) -> tuple[int, str]:
    segments = tuple(segment(name) for name in names)
    document = {
        "job": JOB,
        "attempt": 2,
        "kind": "evaluate",
        "base": 0,
        "cohort": COHORT,
        "knobs": KNOBS,
        "evaluate": True,
        "probes": 1,
        "factors": (0.5, 1.0, 2.0),
        "arrays": {it.name: it.sha256 for it in segments},
        **changes,
    }
    content = header(desk, TrainRequest(order=Order.model_validate(document)), segments=segments)
    body = {"job": JOB, "headers": [as_text(content)]}
    answer = client(desk, "sign").post("/v1/sign", json=body)
    return answer.status_code, answer.text


def test_a_probe_of_the_sum_that_is_known_is_signed(desk: ControlDesk) -> None:
    assert asked(opened(desk)) == (200, asked(desk)[1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"factors": (0.5, 1.0, 100.0)}, "server_rate = 20 is outside"),
        ({"factors": (0.001,)}, "server_rate = 0.0002 is outside"),
        ({"factors": (0.0, 1.0)}, "tries no step"),
        ({"factors": ()}, "is no probe"),
        ({"probes": 0}, "is no probe"),
        ({"probes": 7}, "not one that may be tried"),
        ({"names": ("released",)}, "does not bring what its probe tries"),
        ({"names": ("released", STEP, "sum")}, "does not bring what its probe tries"),
        ({"probes": 0, "factors": ()}, "does not bring what its probe tries"),
    ],
)
def test_any_other_probe_is_not(desk: ControlDesk, changes: dict[str, Any], said: str) -> None:
    code, text = asked(opened(desk), **changes)
    assert code == 409
    assert said in text


def test_nothing_is_probed_in_a_job_that_does_not_say_so(desk: ControlDesk) -> None:
    code, text = asked(opened(desk, tuning="none"))
    assert code == 409
    assert "no step lengthened" in text


def test_a_sum_that_was_given_up_is_not_tried(desk: ControlDesk) -> None:
    code, text = asked(opened(desk, summed=False))
    assert code == 409
    assert "not one that may be tried" in text
