"""Attacks that were run against existing implementations, each played here step by step.

Flower 1.41 SecAgg+: mask seeds of which 28 bits vary, found by search in minutes; a member listed both as
active and as dropped gives up both secrets; public keys relayed by the server without a signature; no check
that members saw the same active set. NVFlare 2.7: one homomorphic secret key for all.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from room import JOB, START, Attempt, Room, dice, make_order, make_parties, names, receipt, sign_active

from hansa.contract.errors import RefusalError
from hansa.contract.keys import SigningKey
from hansa.secagg.masks import add_masks, pair_secret, pair_sign, self_secret
from hansa.secagg.prekeys import make_prekey

EVERYBODY = names(5)


def begun(cohort: tuple[str, ...] = EVERYBODY) -> Attempt:
    """Five members, c = 1, t = 4; everybody uploaded."""
    attempt = Room(make_parties(5)).begin(cohort=cohort)
    for index, name in enumerate(cohort):
        attempt.upload(name, {"update": np.full(64, index + 1, np.uint32)})
    return attempt


def test_mask_secrets_vary_in_all_their_bits() -> None:
    """28 bits are searched in minutes: over 600 real secrets every bit is 0 and 1 about equally often (6 sigma)."""
    parties = make_parties(3)
    made = [
        make_prekey(parties, index % 2, START, 1 + index, _signer(index % 2), dice(f"secret {index}"))
        for index in range(600)
    ]
    pairs = [
        pair_secret(one.private, one.prekey, two.prekey, job=JOB, attempt=1, circle=names(3), names=names(3))
        for one, two in zip(made[::2], made[1::2], strict=True)
    ]
    for secrets, width in (
        ([it.seed for it in made], 248),
        ([it.secret for it in pairs], 256),
        ([it.key("update", 2**32, "main") for it in pairs], 256),
    ):
        assert len(set(secrets)) == len(secrets)
        ones = np.unpackbits(
            np.frombuffer(b"".join(secrets), np.uint8).reshape(len(secrets), -1), axis=1
        ).sum(axis=0)
        assert len(ones) == width
        assert (abs(ones - len(secrets) / 2) < 6 * np.sqrt(len(secrets)) / 2).all()


def _signer(index: int) -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(dice(f"signer {index}")(32)))


def test_a_stream_of_numpys_generator_is_nowhere_in_a_mask() -> None:
    """The search against Flower tries seeds of `RandomState`; here it does not find a mask in its own range."""
    attempt = begun()
    masked = attempt.uploads["a"]["update"] - np.uint32(1)
    for seed in range(4096):
        assert (np.random.RandomState(seed).randint(0, 2**32, 4, dtype=np.uint32) != masked[:4]).any()


@pytest.mark.parametrize("victim", EVERYBODY)
def test_a_member_listed_as_active_and_as_dropped_keeps_both_secrets(victim: str) -> None:
    attempt = begun()
    papers = attempt.papers(EVERYBODY)
    for name in EVERYBODY:
        with pytest.raises(RefusalError) as caught:
            attempt.members[name].give(EVERYBODY, (victim,), **papers)  # type: ignore[arg-type]
        assert caught.value.code == "both-shares"
    # Nor one after the other: the first answer is the only one.
    others = tuple(name for name in EVERYBODY if name != victim)
    for name in others:
        assert attempt.give(name, EVERYBODY, papers)
        signatures = {it: sign_active(it, attempt.order, others) for it in others}
        with pytest.raises(RefusalError) as caught:
            attempt.members[name].give(others, (victim,), receipts=papers["receipts"], signatures=signatures)  # type: ignore[arg-type]
        assert caught.value.code == "second-active-set"


@pytest.mark.parametrize("signed_by", ["nobody", "the server", "another member"])
def test_a_public_key_that_the_server_put_in_the_middle_is_refused(signed_by: str) -> None:
    """The server swaps b's one-time key for its own, to derive every mask that the others share with b."""
    room = Room(make_parties(5))
    prekeys = room.fresh(EVERYBODY)
    mine = X25519PrivateKey.generate()
    forged = replace(prekeys[1], public=mine.public_key().public_bytes_raw())
    if signed_by == "the server":
        own = make_prekey(room.parties, 1, forged.start, forged.number, _signer(9), dice("server"))
        forged = own.prekey
    if signed_by == "another member":
        colluding = room.rings["e"]._signer
        forged = make_prekey(room.parties, 1, forged.start, forged.number, colluding, dice("server")).prekey
    given = [prekeys[0], forged, *prekeys[2:]]
    for name in "acde":
        with pytest.raises(RefusalError) as caught:
            room.rings[name].accept(make_order(EVERYBODY, given), given)
        assert caught.value.code == "unknown-member"
    with pytest.raises(RefusalError) as caught:
        room.rings["b"].accept(make_order(EVERYBODY, given), given)
    assert caught.value.code == "prekey-unknown"


