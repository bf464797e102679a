"""The operator's key signs what fits the charter, the job and its open attempt, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from desks import as_text, client, header, open_test_desk
from federation import JOB, make_plan
from starlette.testclient import TestClient

from hansa.contract.keys import from_text, verify
from hansa.contract.messages import (
    AgreeRequest,
    CloseRequest,
    Finish,
    HelloRequest,
    JobRequest,
    Order,
    Request,
    SegmentHeader,
    TrainRequest,
    UnmaskRequest,
    WitnessRequest,
)
from hansa.contract.wire import signed_part
from hansa.server.control.desk import ControlDesk

COHORT = ("a", "b", "c", "d")
KNOBS = {"server_rate": 0.2, "client_rate": 1.0}
NOTHING = SegmentHeader(name="update", dtype="f64", count=0, sha256="0" * 64)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ControlDesk]:
    """Job JOB with attempt 1 open: all four members, knobs at their defaults."""
    with open_test_desk(tmp_path) as made:
        submit(made)
        open_attempt(made)
        yield made


def submit(desk: ControlDesk, **fields: object) -> None:
    defaults = {name: knob.default for name, knob in desk.charter.knobs.items()}
    desk.store.jobs.submit(make_plan(**fields), desk.charter_hash, defaults)  # type: ignore[arg-type]


def open_attempt(desk: ControlDesk, **changes: Any) -> int:
    facts = {"base": 0, "cohort": COHORT, "left_out": {}, "knobs": KNOBS, **changes}
    return desk.store.claim(JOB, "run 1").open_attempt("train", **facts)


def order(**changes: Any) -> Order:
    document = {
        "job": JOB,
        "attempt": 1,
        "kind": "train",
        "base": 0,
        "cohort": COHORT,
        "knobs": KNOBS,
        **changes,
    }
    return Order.model_validate(document)


def sign(desk: ControlDesk, *contents: bytes, job: str = JOB) -> Any:
    calls: TestClient = client(desk, "sign")
    return calls.post("/v1/sign", json={"job": job, "headers": [as_text(content) for content in contents]})


def refused(desk: ControlDesk, body: Request, **changes: object) -> str:
    answer = sign(desk, header(desk, body, **changes))
    assert answer.status_code == 409, answer.text
    assert "signatures" not in answer.json()
    return str(answer.json()["detail"])


def test_signatures_are_the_operator_s_over_exactly_these_bytes(desk: ControlDesk) -> None:
    contents = [
        header(desk, HelloRequest(nonce="n")),
        header(desk, JobRequest(plan=make_plan())),
        header(desk, TrainRequest(order=order())),
        header(desk, UnmaskRequest(job=JOB, attempt=1, active=COHORT)),
    ]
    answer = sign(desk, *contents)
    assert answer.status_code == 200, answer.text
    key = from_text(desk.charter.operator_key)
    for content, signature in zip(contents, answer.json()["signatures"], strict=True):
        assert verify(key, from_text(signature), signed_part(content))


def test_only_the_token_for_signing_signs(desk: ControlDesk) -> None:
    body = {"job": JOB, "headers": [as_text(header(desk, HelloRequest(nonce="n")))]}
    for scope, status in ((None, 401), ("read", 403), ("write", 403)):
        assert client(desk, scope).post("/v1/sign", json=body).status_code == status


def test_an_attempt_has_one_order_ever(desk: ControlDesk) -> None:
    def asked(**changes: Any) -> Any:
        arrays = changes.pop("arrays", {"weights": "1" * 64})
        segments = tuple(
            SegmentHeader(name=name, dtype="f64", count=3, sha256=sha) for name, sha in arrays.items()
        )
        body = TrainRequest(order=order(arrays=arrays, **changes))
        return sign(desk, header(desk, body, segments=segments))

    assert asked().status_code == 200
    assert asked().status_code == 200
    other = asked(arrays={"weights": "2" * 64})
    assert (other.status_code, "another order" in other.json()["detail"]) == (409, True)
    more = asked(arrays={"weights": "1" * 64, "released": "1" * 64}, evaluate=True)
    assert (more.status_code, "another order" in more.json()["detail"]) == (409, True)


def test_arrays_that_the_order_does_not_name_are_not_signed(desk: ControlDesk) -> None:
    weights = SegmentHeader(name="weights", dtype="f64", count=3, sha256="1" * 64)
    assert "not those that its order names" in refused(desk, TrainRequest(order=order()), segments=(weights,))


def test_prekeys_have_no_place_in_the_clear(desk: ControlDesk) -> None:
    assert "nothing is charged" in refused(
        desk, TrainRequest(order=order(), finished=(Finish(attempt=1, order="1" * 64, signatures={}),))
    )
    assert "no prekeys" in refused(desk, TrainRequest(order=order(prekeys={"a": 1})))
    assert "no prekeys" in refused(desk, HelloRequest(nonce="n", prekeys=1))
    assert "no witnesses" in refused(desk, WitnessRequest(starts={"a": "0" * 32}))


ORDERS: dict[str, tuple[dict[str, Any], str]] = {
    "an attempt that was never opened": ({"attempt": 2}, "attempt 2 is not open"),
    "another cohort": ({"cohort": ("a", "b", "c")}, "not the one in the store"),
    "another base": ({"base": 1}, "not the one in the store"),
    "another kind": ({"kind": "evaluate"}, "not the one in the store"),
    "other knobs": ({"knobs": {**KNOBS, "server_rate": 0.3}}, "not the one in the store"),
    "members left out unseen": ({"left_out": {"e": "gone"}}, "not the one in the store"),
    "another job": ({"job": "f" * 32}, "signatures were asked for job"),
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_is_signed_only_as_the_store_has_it(desk: ControlDesk, name: str) -> None:
    changes, sentence = ORDERS[name]
    assert sentence in refused(desk, TrainRequest(order=order(**changes)))


STORED: dict[str, tuple[dict[str, Any], str]] = {
    "a cohort below the minimum": ({"cohort": ("a", "b")}, "below the charter's minimum of 3"),
    "a stranger in the cohort": ({"cohort": ("a", "b", "c", "z")}, "'z' is not a member"),
    "a member in and out": ({"left_out": {"a": "held"}}, "names a member twice"),
    "a knob out of range": ({"knobs": {**KNOBS, "server_rate": 9.0}}, "outside what the charter allows"),
    "a knob the charter does not open": (
        {"knobs": {**KNOBS, "zeal": 1.0}},
        "outside what the charter allows",
    ),
    "left out without a reason": ({"cohort": COHORT[:3], "left_out": {"d": " "}}, "without a reason"),
}


@pytest.mark.parametrize("name", STORED)
def test_what_the_charter_forbids_is_not_signed_even_if_the_store_has_it(
    desk: ControlDesk, name: str
) -> None:
    changes, sentence = STORED[name]
    number = open_attempt(desk, **changes)
    assert sentence in refused(desk, TrainRequest(order=order(attempt=number, **changes)))


def test_a_pinned_knob_stands_where_the_plan_pinned_it(tmp_path: Path) -> None:
    with open_test_desk(tmp_path) as desk:
        submit(desk, pinned={"server_rate": 0.5})
        open_attempt(desk)
        assert "pinned to 0.5" in refused(desk, TrainRequest(order=order()))
        fitting = {**KNOBS, "server_rate": 0.5}
        number = open_attempt(desk, knobs=fitting)
        assert (
            sign(desk, header(desk, TrainRequest(order=order(attempt=number, knobs=fitting)))).status_code
            == 200
        )


def test_two_members_of_one_controller_count_once(tmp_path: Path) -> None:
    with open_test_desk(tmp_path, controllers=["x", "x", "y", "z"]) as desk:
        submit(desk)
        cohort = ("a", "b", "c")
        number = open_attempt(desk, cohort=cohort)
        assert "a cohort of 2 controllers" in refused(
            desk, TrainRequest(order=order(attempt=number, cohort=cohort))
        )


def test_a_run_that_was_replaced_gets_no_more_signatures(desk: ControlDesk) -> None:
    desk.store.claim(JOB, "run 2")
    assert "no open attempt" in refused(desk, TrainRequest(order=order()))


HEADERS: dict[str, tuple[Callable[[ControlDesk], bytes], str]] = {
    "another charter": (
        lambda desk: header(desk, HelloRequest(nonce="n"), charter="0" * 64),
        "under charter",
    ),
    "other protocols": (
        lambda desk: header(desk, HelloRequest(nonce="n", protocols=(1, 9))),
        "names protocols",
    ),
    "an endless nonce": (
        lambda desk: header(desk, HelloRequest.model_construct(nonce="n" * 999)),
        "not a request's header",
    ),
    "a segment it may not carry": (
        lambda desk: header(desk, HelloRequest(nonce="n"), segments=(NOTHING,)),
        "no segment 'update'",
    ),
    "a changed plan": (
        lambda desk: header(desk, JobRequest(plan=make_plan(rounds=99))),
        "not the one that was submitted",
    ),
    "another job's plan": (
        lambda desk: header(desk, JobRequest(plan=make_plan(job="f" * 32))),
        "asked for job",
    ),
    "not canonical": (lambda desk: header(desk, HelloRequest(nonce="n")) + b" ", "canonical"),
    "no header": (lambda _: b"sign this, please", "not a request's header"),
    "any text": (lambda _: b'{"charter":"x"}', "not a request's header"),
    "too large": (lambda _: b" " * (5 * 2**20), "above the limit"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_the_key_is_no_blind_signer(desk: ControlDesk, name: str) -> None:
    make, sentence = HEADERS[name]
    good = header(desk, HelloRequest(nonce="n"))
    answer = sign(desk, good, make(desk))
    assert answer.status_code == 409
    assert sentence in answer.json()["detail"]


ACTIVE: dict[str, tuple[tuple[str, ...], str]] = {
    "outside the cohort": (("a", "b", "z"), "not a part of its cohort"),
    "a member twice": (("a", "b", "c", "c"), "not a part of its cohort"),
    "too small": (("a", "b"), "below the least of 3"),
}


@pytest.mark.parametrize("name", ACTIVE)
@pytest.mark.parametrize("kind", [AgreeRequest, UnmaskRequest])
def test_an_active_set_lies_in_the_cohort_and_is_large_enough(
    desk: ControlDesk, name: str, kind: Any
) -> None:
    active, sentence = ACTIVE[name]
    assert sentence in refused(desk, kind(job=JOB, attempt=1, active=active))


def test_an_attempt_has_one_active_set_ever(desk: ControlDesk) -> None:
    first = AgreeRequest(job=JOB, attempt=1, active=("a", "b", "c"))
    assert sign(desk, header(desk, first)).status_code == 200
    assert sign(desk, header(desk, first)).status_code == 200
    assert "another active set" in refused(desk, AgreeRequest(job=JOB, attempt=1, active=("b", "c", "d")))
    assert "another active set" in refused(desk, UnmaskRequest(job=JOB, attempt=1, active=COHORT))


def test_two_active_sets_in_one_call_are_refused_together(desk: ControlDesk) -> None:
    sets = [AgreeRequest(job=JOB, attempt=1, active=it) for it in (("a", "b", "c"), ("b", "c", "d"))]
    assert sign(desk, *(header(desk, body) for body in sets)).status_code == 409


def test_close_is_signed_for_a_job_that_is_over(desk: ControlDesk) -> None:
    close = CloseRequest(job=JOB, rounds=0)
    assert "it is not over" in refused(desk, close)
    desk.store.jobs.want(JOB, "stop", "operator")
    assert "the job has 0" in refused(desk, CloseRequest(job=JOB, rounds=2))
    assert sign(desk, header(desk, close)).status_code == 200


def test_a_stopped_job_asks_nothing_more_of_members(desk: ControlDesk) -> None:
    desk.store.claim(JOB, "x").set_status("stopped")
    assert "nothing more is asked" in refused(desk, JobRequest(plan=make_plan()))


def test_a_job_of_another_charter_is_not_signed_for(tmp_path: Path) -> None:
    with open_test_desk(tmp_path) as desk:
        desk.store.jobs.submit(make_plan(), "0" * 64, {})
        assert "submitted under another charter" in refused(desk, HelloRequest(nonce="n"))


def test_an_unknown_job_gets_no_signature(desk: ControlDesk) -> None:
    assert sign(desk, header(desk, HelloRequest(nonce="n")), job="f" * 32).status_code == 404
