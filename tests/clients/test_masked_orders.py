"""A server that lies in a masked order: other people's keys, used keys, cut keys, no keys (PROTOCOL section 8)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from federation import JOB, attempt_request, make_federation, make_order, request
from masked_side import Attempt, MaskedServer, answer_of, forged, ready
from refused import assert_refused

from hansa.contract.charter import Protection
from hansa.contract.messages import PREKEYS, TrainRequest
from hansa.contract.wire import describe
from hansa.secagg.prekeys import Prekey, make_prekey

OTHER_JOB = "cd" * 16


@pytest.fixture
def server() -> MaskedServer:
    return ready(make_federation(4, mode="masked"))


def signed_by(server: MaskedServer, prekey: Prekey, signer: str, maker: str) -> Prekey:
    """A new prekey that says it is `maker`'s and is signed by another."""
    made = make_prekey(
        server.parties,
        server.parties.index(maker),
        prekey.start,
        prekey.number,
        server.federation.identities[signer],
        np.random.default_rng(3).bytes,
    )
    return made.prekey


def test_keys_that_their_owner_did_not_sign_are_nobodys(server: MaskedServer) -> None:
    honest = server.begin(1)
    mine, theirs = honest.prekeys["a"], honest.prekeys["b"]
    lies = {
        "another public key": forged(theirs, public=mine.public),
        "another commitment": forged(theirs, commitment=mine.commitment),
        "another ephemeral key": forged(theirs, ephemeral=mine.ephemeral),
        "parcels in another order": forged(theirs, parcels=theirs.parcels[::-1]),
        "no signature": forged(theirs, signature=bytes(64)),
        "the signature of a peer": signed_by(server, theirs, "c", "b"),
        "the signature of this member": signed_by(server, theirs, "a", "b"),
        "a peer's own key": honest.prekeys["c"],
        "this member's own key": mine,
    }
    for lie in lies.values():
        prekeys = honest.prekeys | {"b": lie}
        numbers = {name: prekey.number for name, prekey in prekeys.items()}
        order = honest.order.model_copy(update={"prekeys": numbers})
        refused = assert_refused(server, server.written(order, prekeys), "unknown-member")
        assert refused.facts.get("member", "b") == "b"
    server.train(honest)


def test_a_strangers_key_is_refused(server: MaskedServer) -> None:
    honest = server.begin(1)
    cohort = ("a", "b", "c", "d", "mallory")
    numbers = honest.order.prekeys | {"mallory": honest.prekeys["d"].number}
    order = honest.order.model_copy(update={"cohort": cohort, "prekeys": numbers})
    lie = server.written(order, honest.prekeys | {"mallory": honest.prekeys["d"]})
    assert_refused(server, lie, "unknown-member")
    beyond = honest.prekeys | {"d": forged(honest.prekeys["d"], maker=4)}
    assert_refused(server, server.written(honest.order, beyond), "bad-size")
    server.train(honest)


def test_keys_of_another_charter_are_refused() -> None:
    federation = make_federation(4, mode="masked")
    server = ready(federation)
    honest = server.begin(1)
    high = make_prekey(
        replace(server.parties, charter_hash=bytes(32)),
        server.parties.index("b"),
        honest.prekeys["b"].start,
        honest.prekeys["b"].number + 1,
        federation.identities["b"],
        np.random.default_rng(4).bytes,
    ).prekey
    order = honest.order.model_copy(update={"prekeys": honest.order.prekeys | {"b": high.number}})
    assert_refused(server, server.written(order, honest.prekeys | {"b": high}), "unknown-member")


@pytest.mark.parametrize("whose", ["a", "b"])
@pytest.mark.parametrize("job", [JOB, OTHER_JOB])
def test_a_prekey_is_used_once_in_whatever_job(server: MaskedServer, whose: str, job: str) -> None:
    server.propose(job=OTHER_JOB)
    first = server.train(server.begin(1))
    lie = server.begin(2, {whose: first.prekeys[whose]}, job=job)
    refused = assert_refused(server, lie, "prekey-used")
    assert refused.facts == {"member": whose, "number": first.prekeys[whose].number}


