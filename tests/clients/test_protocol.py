"""The agent against a server that misbehaves: every refusal, with a test that plays the other side."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from federation import FEATURES, JOB, attempt_request, make_federation, make_order, make_plan, request

from hansa.cli.simulation import SimulatedFederation
from hansa.clients.protocol import Agent
from hansa.contract.charter import MetricsPolicy, Protection
from hansa.contract.keys import SigningKey
from hansa.contract.messages import (
    AgreeRequest,
    CloseRequest,
    HelloRequest,
    JobRequest,
    RefusalReply,
    TrainRequest,
    UnmaskRequest,
)
from hansa.contract.segments import LARGEST_WEIGHT
from hansa.contract.wire import check_signature, digest, reply_header, segments_of, unpack


@pytest.fixture
def federation() -> SimulatedFederation:
    return make_federation(4)


@pytest.fixture
def agent(federation: SimulatedFederation) -> Agent:
    agent = federation.agents()["a"]
    assert said(agent, request(federation, JobRequest(plan=make_plan()))) == "job"
    return agent


def said(agent: Agent, payload: bytes) -> str:
    """The refusal's code, or the type of the answer; every answer must be signed and name its request."""
    answer = agent.handle(payload)
    packed = unpack(answer)
    header = reply_header(packed)
    assert header.sender == agent.membership.name
    assert header.request == digest(payload)
    assert check_signature(packed, agent.membership.identity.public)
    segments_of(packed, header.segments)
    return header.body.code if isinstance(header.body, RefusalReply) else header.body.type


def test_an_honest_attempt_is_answered_with_an_upload(federation: SimulatedFederation, agent: Agent) -> None:
    answer = agent.handle(attempt_request(federation, make_order(federation, evaluate=True)))
    packed = unpack(answer)
    header = reply_header(packed)
    assert header.body.type == "upload"
    segments = segments_of(packed, header.segments)
    assert segments["update"].shape == (federation.model.parameters,)
    assert segments["evaluation"].dtype == np.dtype("<u4")


def test_a_request_without_the_operators_signature_moves_nothing(
    federation: SimulatedFederation, agent: Agent
) -> None:
    stranger = SigningKey.generate()
    member = federation.identities["b"]
    for key in (stranger, member):
        assert said(agent, attempt_request(federation, make_order(federation), key=key)) == "not-operator"
        assert said(agent, request(federation, HelloRequest(nonce="n"), key=key)) == "not-operator"
    assert agent.attempts.newest(JOB) is None


def test_a_changed_byte_anywhere_is_refused(federation: SimulatedFederation, agent: Agent) -> None:
    honest = attempt_request(federation, make_order(federation))
    for place in range(0, len(honest), 7):
        changed = bytearray(honest)
        changed[place] ^= 1
        assert said(agent, bytes(changed)) in ("not-operator", "bad-size", "protocol-number")
    assert agent.attempts.newest(JOB) is None


@pytest.mark.parametrize("garbage", [b"", b"HANSA", b"HANSA\x01\xff\xff\xff\xff", b"x" * 1000, bytes(5000)])
def test_garbage_is_refused(agent: Agent, garbage: bytes) -> None:
    assert said(agent, garbage) == "bad-size"


def test_an_unknown_protocol_is_refused_by_number(federation: SimulatedFederation, agent: Agent) -> None:
    honest = bytearray(attempt_request(federation, make_order(federation)))
    honest[5] = 9
    answer = reply_header(unpack(agent.handle(bytes(honest)))).body
    assert isinstance(answer, RefusalReply)
    assert answer.code == "protocol-number"
    assert answer.facts == {"asked": 9, "newest": 1, "oldest": 1}


def test_another_charter_and_the_one_before_are_refused(federation: SimulatedFederation) -> None:
    newer = make_federation(4, version=2, previous="d" * 64)
    agent = newer.agents()["a"]
    assert said(agent, request(newer, HelloRequest(nonce="n"), charter="e" * 64)) == "wrong-charter"
    assert said(agent, request(newer, HelloRequest(nonce="n"), charter="d" * 64)) == "charter-superseded"


def test_an_expired_charter_is_refused() -> None:
    expired = make_federation(4, expires=datetime.now(UTC) - timedelta(seconds=1))
    assert said(expired.agents()["a"], request(expired, HelloRequest(nonce="n"))) == "charter-expired"


