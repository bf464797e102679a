"""Starts are signed where a member does not take another's prekeys, and nobody's word is taken for another's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from federation import make_federation
from masked_jobs import MaskedJob, Node, vanish

from hansa.cli.simulation import LocalOperator
from hansa.contract.errors import MessageError
from hansa.contract.keys import to_text
from hansa.contract.messages import HelloReply, ReplyHeader, Request, WitnessReply
from hansa.contract.statements import witness_statement
from hansa.contract.wire import describe, reply_header, seal, segments_of, unpack
from hansa.secagg.parties import Parties
from hansa.strategies.stock import Restarted, Stock

NONCE = "0" * 32
Change = Callable[[HelloReply | WitnessReply], HelloReply | WitnessReply]


def lies(job: MaskedJob, name: str, change: Change) -> None:
    """A member changes its answers to hello and witness, and signs them."""

    def fault(body: Request, honest: Node, payload: bytes) -> bytes:
        packed = unpack(honest(payload))
        header = reply_header(packed)
        segments = segments_of(packed, header.segments)
        body_ = header.body
        if isinstance(body_, HelloReply | WitnessReply):
            body_ = change(body_)
        changed = ReplyHeader(
            charter=header.charter,
            sender=name,
            request=header.request,
            body=body_,
            segments=describe(segments),
        )
        return seal(changed, segments, job.simulated.identities[name])

    job.faults[name] = fault


def test_one_call_of_the_operator_signs_a_whole_wave() -> None:
    job = MaskedJob(10)
    strategy = job.strategy()
    signed: list[int] = []

    class Counts(LocalOperator):
        def sign_headers(self, job: str, headers: Sequence[bytes]) -> list[bytes]:
            signed.append(len(headers))
            return super().sign_headers(job, headers)

    strategy._desk._operator = Counts(job.simulated.operator)
    job.run(strategy)
    # Hello, job, starts to all, words to all; then order and unmask of the round and of the last figures; close.
    assert signed == [1, 1, 10, 10, 1, 1, 1, 1, 1]


def test_a_late_joiner_is_witnessed_without_disturbing_the_others() -> None:
    job = MaskedJob(10, rounds=4)
    late = job.agents.pop("j")
    strategy, grid = job.strategy(), job.grid()
    apply = strategy.apply

    def applied(attempt, followed=None):  # type: ignore[no-untyped-def]
        if "j" not in job.agents:
            job.agents["j"] = late
            grid._nodes[10] = lambda payload: job._serve("j", payload)
            job.asked.clear()
        return apply(attempt, followed)

    strategy.apply = applied  # type: ignore[method-assign]
    strategy.start(grid)
    grid.close()
    assert [len(result.active) for result in job.job.results] == [9, 10, 10, 10, 10]
    # Everybody signs its start; it signs theirs, and each is shown that word.
    assert sorted(job.requests("witness")) == sorted([*job.agents] * 2)


def test_a_member_of_another_run_that_restarted_meanwhile_finds_newer_prekeys() -> None:
    first = MaskedJob(4, rounds=3)
    second = MaskedJob(simulated=first.simulated, agents=first.agents, rounds=3, plan={"job": "cd" * 16})
    second.agents = first.agents
    strategy, grid = second.strategy(), second.grid()
    strategy.connect(grid)
    strategy.train_round()
    first.restart("c")
    # The first job's run has the new start signed; what the second keeps of the others is older than that.
    first.run()
    assert first.job.status == "finished"
    while strategy.state.round < 3:
        strategy.train_round()
    grid.close()
    assert [result.active for result in second.job.results][-1] == ("a", "b", "c", "d")
    assert len(second.job.results) <= 5


def test_a_member_that_claims_to_take_nobodys_prekeys_is_alone() -> None:
    job = MaskedJob(4, rounds=2)

    def never(body: HelloReply | WitnessReply) -> HelloReply | WitnessReply:
        taken = {name: it.model_copy(update={"first": 2**62}) for name, it in body.accepts.items()}
        return body.model_copy(update={"accepts": taken})

    lies(job, "a", never)
    job.run()
    assert job.job.status == "finished"
    assert all(result.active == ("b", "c", "d") for result in job.job.results)


def test_a_word_on_another_start_does_not_count_and_is_noted() -> None:
    job = MaskedJob(10, rounds=2)

    def other(body: HelloReply | WitnessReply) -> HelloReply | WitnessReply:
        if isinstance(body, HelloReply):
            return body
        words = tuple(word.model_copy(update={"start": NONCE}) for word in body.witnesses)
        return body.model_copy(update={"witnesses": words})

    lies(job, "b", other)
    job.run()
    assert job.job.status == "finished"
    # Nobody takes its prekeys, since it signed for nobody.
    assert all("b" not in result.cohort and len(result.cohort) == 9 for result in job.job.results)
    assert {member for member, _ in job.events("bad-reply")} == {"b"}


def test_a_word_on_prekeys_that_are_not_there_keeps_no_other_member_out() -> None:
    job = MaskedJob(10, rounds=2)
    identity = job.simulated.identities["b"]

    def far(body: HelloReply | WitnessReply) -> HelloReply | WitnessReply:
        if isinstance(body, HelloReply):
            return body
        words = []
        for word in body.witnesses:
            if word.member == "j":
                word = word.model_copy(update={"first": 2**62})
                signature = identity.sign(witness_statement(job.simulated.hash, word))
                word = word.model_copy(update={"signature": to_text(signature)})
            words.append(word)
        return body.model_copy(update={"witnesses": tuple(words)})

    lies(job, "b", far)
    job.run()
    assert job.job.status == "finished"
    shown = [word for _, body in job.asked if body.type == "witness" for word in body.shown]
    assert {(word.witness, word.member) for word in shown}.isdisjoint({("b", "j")})
    assert all(result.cohort == tuple("acdefghij") for result in job.job.results)
    assert {member for member, _ in job.events("bad-reply")} == {"b"}


def test_a_word_in_another_members_name_reaches_nobody() -> None:
    job = MaskedJob(10, rounds=1)

    def in_the_name_of_c(body: HelloReply | WitnessReply) -> HelloReply | WitnessReply:
        if isinstance(body, HelloReply):
            return body
        words = tuple(
            word.model_copy(update={"witness": "c", "first": 2**62})
            for word in body.witnesses
            if word.member != "c"
        )
        return body.model_copy(update={"witnesses": words})

    lies(job, "b", in_the_name_of_c)
    job.run()
    shown = [word for _, body in job.asked if body.type == "witness" for word in body.shown]
    assert shown
    assert all(word.first < 2**62 for word in shown)
    assert job.job.results[0].cohort == tuple("acdefghij")


def test_a_witness_that_is_silent_is_greeted_again_and_the_others_suffice() -> None:
    job = MaskedJob(10, rounds=2)
    silent: list[bool] = []

    def fault(body: Request, honest: Node, payload: bytes) -> bytes:
        if body.type == "witness" and len(silent) < 1:
            silent.append(True)
            raise ConnectionError("gone")
        return honest(payload)

    job.faults["e"] = fault
    job.run()
    assert job.job.status == "finished"
    assert job.requests("hello").count("e") == 2
    assert job.job.results[-1].status == "evaluated"
    assert len(job.job.results[0].active) >= 9


def test_a_member_that_is_silent_in_the_unmask_exchange_is_greeted_again() -> None:
    job = MaskedJob(3, rounds=1)
    job.faults["b"] = vanish("unmask", 1)
    job.run()
    assert job.requests("hello").count("b") == 2
    assert [result.status for result in job.job.results] == ["failed", "applied", "evaluated"]


@pytest.fixture
def stocked() -> tuple[Stock, MaskedJob]:
    job = MaskedJob(3)
    stock = Stock(Parties.of(job.simulated.charter, job.simulated.hash))
    for name in ("a", "b"):
        ring = job.agents[name].ring
        assert ring is not None
        stock.greet(name, ring.start, {})
    return stock, job


def made(job: MaskedJob, name: str, count: int) -> np.ndarray:
    ring = job.agents[name].ring
    assert ring is not None
    return np.frombuffer(ring.make(count), dtype=np.uint8)


def test_the_stock_takes_a_members_own_new_prekeys_only(stocked: tuple[Stock, MaskedJob]) -> None:
    stock, job = stocked
    first, second = made(job, "a", 2), made(job, "a", 1)
    stock.add("a", first, 2)
    before = stock.starts["a"].numbers
    broken = second.copy()
    broken[50] ^= 1
    cases = [
        (first, 2),
        (second, 2),
        (made(job, "b", 1), 1),
        (broken, 1),
        (second[:-1], 1),
        (np.empty(0, np.uint8), 1),
    ]
    for content, expected in cases:
        with pytest.raises((MessageError, Restarted)):
            stock.add("a", content, expected)
    assert stock.starts["a"].numbers == before
    stock.add("a", second, 1)
    assert len(stock.starts["a"].numbers) == 3


def test_the_stock_hands_out_each_prekey_once_and_keeps_the_newest(stocked: tuple[Stock, MaskedJob]) -> None:
    stock, job = stocked
    for _ in range(3):
        stock.add("a", made(job, "a", 2), 2)
    numbers = stock.starts["a"].numbers
    assert len(numbers) == 4
    assert stock.take({"a": numbers[0]})["a"].number == numbers[0]
    with pytest.raises(KeyError):
        stock.take({"a": numbers[0]})
    stock.discard("a", numbers[3])
    assert stock.starts["a"].numbers == numbers[3:]
    stock.forget("a")
    assert "a" not in stock.starts


def test_prekeys_of_another_charter_are_not_taken(stocked: tuple[Stock, MaskedJob]) -> None:
    stock, _ = stocked
    other = MaskedJob(simulated=make_federation(3, mode="masked"))
    ring = other.agents["a"].ring
    assert ring is not None
    with pytest.raises(Restarted):
        stock.add("a", made(other, "a", 1), 1)
    stock.greet("a", ring.start, {})
    with pytest.raises(MessageError, match="did not sign"):
        stock.add("a", made(other, "a", 1), 1)


def test_a_hello_without_the_prekeys_it_was_asked_for_is_noted() -> None:
    job = MaskedJob(4)
    ring = job.agents["b"].ring
    assert ring is not None
    make = ring.make
    ring.make = lambda count, **named: make(count - 1, **named)  # type: ignore[method-assign]
    strategy = job.strategy()
    strategy._sleep = lambda _: setattr(job.job, "wanted", "stop")  # type: ignore[assignment]
    job.run(strategy)
    assert {member for member, _ in job.events("bad-prekey")} == {"b"}
    assert all(result.cohort == ("a", "c", "d") for result in job.job.results)