@pytest.mark.parametrize("whose", ["a", "b"])
def test_a_used_prekey_comes_with_the_same_attempt_either(server: MaskedServer, whose: str) -> None:
    """In vain: an attempt has one request."""
    first = server.train(server.begin(1))
    lie = server.begin(1, {whose: first.prekeys[whose]})
    assert_refused(server, lie, "different-request-same-attempt")


@pytest.mark.parametrize("twin", [{"public": bytes(31) + b"\x01"}, {}])
def test_a_second_prekey_of_a_used_number_is_used_too(server: MaskedServer, twin: dict[str, object]) -> None:
    first = server.train(server.begin(1))
    again = signed_by(server, first.prekeys["b"], "b", "b")
    assert_refused(server, server.begin(2, {"b": forged(again, **twin)}), "prekey-used")


def test_a_prekey_must_be_the_one_the_order_names(server: MaskedServer) -> None:
    honest = server.begin(1)
    for name, number in (("a", 7), ("b", honest.order.prekeys["b"] + 1)):
        lie = server.again(honest, prekeys=honest.order.prekeys | {name: number})
        assert_refused(server, lie, "prekey-unknown")
    for numbers in ({"a": honest.order.prekeys["a"]}, honest.order.prekeys | {"mallory": 1}):
        assert_refused(server, server.again(honest, prekeys=numbers), "prekey-unknown")
    server.train(honest)


def test_a_masked_charter_is_never_run_in_the_clear(server: MaskedServer) -> None:
    agent, federation = server.agents["a"], server.federation
    honest = server.begin(1)
    unnamed = server.again(honest, prekeys={})
    assert_refused(server, unnamed, "mode-downgrade")
    bare = make_order(federation, prekeys=honest.order.prekeys)
    for order in (make_order(federation), bare):
        assert answer_of(agent, attempt_request(federation, order)).said == "mode-downgrade"
    assert agent.attempts.newest(JOB) is None
    server.train(honest)


def test_a_clear_charter_hides_nothing_and_says_so() -> None:
    masked = ready(make_federation(4, mode="masked"))
    clear = MaskedServer(make_federation(4))
    clear.propose()
    honest = masked.begin(1)
    for order in (honest.order, honest.order.model_copy(update={"prekeys": {}})):
        payload = clear.written(order, honest.prekeys).request
        assert clear.send("a", payload).said == "prekey-unknown"
    split = make_order(clear.federation, groups=(("a", "b"), ("c", "d")))
    assert answer_of(clear.agents["a"], attempt_request(clear.federation, split)).said == "cohort-too-small"
    assert clear.agents["a"].attempts.newest(JOB) is None