def test_a_job_needs_the_members_own_yes() -> None:
    federation = make_federation(4, approval="manual")
    agent = federation.agents()["a"]
    proposal = request(federation, JobRequest(plan=make_plan()))
    attempt = attempt_request(federation, make_order(federation))
    assert said(agent, attempt) == "not-approved"
    assert said(agent, proposal) == "not-approved"
    assert said(agent, attempt) == "not-approved"
    agent.attempts.set_state(JOB, "approved")
    assert said(agent, proposal) == "job"
    assert said(agent, attempt) == "upload"
    agent.attempts.set_state(JOB, "frozen")
    assert said(agent, attempt_request(federation, make_order(federation, 2))) == "grant-frozen"


def test_a_job_has_one_plan(federation: SimulatedFederation, agent: Agent) -> None:
    assert said(agent, request(federation, JobRequest(plan=make_plan(rounds=99)))) == "not-approved"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"cohort": ("a", "b")}, "cohort-too-small"),
        ({"cohort": ("a", "b", "c", "mallory")}, "unknown-member"),
        ({"cohort": ("b", "c", "d")}, "unknown-member"),
        ({"cohort": ("a", "a", "b", "c")}, "unknown-member"),
        ({"knobs": {"server_rate": 5.0, "client_rate": 1.0}}, "knob-out-of-range"),
        ({"knobs": {"server_rate": 0.2}}, "knob-out-of-range"),
        ({"knobs": {"server_rate": 0.2, "client_rate": 1.0, "noise": 0.0}}, "knob-out-of-range"),
        ({"kind": "statistics"}, "not-approved"),
        ({"job": "00" * 16}, "not-approved"),
    ],
)
def test_an_order_outside_the_charter_is_refused(
    federation: SimulatedFederation, agent: Agent, fields: dict[str, object], code: str
) -> None:
    order = make_order(federation, **fields)
    payload = attempt_request(federation, order, {"weights": np.zeros(federation.model.parameters)})
    assert said(agent, payload) == code
    assert agent.attempts.newest(JOB) is None


def test_nobody_is_left_out_in_silence(federation: SimulatedFederation, agent: Agent) -> None:
    for left_out in ({}, {"d": " "}, {"d": "late", "c": "late"}):
        order = make_order(federation, cohort=("a", "b", "c"), left_out=left_out)
        assert said(agent, attempt_request(federation, order)) == "cohort-too-small"
    order = make_order(federation, cohort=("a", "b", "c"), left_out={"d": "not connected"})
    assert said(agent, attempt_request(federation, order)) == "upload"


def test_the_arrays_are_those_the_order_names(federation: SimulatedFederation, agent: Agent) -> None:
    other = {"weights": np.ones(federation.model.parameters)}
    payload = request(federation, TrainRequest(order=make_order(federation)), other)
    assert said(agent, payload) == "bad-size"
    assert agent.attempts.newest(JOB) is None


def test_the_model_is_evaluated_as_often_as_the_charter_says() -> None:
    federation = make_federation(4, metrics=MetricsPolicy(every=3))
    agent = federation.agents()["a"]
    assert said(agent, request(federation, JobRequest(plan=make_plan()))) == "job"
    assert (
        said(agent, attempt_request(federation, make_order(federation, 1, base=1, evaluate=True)))
        == "not-approved"
    )
    assert (
        said(agent, attempt_request(federation, make_order(federation, 2, base=3, evaluate=True))) == "upload"
    )
    assert (
        said(agent, attempt_request(federation, make_order(federation, 3, base=4, kind="evaluate")))
        == "upload"
    )


