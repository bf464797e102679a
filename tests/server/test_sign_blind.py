"""What the operator's key signs in mode `he`: keys, sums of the open attempt, states of the present round; no model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from desks import as_text, client, header, open_test_desk
from federation import JOB, make_plan

from hansa.contract.blind_messages import (
    ENCRYPTED_SUM,
    SEALED_KEYS,
    SEALED_STATE,
    ApplyRequest,
    KeysRequest,
    ReloadRequest,
)
from hansa.contract.charter import Protection
from hansa.contract.jobs import AttemptResult
from hansa.contract.messages import (
    PREKEYS,
    AgreeRequest,
    CloseRequest,
    Order,
    Request,
    SegmentHeader,
    TrainRequest,
)
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import prekey_bytes
from hansa.server.control.desk import ControlDesk

KNOBS = {"server_rate": 0.2, "client_rate": 1.0}
COHORT = ("a", "b", "c", "d")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ControlDesk]:
    """Job JOB with attempt 1 open, from round 0."""
    with open_test_desk(tmp_path, protection=Protection(mode="he")) as made:
        made.store.jobs.submit(make_plan(), made.charter_hash, KNOBS)
        lease = made.store.claim(JOB, "run 1")
        lease.open_attempt("train", base=0, cohort=COHORT, left_out={}, knobs=KNOBS)
        yield made


def segment(name: str, count: int = 8, dtype: str = "u8") -> SegmentHeader:
    return SegmentHeader(name=name, dtype=dtype, count=count, sha256="1" * 64)  # type: ignore[arg-type]


def order(desk: ControlDesk, segments: tuple[SegmentHeader, ...] = (), **changes: Any) -> Order:
    size = len(COHORT) * prekey_bytes(Parties.of(desk.charter, desk.charter_hash))
    named = (segment(PREKEYS, size), *segments)
    document = {
        "job": JOB,
        "attempt": 1,
        "kind": "train",
        "base": 0,
        "cohort": COHORT,
        "knobs": KNOBS,
        "prekeys": dict.fromkeys(COHORT, 3),
        "epoch": 1,
        "arrays": {it.name: it.sha256 for it in named},
        **changes,
    }
    return Order.model_validate(document)


def train(desk: ControlDesk, *brought: SegmentHeader, **changes: Any) -> str:
    size = len(COHORT) * prekey_bytes(Parties.of(desk.charter, desk.charter_hash))
    body = TrainRequest(order=order(desk, brought, **changes))
    return said(desk, body, segment(PREKEYS, size), *brought)


def said(desk: ControlDesk, body: Request, *segments: SegmentHeader) -> str:
    """Why control does not sign; empty where it does."""
    content = header(desk, body, segments=segments)
    answer = client(desk, "sign").post("/v1/sign", json={"job": JOB, "headers": [as_text(content)]})
    assert answer.status_code in (200, 409), answer.text
    return "" if answer.status_code == 200 else str(answer.json()["detail"])


def agreed(desk: ControlDesk) -> str:
    """The active set of attempt 1 is signed: all but the last member."""
    return said(desk, AgreeRequest(job=JOB, attempt=1, active=COHORT[:3]))


def test_what_an_honest_strategy_asks_for_is_signed(desk: ControlDesk) -> None:
    assert said(desk, KeysRequest(job=JOB, epoch=1, maker="b")) == ""
    keys = KeysRequest(job=JOB, epoch=1, maker="b", signatures={"b": "x"})
    assert said(desk, keys, segment(SEALED_KEYS)) == ""
    assert train(desk) == ""
    assert agreed(desk) == ""
    apply = ApplyRequest(order=order(desk), active=COHORT[:3], sealing=("a",))
    assert said(desk, apply, segment(ENCRYPTED_SUM)) == ""
    # Said again, to whoever did not answer.
    assert said(desk, apply, segment(ENCRYPTED_SUM)) == ""
    assert said(desk, ReloadRequest(job=JOB, round=0, tag="1" * 64), segment(SEALED_STATE)) == ""


def test_no_request_carries_a_model(desk: ControlDesk) -> None:
    for name in ("weights", "released"):
        assert "no request carries a model" in train(desk, segment(name, 3, "f64"))
    assert "no request carries a model" in said(
        desk, CloseRequest(job=JOB, rounds=0), segment("released", 3, "f64")
    )


def test_an_order_names_keys_and_a_state_from_round_one_on(desk: ControlDesk) -> None:
    assert "names keys 0" in train(desk, epoch=0)
    assert "and a state" in train(desk, state="1" * 64)


def test_keys_are_made_and_signed_by_members(desk: ControlDesk) -> None:
    assert "'z' is not a member" in said(desk, KeysRequest(job=JOB, epoch=1, maker="z"))
    strange = KeysRequest(job=JOB, epoch=1, maker="a", signatures={"z": "x"})
    assert "'z' is not a member" in said(desk, strange)
    assert "no segment 'sum'" in said(desk, KeysRequest(job=JOB, epoch=1, maker="a"), segment(ENCRYPTED_SUM))


def test_a_sum_is_that_of_the_open_attempt_its_order_and_its_one_active_set(desk: ControlDesk) -> None:
    assert train(desk) == ""
    brought, active = segment(ENCRYPTED_SUM), COHORT[:3]

    def asked(**changes: Any) -> str:
        document = {"order": order(desk), "active": active, **changes}
        return said(desk, ApplyRequest.model_validate(document), brought)

    assert "nobody was asked to open the sum" in asked()
    # It bound nothing.
    assert agreed(desk) == ""
    assert "attempt 2 is not open" in asked(order=order(desk, attempt=2))
    assert "another order of attempt 1 was signed before" in asked(order=order(desk, epoch=2))
    assert "below the least" in asked(active=COHORT[:2])
    assert "not a part of its cohort" in asked(active=("a", "a", "b"))
    assert "sealed by active members" in asked(sealing=("d",))
    assert asked() == ""
    assert "another active set of attempt 1 was signed before" in asked(active=COHORT)


def test_no_sum_is_applied_of_an_order_that_was_never_signed(desk: ControlDesk) -> None:
    assert agreed(desk) == ""
    apply = ApplyRequest(order=order(desk, epoch=2), active=COHORT[:3])
    assert "no member was asked to train in it" in said(desk, apply, segment(ENCRYPTED_SUM))
    # Nothing is bound by it.
    assert train(desk) == ""


def test_a_state_is_that_of_the_present_round(desk: ControlDesk) -> None:
    body = ReloadRequest(job=JOB, round=4, tag="1" * 64)
    assert "is at round 0, not at 4" in said(desk, body, segment(SEALED_STATE))


def test_a_state_is_the_one_that_the_members_hold(desk: ControlDesk) -> None:
    lease = desk.store.claim(JOB, "run 2")
    number = lease.open_attempt("train", base=0, cohort=COHORT, left_out={}, knobs=KNOBS)
    done = AttemptResult(
        job=JOB,
        attempt=number,
        kind="train",
        status="applied",
        base=0,
        round=1,
        cohort=COHORT,
        active=COHORT,
        participation=(),
        knobs=KNOBS,
        tag="2" * 64,
        seconds=0.1,
    )
    lease.commit(done, {"round": np.array([1])})
    other = ReloadRequest(job=JOB, round=1, tag="1" * 64)
    assert "has another tag" in said(desk, other, segment(SEALED_STATE))
    same = ReloadRequest(job=JOB, round=1, tag="2" * 64)
    assert said(desk, same, segment(SEALED_STATE)) == ""


def test_other_modes_have_none_of_it(tmp_path: Path) -> None:
    with open_test_desk(tmp_path, protection=Protection(mode="masked")) as desk:
        desk.store.jobs.submit(make_plan(), desk.charter_hash, KNOBS)
        desk.store.claim(JOB, "run 1").open_attempt("train", base=0, cohort=COHORT, left_out={}, knobs=KNOBS)
        for body in (
            KeysRequest(job=JOB, epoch=1, maker="a"),
            ReloadRequest(job=JOB, round=0, tag="1" * 64),
            ApplyRequest(order=order(desk), active=COHORT[:3]),
        ):
            assert f"mode 'masked' has no request '{body.type}'" in said(desk, body)
        assert "names keys 1" in train(desk)
