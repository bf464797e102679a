"""What the operator's key signs of noise: of every segment that has some, and of none where the charter has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from desks import as_text, client, header, open_test_desk
from federation import JOB, make_plan

from hansa.contract.charter import PrivacyPlan
from hansa.contract.messages import AgreeRequest, Order, Request, TrainRequest, WitnessRequest
from hansa.server.control.desk import ControlDesk

KNOBS = {"server_rate": 0.2, "client_rate": 1.0}
COHORT = ("a", "b", "c", "d", "e", "f", "g")
Opened = Callable[..., ControlDesk]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Job JOB with attempt 1 open, under a charter with this privacy plan."""
    contexts = []

    def make(privacy: PrivacyPlan, kind: str = "train", **charter: Any) -> ControlDesk:
        context = open_test_desk(tmp_path, members=len(COHORT), privacy=privacy, **charter)
        desk = context.__enter__()
        contexts.append(context)
        desk.store.jobs.submit(make_plan(check=kind == "statistics"), desk.charter_hash, KNOBS)
        lease = desk.store.claim(JOB, "run 1")
        lease.open_attempt(kind, base=0, cohort=COHORT, left_out={}, knobs=KNOBS)  # type: ignore[arg-type]
        return desk

    yield make
    for context in contexts:
        context.__exit__(None, None, None)


def sign(desk: ControlDesk, body: Request) -> str:
    """The reason against it, empty where it is signed."""
    answer = client(desk, "sign").post(
        "/v1/sign", json={"job": JOB, "headers": [as_text(header(desk, body))]}
    )
    assert answer.status_code in (200, 409), answer.text
    return "" if answer.status_code == 200 else str(answer.json()["detail"])


def train(**changes: Any) -> TrainRequest:
    document = {"job": JOB, "attempt": 1, "kind": "train", "base": 0, "cohort": COHORT, "knobs": KNOBS}
    return TrainRequest(order=Order.model_validate({**document, **changes}))


ORDERS = {
    "train": ({"kind": "train"}, ["update"]),
    "train and evaluate": ({"kind": "train", "evaluate": True}, ["update", "evaluation"]),
    "evaluate": ({"kind": "evaluate"}, ["evaluation"]),
    "statistics": ({"kind": "statistics"}, ["statistics"]),
}


@pytest.mark.parametrize("name", ORDERS)
def test_every_segment_of_an_order_has_noise_and_no_other(opened: Opened, name: str) -> None:
    changes, segments = ORDERS[name]
    desk = opened(PrivacyPlan(noise="local"), str(changes["kind"]))
    noise = dict.fromkeys(segments, 4.0)
    assert sign(desk, train(**changes, noise=noise)) == ""
    for missing in segments:
        fewer = {it: multiplier for it, multiplier in noise.items() if it != missing}
        assert f"no noise for '{missing}'" in sign(desk, train(**changes, noise=fewer))
    for strange in {"update", "evaluation", "statistics", "momentum"} - set(segments):
        assert f"noise for '{strange}'" in sign(desk, train(**changes, noise={**noise, strange: 4.0}))
    assert "below 0.001" in sign(desk, train(**changes, noise={**noise, segments[0]: 1e-4}))


def test_a_charter_without_noise_has_orders_without(opened: Opened) -> None:
    desk = opened(PrivacyPlan())
    assert sign(desk, train()) == ""
    assert "noise for 'update'" in sign(desk, train(noise={"update": 4.0}))


def test_no_active_set_is_signed_that_is_too_small_for_noise_that_is_shared(opened: Opened) -> None:
    desk = opened(PrivacyPlan(noise="distributed", s=2), mode="masked")
    fewer = AgreeRequest(job=JOB, attempt=1, active=COHORT[:5])
    assert desk.charter.least_active == 5
    assert "5 of 7 members are active in attempt 1; noise that is shared needs 6" in sign(desk, fewer)
    assert sign(desk, AgreeRequest(job=JOB, attempt=1, active=COHORT[:6])) == ""


def test_starts_are_signed_for_wherever_something_is_charged(opened: Opened) -> None:
    desk = opened(PrivacyPlan(noise="local"), mode="clear")
    assert sign(desk, WitnessRequest(starts={"a": "0" * 32})) == ""
    assert sign(desk, WitnessRequest(starts={"a": "0" * 32}, prekeys=1)) == "mode 'clear' has no prekeys"