def test_a_flood_of_unsigned_requests_leaves_nothing_on_the_disk(
    federation: SimulatedFederation, agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    before = len(agent.attempts.events())
    payload = request(federation, HelloRequest(nonce="n"), key=SigningKey.generate())
    for _ in range(50):
        assert said(agent, payload) == "not-operator"
    assert len(agent.attempts.events()) == before
    assert sum("not-operator" in line for line in caplog.messages) == 1


def test_two_members_of_one_controller_count_once() -> None:
    federation = make_federation(4, controllers=["x", "x", "y", "z"])
    agent = federation.agents()["a"]
    assert said(agent, request(federation, JobRequest(plan=make_plan()))) == "job"
    small = make_order(federation, cohort=("a", "b", "c"))
    assert said(agent, attempt_request(federation, small)) == "cohort-too-small"
    assert said(agent, attempt_request(federation, make_order(federation))) == "upload"


def test_a_pinned_knob_stands(federation: SimulatedFederation) -> None:
    agent = federation.agents()["a"]
    assert said(agent, request(federation, JobRequest(plan=make_plan(pinned={"server_rate": 0.5})))) == "job"
    assert said(agent, attempt_request(federation, make_order(federation))) == "knob-out-of-range"


@pytest.mark.parametrize(
    "segments",
    [
        {"weights": np.zeros(99)},
        {"weights": np.zeros(3, dtype="<u4")},
        {"weights": np.array([0.0, np.nan, 0.0])},
        {"weights": np.array([0.0, -np.inf, 0.0])},
        {"weights": np.array([0.0, np.nextafter(LARGEST_WEIGHT, np.inf), 0.0])},
        {"weights": np.array([0.0, 0.0, -np.nextafter(LARGEST_WEIGHT, np.inf)])},
        {"weights": np.zeros(3), "extra": np.zeros(3)},
        {"released": np.zeros(3)},
    ],
)
def test_arrays_of_another_shape_are_refused_before_the_attempt_counts(
    federation: SimulatedFederation, agent: Agent, segments: dict[str, np.ndarray]
) -> None:
    assert said(agent, attempt_request(federation, make_order(federation), segments)) == "bad-size"
    assert said(agent, attempt_request(federation, make_order(federation))) == "upload"


def test_the_largest_weights_are_taken_and_larger_ones_are_not_evaluated_either(
    federation: SimulatedFederation, agent: Agent
) -> None:
    largest = np.full(3, LARGEST_WEIGHT)
    order = make_order(federation, kind="evaluate", evaluate=True)
    beyond = {"released": np.nextafter(largest, np.inf)}
    assert said(agent, attempt_request(federation, order, beyond)) == "bad-size"
    assert said(agent, attempt_request(federation, order, {"released": -largest})) == "upload"
    assert (
        said(agent, attempt_request(federation, make_order(federation, 2), {"weights": largest})) == "upload"
    )


def test_attempts_only_rise(federation: SimulatedFederation, agent: Agent) -> None:
    assert said(agent, attempt_request(federation, make_order(federation, 5))) == "upload"
    assert said(agent, attempt_request(federation, make_order(federation, 4))) == "attempt-not-rising"
    assert said(agent, attempt_request(federation, make_order(federation, 6))) == "upload"


def test_the_same_request_gets_the_same_bytes_and_another_is_refused(
    federation: SimulatedFederation, agent: Agent
) -> None:
    payload = attempt_request(federation, make_order(federation, evaluate=True))
    assert agent.handle(payload) == agent.handle(payload)
    changes = ({"base": 1}, {"cohort": ("a", "b", "c")}, {"knobs": {"server_rate": 0.3, "client_rate": 1.0}})
    for fields in changes:
        other = attempt_request(federation, make_order(federation, **fields))
        assert said(agent, other) == "different-request-same-attempt"


def test_a_reply_is_dropped_when_the_next_attempt_is_accepted(
    federation: SimulatedFederation, agent: Agent
) -> None:
    first = attempt_request(federation, make_order(federation, 1))
    assert said(agent, first) == "upload"
    assert said(agent, attempt_request(federation, make_order(federation, 2))) == "upload"
    assert said(agent, first) == "attempt-lost"


def test_an_attempt_that_was_cut_off_is_lost_and_computed_by_nobody_again(
    federation: SimulatedFederation, agent: Agent
) -> None:
    order = make_order(federation)
    payload = attempt_request(federation, order)
    agent.attempts.accept(JOB, 1, digest(payload), order.cohort, order.digest)
    assert said(agent, payload) == "attempt-lost"


def test_a_request_that_comes_twice_at_once_is_computed_once(federation: SimulatedFederation) -> None:
    agent = federation.agents()["a"]
    agent.handle(request(federation, JobRequest(plan=make_plan())))
    work, ran = agent._work, []

    class Slow:
        check = staticmethod(work.check)
        keep = staticmethod(work.keep)

        def run(self, *arguments: object) -> object:
            ran.append(1)
            time.sleep(0.2)
            return work.run(*arguments)  # type: ignore[arg-type]

    agent._work = Slow()  # type: ignore[assignment]
    payload = attempt_request(federation, make_order(federation))
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(agent.handle(payload))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ran) == 1
    assert len(set(answers)) == 1


