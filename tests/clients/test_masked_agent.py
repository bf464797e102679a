"""Masked attempts that go as they should: real agents, an honest server, members that vanish."""

from __future__ import annotations

import numpy as np
import pytest
from federation import attempt_request, make_federation, make_order, request
from masked_side import MaskedServer, answer_of, ready

from hansa.clients.membership import Membership
from hansa.clients.protocol import Agent
from hansa.contract.charter import Protection
from hansa.contract.messages import (
    PREKEYS,
    HelloReply,
    HelloRequest,
    UploadReply,
    WitnessReply,
    WitnessRequest,
)
from hansa.secagg.active_set import receipt_valid
from hansa.secagg.prekeys import decode_prekeys, prekey_bytes


def assert_sum(
    server: MaskedServer, number: int, active: list[str], evaluate: bool = True, **fields: object
) -> None:
    attempt = server.train(server.begin(number, evaluate=evaluate, **fields), active)
    for circle, sums in server.opened(attempt, active).items():
        expected = server.expected(attempt, circle, active)
        assert set(sums) == set(expected) == {"update"} | ({"evaluation"} if evaluate else set())
        for segment, values in expected.items():
            np.testing.assert_array_equal(sums[segment], values)


@pytest.mark.parametrize("members", [2, 3, 5])
def test_the_sum_is_that_of_the_members_to_the_last_bit(members: int) -> None:
    protection = {"protection": Protection(mode="masked", minimum_cohort=2)} if members == 2 else {}
    server = ready(make_federation(members, mode="masked", **protection))
    for number in (1, 2):
        assert_sum(server, number, list(server.agents))
    assert server.given
    assert not server.twice_given


@pytest.mark.parametrize("vanished", ["a", "c", "e"])
def test_a_member_that_vanishes_before_its_upload_takes_its_masks_along(vanished: str) -> None:
    server = ready(make_federation(5, mode="masked"))
    assert_sum(server, 1, [name for name in server.agents if name != vanished])
    assert_sum(server, 2, list(server.agents), evaluate=False)


def test_a_member_left_out_with_a_reason_is_in_no_sum() -> None:
    server = ready(make_federation(5, mode="masked"))
    assert_sum(server, 1, list("abce"), cohort=("a", "b", "c", "e"))


def test_groups_have_sums_of_their_own() -> None:
    federation = make_federation(7, protection=Protection(mode="masked", audit_groups=3))
    server = ready(federation)
    groups = (("a", "c", "e"), ("b", "d", "f", "g"))
    assert_sum(server, 1, list("abcdefg"), groups=groups)
    assert_sum(server, 2, list("abcdef"), groups=groups)


def test_of_a_group_that_is_too_small_nothing_opens() -> None:
    federation = make_federation(7, protection=Protection(mode="masked", audit_groups=3))
    server = ready(federation)
    active = list("abdefg")
    attempt = server.train(server.begin(1, groups=(("a", "c", "e"), ("b", "d", "f", "g"))), active)
    opened = server.opened(attempt, active)
    assert list(opened) == [("b", "d", "f", "g")]
    makers = {server.parties.names[server.seen[prekey].maker] for _, prekey in server.given}
    assert makers == {"b", "d", "f", "g"}


def test_the_grid_is_that_of_the_circle() -> None:
    federation = make_federation(6, protection=Protection(mode="masked", audit_groups=3))
    server = ready(federation)
    split = server.begin(1, groups=(("a", "b", "c"), ("d", "e", "f")))
    whole = server.begin(2)
    coarse, fine = (
        server.expected(it, ["a"], ["a"])["update"].astype(np.int32).astype(float) for it in (whole, split)
    )
    np.testing.assert_allclose(fine, 2 * coarse, rtol=1e-5)


def test_an_upload_carries_one_new_prekey_and_a_signed_receipt() -> None:
    server = ready(make_federation(4, mode="masked"))
    attempt = server.begin(1)
    answer = server.send("a", attempt.request)
    assert isinstance(answer.body, UploadReply)
    assert receipt_valid("a", attempt.order, answer.body.receipt, server.parties)
    (new,) = decode_prekeys(answer.segments[PREKEYS].data, server.parties, 1)
    assert new.number > attempt.prekeys["a"].number


def test_a_masked_upload_says_nothing_and_is_another_with_every_attempt() -> None:
    server = ready(make_federation(4, mode="masked"))
    first, second = (server.train(server.begin(number)).uploads["a"]["update"] for number in (1, 2))
    plain = server.expected(server.begin(3), ["a"], ["a"])["update"]
    assert not np.any(first == plain)
    assert not np.any(first == second)


def test_hello_tells_the_start_and_brings_prekeys() -> None:
    server = MaskedServer(make_federation(4, mode="masked"))
    answer = server.ask("a", HelloRequest(nonce="n", prekeys=3))
    assert isinstance(answer.body, HelloReply)
    assert answer.body.start == server.hello("a").start != server.hello("b").start
    assert answer.body.accepts == {}
    assert answer.segments[PREKEYS].size == 3 * prekey_bytes(server.parties)
    server.exchange()
    assert set(server.hello("a").accepts) == {"b", "c", "d"}


def test_a_word_on_a_start_is_older_than_the_prekeys_of_its_answer() -> None:
    server = MaskedServer(make_federation(4, mode="masked"))
    answer = server.ask("a", WitnessRequest(starts={"b": server.hello("b").start}, prekeys=2))
    assert isinstance(answer.body, WitnessReply)
    made = decode_prekeys(answer.segments[PREKEYS].data, server.parties, 2)
    assert answer.body.witnesses[0].first == made[0].number


def test_the_largest_request_holds_the_prekeys_of_all() -> None:
    server = ready(make_federation(5, mode="masked"))
    attempt = server.begin(1, evaluate=True)
    room = server.federation.agent("a").largest_request
    assert len(attempt.request) < room
    clear = make_federation(5).agent("a").largest_request
    assert room - clear == 5 * prekey_bytes(server.parties)


def test_in_mode_clear_there_are_no_prekeys_and_no_starts() -> None:
    federation = make_federation(4)
    agent = federation.agent("a")
    answer = answer_of(agent, request(federation, HelloRequest(nonce="n", prekeys=4)))
    assert isinstance(answer.body, HelloReply)
    assert (answer.body.start, answer.body.accepts, answer.segments) == ("", {}, {})
    assert answer_of(agent, request(federation, WitnessRequest(prekeys=1))).said == "not-approved"
    assert agent.ring is None


def test_an_agent_has_a_ring_where_its_charter_wants_one() -> None:
    masked, clear = make_federation(4, mode="masked"), make_federation(4)
    ring = masked.agent("a").ring
    for federation, held in ((masked, None), (clear, ring)):
        donor = federation.agent("a")
        membership = Membership("a", federation.charter, federation.hash, federation.identities["a"])
        with pytest.raises(ValueError, match="ring"):
            Agent(
                membership,
                donor.attempts,
                work=donor._work,
                pace=lambda _: None,
                monotonic=lambda: 0.0,
                ring=held,
            )


def test_receipts_are_signed_in_every_mode() -> None:
    federation = make_federation(4)
    server = MaskedServer(federation)
    server.propose("a")
    order = make_order(federation)
    answer = server.send("a", attempt_request(federation, order))
    assert isinstance(answer.body, UploadReply)
    assert receipt_valid("a", order, answer.body.receipt, server.parties)
    assert not receipt_valid("a", order.model_copy(update={"base": 1}), answer.body.receipt, server.parties)