def test_prekeys_are_as_many_bytes_as_the_cohort_needs(server: MaskedServer) -> None:
    honest = server.begin(1)
    content = b"".join(it.encoded for it in honest.prekeys.values())
    one = len(content) // 4
    for size in (0, 1, one, 3 * one, len(content) - 1, len(content) + 1, 5 * one, 400 * one):
        cut = (content * (size // len(content) + 1))[:size]
        assert_refused(server, server.written(honest.order, honest.prekeys, cut), "bad-size")
    server.train(honest)


def test_prekeys_are_bytes(server: MaskedServer) -> None:
    honest = server.begin(1)
    content = b"".join(it.encoded for it in honest.prekeys.values())
    wide = {"weights": np.zeros(3), PREKEYS: np.frombuffer(content, "<u4")}
    arrays = {it.name: it.sha256 for it in describe(wide)}
    order = honest.order.model_copy(update={"arrays": arrays})
    assert server.send("a", request(server.federation, TrainRequest(order=order), wide)).said == "bad-size"
    assert server.agents["a"].attempts.newest(JOB) is None


def test_a_prekey_that_its_maker_made_badly_names_the_maker(server: MaskedServer) -> None:
    honest = server.begin(1)
    identity, theirs = server.federation.identities["b"], honest.prekeys["b"]
    first, rest = theirs.parcels[0], theirs.parcels[1:]
    broken = {
        "a parcel that does not open": (replace(first, sealed=bytes(len(first.sealed))), *rest),
        "a share that is not the promised one": (replace(first, seed_hash=bytes(32)), *rest),
        "a key share that is not the promised one": (replace(first, key_hash=bytes(32)), *rest),
        "parcels swapped": (rest[0], first, *rest[1:]),
    }
    lies = [replace(theirs, parcels=parcels) for parcels in broken.values()]
    # A public key of small order gives the same pair key with everybody.
    lies += [replace(theirs, public=bytes(32)), replace(theirs, ephemeral=bytes(32))]
    for lie in lies:
        statement = b"hansa/prekey/1\x00" + server.parties.charter_hash + lie.content
        signed = replace(lie, signature=identity.sign(statement))
        attempt = server.written(honest.order, honest.prekeys | {"b": signed})
        refused = assert_refused(server, attempt, "bad-share")
        assert refused.facts == {"maker": "b", "number": theirs.number}
    server.train(honest)


@pytest.mark.parametrize(
    ("groups", "code"),
    [
        ((tuple("abc"), tuple("def")), "unknown-member"),
        ((tuple("abc"), tuple("cdefg")), "unknown-member"),
        ((tuple("abc"), ("d", "e", "f", "g", "mallory")), "unknown-member"),
        ((tuple("abcdefg"), ()), "cohort-too-small"),
        ((tuple("ab"), tuple("cdefg")), "cohort-too-small"),
        ((tuple("abcde"), tuple("fg")), "cohort-too-small"),
        ((("a",), tuple("bcdefg")), "cohort-too-small"),
    ],
)
def test_groups_split_the_cohort_and_are_large_enough(groups: tuple[tuple[str, ...], ...], code: str) -> None:
    server = ready(make_federation(7, protection=Protection(mode="masked", audit_groups=3)))
    honest = server.begin(1, groups=(tuple("abc"), tuple("defg")))
    assert_refused(server, server.again(honest, groups=groups), code)
    server.train(honest)


def test_two_members_of_one_controller_are_one_in_a_group_too() -> None:
    federation = make_federation(
        9, controllers=list("xxyzuvwst"), protection=Protection(mode="masked", c=2, audit_groups=4)
    )
    server = ready(federation)
    assert_refused(server, server.begin(1, groups=(tuple("abcd"), tuple("efghi"))), "cohort-too-small")
    server.train(server.begin(2, groups=(tuple("acde"), tuple("bfghi"))))


def test_a_charter_without_groups_has_its_cohort_whole(server: MaskedServer) -> None:
    assert_refused(server, server.begin(1, groups=(("a", "b"), ("c", "d"))), "cohort-too-small")


def test_a_small_cohort_is_refused_before_a_prekey_is_used(server: MaskedServer) -> None:
    assert_refused(server, server.begin(1, cohort=("a", "b")), "cohort-too-small")


def test_arrays_are_checked_before_a_prekey_is_used(server: MaskedServer) -> None:
    honest = server.begin(1)
    content = np.frombuffer(b"".join(it.encoded for it in honest.prekeys.values()), np.uint8)
    for weights in (np.zeros(99), np.full(3, np.nan)):
        arrays = {"weights": weights, PREKEYS: content}
        order = honest.order.model_copy(update={"arrays": {it.name: it.sha256 for it in describe(arrays)}})
        payload = request(server.federation, TrainRequest(order=order), arrays)
        assert_refused(server, Attempt(order, honest.prekeys, payload), "bad-size")
    server.train(honest)


def test_attempts_rise_and_have_one_request(server: MaskedServer) -> None:
    first = server.train(server.begin(5))
    assert_refused(server, server.begin(4), "attempt-not-rising")
    fresh = server.begin(5)
    changes = ({"base": 1}, {"knobs": {"server_rate": 0.3, "client_rate": 1.0}}, {"evaluate": True})
    lies = [server.again(first, **fields) for fields in changes]
    lies += [server.again(first, cohort=("d", "c", "b", "a")), fresh]
    lies.append(server.written(first.order, first.prekeys | {"b": server.stock["b"][0]}))
    for lie in lies:
        assert_refused(server, lie, "different-request-same-attempt")
    assert server.send("a", first.request).raw == server.send("a", first.request).raw


def test_an_attempt_replaced_by_the_next_is_lost(server: MaskedServer) -> None:
    first = server.train(server.begin(1))
    server.train(server.begin(2))
    assert_refused(server, first, "attempt-lost")
