"""A server that lies in mode `he`, at real agents: wrong sums, keys, states and orders; nothing is applied."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from blind_jobs import BlindJob
from federation import JOB, request
from masked_jobs import MaskedJob, Node
from numpy.typing import NDArray
from slow import cases

from hansa.contract.blind_messages import (
    ENCRYPTED_SUM,
    SEALED_KEYS,
    SEALED_STATE,
    ApplyRequest,
    KeysRequest,
    ReloadRequest,
)
from hansa.contract.messages import RefusalReply, Request, TrainRequest
from hansa.contract.segments import CHECK_WORDS
from hansa.contract.wire import Segments, describe, reply_header, request_header, segments_of, unpack
from hansa.secagg.envelope import EnvelopeSum
from hansa.strategies import blind_keys, custody

Content = NDArray[np.uint8]
# What a lying server makes of a request and its segments.
Lie = Callable[[Any, dict[str, NDArray[Any]]], tuple[Any, Segments]]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "PATIENCE_S", 0.2)
    monkeypatch.setattr(blind_keys, "AGAIN_S", 0.0)


class Liar:
    """Changes requests of a type on their way and signs them as the operator; keeps what it was answered."""

    def __init__(self, job: BlindJob, kind: str, lie: Lie, *, attempt: int | None = None) -> None:
        self.job, self.kind, self.lie, self.attempt = job, kind, lie, attempt
        self.answers: list[Any] = []
        for name in job.agents:
            job.faults[name] = self

    def __call__(self, body: Request, honest: Node, payload: bytes) -> bytes:
        order = getattr(body, "order", None)
        if body.type != self.kind or (self.attempt is not None and order.attempt != self.attempt):
            return honest(payload)
        packed = unpack(payload)
        changed, segments = self.lie(body, dict(segments_of(packed, request_header(packed).segments)))
        answer = honest(request(self.job.simulated, changed, segments))
        self.answers.append(reply_header(unpack(answer)).body)
        # The strategy is asked about its own request.
        raise ConnectionError("the lie was told")


def summed(content: Content, *more: Content, words: NDArray[np.uint32] | None = None) -> Content:
    """What a server without a key can make of a sum."""
    chunks = EnvelopeSum(3 + CHECK_WORDS)
    for it in (content, *more):
        chunks.add(np.array(it))
    if words is not None:
        chunks.add_words(words)
    return chunks.content


def flipped(content: Content, place: int, bit: int) -> Content:
    """One bit changed, and the checksum made to fit."""
    changed = np.array(content[:-4])
    changed[place] ^= 1 << bit
    return closed(changed)


def closed(content: Content) -> Content:
    """Ciphertexts with the checksum that fits them."""
    return np.append(content, np.frombuffer(zlib.crc32(content).to_bytes(4, "little"), np.uint8))


ONES = np.ones(3 + CHECK_WORDS, dtype=np.uint32)
SUMS: dict[str, Callable[[Content], Content]] = {
    "doubled": lambda it: summed(it, it),
    "a vector added": lambda it: summed(it, words=ONES),
    "one coordinate moved": lambda it: summed(it, words=np.eye(5, dtype=np.uint32)[0]),
    "a check word moved": lambda it: summed(it, words=np.eye(5, dtype=np.uint32)[4]),
    "zeros": lambda it: closed(np.zeros(it.size - 4, np.uint8)),
    "a byte flipped, checksum and all": lambda it: flipped(it, 6, 3),
    "a byte flipped": lambda it: np.append(it[:1] ^ np.uint8(1), it[1:]),
    "cut short": lambda it: it[:-8],
}


@pytest.mark.parametrize(
    "what", cases(SUMS, quick=lambda it: it in ("doubled", "a vector added", "a byte flipped"))
)
def test_a_sum_that_is_not_the_sum_is_refused_by_all_alike_and_nothing_is_applied(what: str) -> None:
    job = BlindJob(rounds=1)
    assert job.simulated.model.parameters == 3

    def lie(body: ApplyRequest, segments: dict[str, NDArray[Any]]) -> tuple[ApplyRequest, Segments]:
        return body, {**segments, ENCRYPTED_SUM: SUMS[what](segments[ENCRYPTED_SUM])}

    liar = Liar(job, "apply", lie, attempt=1)
    job.run()
    assert {it.code for it in liar.answers} == {"bad-sum"}
    assert {it.sentence for it in liar.answers} == {
        "the sum of attempt 1 is not that of the uploads shown with it"
    }
    assert [it.status for it in job.job.results[:2]] == ["failed", "applied"]
    job.assert_alike()


@pytest.mark.parametrize("what", ["a member left out", "another base", "another attempt"])
def test_a_true_sum_is_not_taken_for_another_one(what: str) -> None:
    job = BlindJob(rounds=2)

    def lie(body: ApplyRequest, segments: dict[str, NDArray[Any]]) -> tuple[ApplyRequest, Segments]:
        order = body.order
        if what == "a member left out":
            return body.model_copy(update={"active": body.active[1:]}), segments
        changes = {"base": order.base + 1} if what == "another base" else {"attempt": order.attempt + 7}
        return body.model_copy(update={"order": order.model_copy(update=changes)}), segments

    liar = Liar(job, "apply", lie, attempt=2)
    job.run()
    assert {it.code for it in liar.answers} == {"bad-sum"}
    assert [it.status for it in job.job.results[:3]] == ["applied", "failed", "applied"]
    job.assert_alike()


def test_the_sum_of_another_attempt_is_not_taken() -> None:
    job, kept = BlindJob(rounds=2), []

    def lie(body: ApplyRequest, segments: dict[str, NDArray[Any]]) -> tuple[ApplyRequest, Segments]:
        kept.append(np.array(segments[ENCRYPTED_SUM]))
        return body, {**segments, ENCRYPTED_SUM: kept[0]}

    liar = Liar(job, "apply", lie)
    job.run()
    # The first sum is told again in the attempts after it.
    codes = [getattr(it, "code", it.type) for it in liar.answers]
    assert codes[:4] == ["apply"] * 4
    assert "bad-sum" in codes[4:] or all(it.status == "failed" for it in job.job.results)
    assert job.job.round <= 1


def test_after_three_wrong_sums_a_member_takes_no_part_in_the_job_any_more() -> None:
    job = BlindJob(rounds=1)

    def lie(body: ApplyRequest, segments: dict[str, NDArray[Any]]) -> tuple[ApplyRequest, Segments]:
        return body, {**segments, ENCRYPTED_SUM: SUMS["doubled"](segments[ENCRYPTED_SUM])}

    liar = Liar(job, "apply", lie)
    job.run()
    assert job.job.status == "paused"
    for agent in job.agents.values():
        assert agent.attempts.state(JOB) == "frozen"
    assert {it.code for it in liar.answers} <= {"bad-sum", "grant-frozen"}
    assert {job.held(name).round for name in job.agents} == {0}


# --- orders --------------------------------------------------------------------------------------


def order_with(**changes: object) -> Lie:
    """An order of which some of it is changed."""

    def lie(body: TrainRequest, segments: dict[str, NDArray[Any]]) -> tuple[TrainRequest, Segments]:
        return body.model_copy(update={"order": body.order.model_copy(update=changes)}), segments

    return lie


def with_model(name: str) -> Lie:
    """An order that brings a model as other modes do."""

    def lie(body: TrainRequest, segments: dict[str, NDArray[Any]]) -> tuple[TrainRequest, Segments]:
        brought = {name: np.zeros(3), **segments}
        named = {it.name: it.sha256 for it in describe(brought)}
        return body.model_copy(update={"order": body.order.model_copy(update={"arrays": named})}), brought

    return lie


ORDERS: dict[str, tuple[Lie, str]] = {
    "no keys": (order_with(epoch=0), "keys-missing"),
    "other keys": (order_with(epoch=9), "keys-missing"),
    "another state": (order_with(state="f" * 64), "wrong-state"),
    "no state": (order_with(state=""), "wrong-state"),
    "an older round": (order_with(base=5), "wrong-state"),
    "weights": (with_model("weights"), "mode-downgrade"),
    "a released model": (with_model("released"), "mode-downgrade"),
}


@pytest.mark.parametrize("what", ORDERS)
def test_an_order_that_is_none_of_this_mode_is_refused_and_uses_nothing_up(what: str) -> None:
    job = BlindJob(rounds=2)
    lie, code = ORDERS[what]
    liar = Liar(job, "attempt", lie, attempt=2)
    job.run()
    assert {it.code for it in liar.answers if isinstance(it, RefusalReply)} == {code}
    assert all(isinstance(it, RefusalReply) for it in liar.answers)
    assert all(agent.attempts.accepted(JOB, 2) is None for agent in job.agents.values())
    job.assert_alike()


# --- keys and states -----------------------------------------------------------------------------


def asked(job: BlindJob, name: str, body: object, segments: Segments | None = None) -> Any:
    """What a member answers to a request that the operator signed."""
    answer = job.agents[name].handle(request(job.simulated, body, segments))
    return reply_header(unpack(answer)).body


def test_no_other_keys_are_taken_after_an_upload() -> None:
    job = BlindJob(rounds=1)
    job.run()
    name = next(it for it in job.agents if it != job.maker)
    before = job.held(name)
    for body in (
        KeysRequest(job=JOB, epoch=before.epoch + 1, maker=name),
        KeysRequest(job=JOB, epoch=before.epoch, maker=name),
        KeysRequest(job=JOB, epoch=1, maker="stranger"),
    ):
        # The job is closed; approved again it would be the same.
        job.agents[name].attempts.set_state(JOB, "approved")
        said = asked(job, name, body)
        assert said.code in ("replayed", "unknown-member"), said
    assert job.held(name) == before


def test_keys_that_nobody_signed_are_not_used() -> None:
    job = BlindJob(rounds=1)
    for name, agent in job.agents.items():
        assert asked(job, name, {"type": "job", "plan": job.job.plan}).type == "job"
        assert agent.attempts.state(JOB) == "approved"
    maker = job.maker
    made = job.agents[maker].handle(request(job.simulated, KeysRequest(job=JOB, epoch=1, maker=maker)))
    packed = unpack(made)
    header = reply_header(packed)
    bundle = {SEALED_KEYS: segments_of(packed, header.segments)[SEALED_KEYS]}
    signatures = {maker: header.body.signature}
    others = [name for name in job.agents if name != maker]
    first = asked(job, others[0], KeysRequest(job=JOB, epoch=1, maker=maker, signatures=signatures), bundle)
    assert not first.ready
    # Twice one member's word, a word in another's name, and none of the maker's.
    for wrong in (
        {maker: header.body.signature, others[1]: first.signature, others[2]: header.body.signature},
        {others[1]: first.signature},
        {},
    ):
        said = asked(job, others[0], KeysRequest(job=JOB, epoch=1, maker=maker, signatures=wrong))
        assert not said.ready
    assert not job.held(others[0]).ready
    damaged = {SEALED_KEYS: np.append(bundle[SEALED_KEYS][:-1], bundle[SEALED_KEYS][-1:] ^ np.uint8(1))}
    said = asked(job, others[1], KeysRequest(job=JOB, epoch=1, maker=maker), damaged)
    assert said.code == "bad-share"
    assert job.held(others[1]).epoch == 0


def test_a_state_that_no_member_sealed_is_not_taken() -> None:
    job = BlindJob(rounds=2)
    job.run()
    agent = job.agents["b"]
    agent.attempts.set_state(JOB, "approved")
    before = job.held("b")
    assert job.job.state is not None
    sealed = np.asarray(job.job.state["sealed-0"])
    for number, tag, copy in (
        (before.round, before.tag, np.zeros_like(sealed)),
        (before.round, "f" * 64, sealed),
        (before.round + 1, before.tag, sealed),
        (before.round - 1, before.tag, sealed),
        (before.round, before.tag, sealed[:10]),
    ):
        said = asked(job, "b", ReloadRequest(job=JOB, round=number, tag=tag), {SEALED_STATE: copy})
        assert said.code == "wrong-state", said
    assert job.held("b") == before
    good = ReloadRequest(job=JOB, round=before.round, tag=before.tag)
    assert asked(job, "b", good, {SEALED_STATE: sealed}).type == "apply"


def test_other_modes_know_no_keys_sums_or_states() -> None:
    job = MaskedJob(3, 1)
    job.run()
    agent = job.agents["a"]
    agent.attempts.set_state(JOB, "approved")
    body = KeysRequest(job=JOB, epoch=1, maker="a")
    said = reply_header(unpack(agent.handle(request(job.simulated, body)))).body
    assert said.code == "mode-downgrade"


def test_more_noise_than_a_sum_can_have_is_not_believed() -> None:
    job = BlindJob(rounds=1)

    def lie(body: ApplyRequest, segments: dict[str, NDArray[Any]]) -> tuple[ApplyRequest, Segments]:
        return body.model_copy(update={"noise": 0.01}), segments

    liar = Liar(job, "apply", lie, attempt=1)
    job.run()
    assert {it.code for it in liar.answers} == {"wrong-state"}
    job.assert_alike()