def test_members_that_are_shown_different_active_sets_open_nothing() -> None:
    """Each of five is shown a set of four of its own: nobody gives, as no set has four signatures."""
    attempt = begun()
    shown = {name: sorted(set(EVERYBODY) - {EVERYBODY[index - 1]}) for index, name in enumerate(EVERYBODY)}
    receipts = {name: receipt(name, attempt.order) for name in EVERYBODY}
    for name, active in shown.items():
        attempt.members[name].bind(active)
    for name, active in shown.items():
        signatures = {
            it: sign_active(it, attempt.order, active) for it, other in shown.items() if other == active
        }
        dropped = [it for it in EVERYBODY if it not in active]
        with pytest.raises(RefusalError) as caught:
            attempt.members[name].give(active, dropped, receipts=receipts, signatures=signatures)
        assert caught.value.code == "active-set-not-agreed"
        # A signature of one set does not pass for another.
        with pytest.raises(RefusalError) as caught:
            attempt.members[name].bind(EVERYBODY)
        assert caught.value.code == "second-active-set"


def test_one_members_secrets_open_its_own_pairs_and_nobody_elses_update() -> None:
    """With one key for all, a single colluding member reads everybody. Here e takes one of five masks off."""
    attempt = begun()
    room = attempt.room
    fresh = room.fresh(EVERYBODY)
    secrets = {name: room.rings[name]._own[it.number] for name, it in zip(EVERYBODY, fresh, strict=True)}
    order = make_order(EVERYBODY, fresh, 2)
    member = room.rings["a"].accept(order, fresh)
    values = np.full(64, 7, np.uint32)
    upload = values.copy()
    member.mask({"update": upload})
    # From e's masks to everybody's: while one honest member's is on it, nothing of the update shows.
    for name in "edcb":
        assert (upload == values).sum() <= 1
        known = pair_secret(
            secrets[name].private,
            secrets[name].prekey,
            fresh[0],
            job=JOB,
            attempt=2,
            circle=EVERYBODY,
            names=EVERYBODY,
        )
        add_masks(upload, [(known, -pair_sign("a", name))], "update")
    assert (upload == values).sum() <= 1
    add_masks(upload, [(self_secret(secrets["a"].seed, fresh[0]), -1)], "update")
    np.testing.assert_array_equal(upload, values)


def test_the_same_update_sent_again_to_a_smaller_set_is_not_possible() -> None:
    """The difference of two sums is one update: an attempt's masks are made once, and its prekeys are used up."""
    attempt = begun()
    for name in EVERYBODY:
        with pytest.raises(RefusalError, match="is uploaded at this member"):
            attempt.upload(name, {"update": np.ones(64, np.uint32)})
    smaller = EVERYBODY[:4]
    prekeys = [attempt.prekeys[name] for name in smaller]
    for name in smaller:
        with pytest.raises(RefusalError) as caught:
            attempt.room.rings[name].accept(make_order(smaller, prekeys, 2), prekeys)
        assert caught.value.code == "prekey-used"