def test_a_failure_says_nothing_of_the_records(federation: SimulatedFederation, agent: Agent) -> None:
    class Broken:
        check = staticmethod(agent._work.check)

        def run(self, *_: object) -> object:
            raise ValueError("record 17 of Jane Doe is odd")

    agent._work = Broken()  # type: ignore[assignment]
    answer = agent.handle(attempt_request(federation, make_order(federation)))
    assert b"training-failed" in answer
    assert b"Jane" not in answer


class TestActiveSets:
    """PROTOCOL 4.3: one active set per attempt, large enough, holding the signer."""

    @pytest.fixture
    def trained(self, federation: SimulatedFederation, agent: Agent) -> Agent:
        assert said(agent, attempt_request(federation, make_order(federation))) == "upload"
        return agent

    @pytest.mark.parametrize("kind", [AgreeRequest, UnmaskRequest])
    def test_one_set_is_signed_and_no_second(
        self, federation: SimulatedFederation, trained: Agent, kind: type
    ) -> None:
        first = request(federation, kind(job=JOB, attempt=1, active=("a", "b", "c")))
        assert said(trained, first) == kind.model_fields["type"].default
        assert said(trained, first) == kind.model_fields["type"].default
        other = request(federation, kind(job=JOB, attempt=1, active=("a", "b", "d")))
        assert said(trained, other) == "second-active-set"

    @pytest.mark.parametrize(
        ("active", "code"),
        [
            (("b", "c", "d"), "not-in-active-set"),
            (("a", "b"), "active-set-too-small"),
            (("a", "b", "mallory"), "active-set-not-agreed"),
            (("a", "a", "b"), "active-set-not-agreed"),
        ],
    )
    def test_a_set_that_cannot_be_is_refused(
        self, federation: SimulatedFederation, trained: Agent, active: tuple[str, ...], code: str
    ) -> None:
        assert said(trained, request(federation, AgreeRequest(job=JOB, attempt=1, active=active))) == code

    def test_a_member_signs_nothing_of_an_attempt_it_never_answered(
        self, federation: SimulatedFederation, agent: Agent
    ) -> None:
        order = make_order(federation)
        agent.attempts.accept(JOB, 1, "0" * 64, order.cohort, order.digest)
        for kind in (AgreeRequest, UnmaskRequest):
            assert (
                said(agent, request(federation, kind(job=JOB, attempt=1, active=("a", "b", "c"))))
                == "attempt-lost"
            )

    def test_controllers_count_in_an_active_set_too(self) -> None:
        federation = make_federation(5, controllers=["x", "x", "y", "z", "w"])
        agent = federation.agents()["a"]
        assert said(agent, request(federation, JobRequest(plan=make_plan()))) == "job"
        assert said(agent, attempt_request(federation, make_order(federation))) == "upload"
        small = request(federation, AgreeRequest(job=JOB, attempt=1, active=("a", "b", "c", "d")))
        assert said(agent, small) == "active-set-too-small"

    def test_only_the_newest_attempt_is_agreed_on(
        self, federation: SimulatedFederation, trained: Agent
    ) -> None:
        assert said(trained, attempt_request(federation, make_order(federation, 2))) == "upload"
        stale = request(federation, AgreeRequest(job=JOB, attempt=1, active=("a", "b", "c")))
        assert said(trained, stale) == "replayed"
        foreign = request(federation, AgreeRequest(job="00" * 16, attempt=2, active=("a", "b", "c")))
        assert said(trained, foreign) == "not-approved"


def test_a_closed_job_takes_no_more_attempts(federation: SimulatedFederation, agent: Agent) -> None:
    closing = request(
        federation, CloseRequest(job=JOB, rounds=3), {"released": np.zeros(federation.model.parameters)}
    )
    assert said(agent, closing) == "close"
    assert said(agent, attempt_request(federation, make_order(federation))) == "not-approved"


def test_the_encoded_columns_are_the_models_inputs(federation: SimulatedFederation) -> None:
    assert federation.model.parameters == len(FEATURES.encoded) + 1


def test_modes_that_are_not_built_are_not_obeyed() -> None:
    encrypted = make_federation(4, protection=Protection(mode="he"))
    agent = encrypted.agents()["a"]
    agent.handle(request(encrypted, JobRequest(plan=make_plan())))
    assert said(agent, attempt_request(encrypted, make_order(encrypted))) == "mode-downgrade"
