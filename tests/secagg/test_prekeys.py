"""Prekeys: what is made opens, and nobody but the maker can change any of it unnoticed."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from room import START, dice, identity, make_parties, sealing

from hansa.contract.keys import verify
from hansa.secagg.prekeys import (
    OPENING_BYTES,
    SEED_BYTES,
    BadParcel,
    Kind,
    Prekey,
    PrekeySecrets,
    check_opening,
    check_prekey,
    decode_prekeys,
    key_of,
    make_prekey,
    open_parcel,
    prekey_bytes,
    seed_of,
    share_of,
)
from hansa.secagg.shamir import PRIME, combine, weights_at_zero

PARTIES = make_parties(5)
KINDS: tuple[Kind, Kind] = ("key", "seed")


@cache
def made(maker: int = 1, number: int = 7) -> PrekeySecrets:
    name = PARTIES.names[maker]
    return make_prekey(PARTIES, maker, START, number, identity(name), dice(f"prekey {maker} {number}"))


def openings(secrets: PrekeySecrets, kind: Kind) -> dict[int, bytes]:
    """What every member holds of a prekey."""
    return {
        index: open_parcel(PARTIES, secrets.prekey, index, sealing(name)).opening(kind)
        for index, name in enumerate(PARTIES.names)
    }


def opened(given: dict[int, bytes]) -> int:
    return combine([share_of(it) for it in given.values()], weights_at_zero([index + 1 for index in given]))


@given(st.integers(2, 8), st.integers(0, 2**64 - 1), st.integers())
def test_what_is_made_decodes_to_itself(members: int, number: int, seed: int) -> None:
    parties = make_parties(members)
    prekey = make_prekey(
        parties, members - 1, START, number, identity(parties.names[-1]), dice(str(seed))
    ).prekey
    assert len(prekey.encoded) == prekey_bytes(parties)
    assert decode_prekeys(prekey.encoded * 2, parties, 2) == [prekey, prekey]
    assert decode_prekeys(memoryview(prekey.encoded), parties, 4) == [prekey]
    assert check_prekey(parties, prekey)


@given(st.permutations(range(5)), st.integers(0, 20))
def test_any_t_members_open_the_key_and_the_seed(order: list[int], number: int) -> None:
    secrets = made(number=number)
    chosen = order[: PARTIES.threshold]
    key = opened({index: openings(secrets, "key")[index] for index in chosen})
    seed = opened({index: openings(secrets, "seed")[index] for index in chosen})
    private = key_of(key, secrets.prekey)
    assert private is not None
    assert private.private_bytes_raw() == secrets.private.private_bytes_raw()
    assert seed_of(seed, secrets.prekey) == secrets.seed
    assert key_of((key + 8) % PRIME, secrets.prekey) is None
    assert seed_of((seed + 1) % PRIME, secrets.prekey) is None
    assert seed_of(seed + 2**248, secrets.prekey) is None
    fewer = {index: openings(secrets, "seed")[index] for index in chosen[1:]}
    assert seed_of(opened(fewer), secrets.prekey) is None


@given(st.integers())
def test_seeds_are_below_2_to_248_and_keys_are_clamped_elements_of_the_field(seed: int) -> None:
    secrets = make_prekey(PARTIES, 0, START, 1, identity("a"), dice(str(seed)))
    assert len(secrets.seed) == SEED_BYTES == 31
    raw = secrets.private.private_bytes_raw()
    assert raw[0] & 7 == 0
    assert raw[31] & 192 == 64
    assert int.from_bytes(raw, "little") < PRIME


def test_the_two_clamped_scalars_above_the_prime_are_drawn_again() -> None:
    first = iter([b"\xff" * 32, b"\xf0" + b"\xff" * 31, b"\xe8" + b"\xff" * 31])
    secrets = make_prekey(
        PARTIES, 0, START, 1, identity("a"), lambda count: next(first, None) or os.urandom(count)
    )
    assert int.from_bytes(secrets.private.private_bytes_raw(), "little") == 2**255 - 24
    private = key_of(opened(dict(list(openings(secrets, "key").items())[1:])), secrets.prekey)
    assert private is not None


@given(st.data())
def test_a_changed_byte_anywhere_is_noticed(data: st.DataObject) -> None:
    encoded = bytearray(made().prekey.encoded)
    encoded[data.draw(st.integers(2, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    [changed] = decode_prekeys(bytes(encoded), PARTIES, 1)
    assert not check_prekey(PARTIES, changed)
    assert changed.id != made().prekey.id


@pytest.mark.parametrize("maker", [0, 2, 3, 4])
def test_a_prekey_under_another_members_name_is_noticed(maker: int) -> None:
    assert not check_prekey(PARTIES, replace(made().prekey, maker=maker))


def test_a_prekey_of_another_charter_is_noticed() -> None:
    other = make_parties(5, charter_hash="d" * 64)
    assert not check_prekey(other, made().prekey)
    with pytest.raises(BadParcel, match="does not open"):
        open_parcel(other, made().prekey, 0, sealing("a"))


def test_the_signature_covers_everything_before_it() -> None:
    prekey = made().prekey
    assert prekey.encoded == prekey.content + prekey.signature
    statement = b"hansa/prekey/1\x00" + PARTIES.charter_hash + prekey.content
    assert verify(identity("b").public, prekey.signature, statement)


def with_parcels(prekey: Prekey, order: list[int]) -> Prekey:
    return replace(prekey, parcels=tuple(prekey.parcels[index] for index in order))


@given(st.permutations(range(5)).filter(lambda order: order != sorted(order)))
def test_parcels_swapped_between_recipients_do_not_open_even_if_the_maker_signs_that(
    order: list[int],
) -> None:
    swapped = with_parcels(made().prekey, order)
    assert not check_prekey(PARTIES, swapped)
    for index, name in enumerate(PARTIES.names):
        if order[index] != index:
            with pytest.raises(BadParcel):
                open_parcel(PARTIES, swapped, index, sealing(name))


@given(st.integers(0, 4))
def test_a_parcel_taken_into_another_prekey_does_not_open(index: int) -> None:
    """A member that copies another's parcels, or its own of another number, cannot make anybody give those shares."""
    for other in (made(maker=2), made(number=8)):
        parcels = list(other.prekey.parcels)
        parcels[index] = made().prekey.parcels[index]
        for ephemeral in (other.prekey.ephemeral, made().prekey.ephemeral):
            forged = replace(other.prekey, parcels=tuple(parcels), ephemeral=ephemeral)
            with pytest.raises(BadParcel):
                open_parcel(PARTIES, forged, index, sealing(PARTIES.names[index]))


@given(st.integers(0, 4), st.integers(0, 4))
def test_a_parcel_opens_for_its_recipient_alone(index: int, other: int) -> None:
    if index != other:
        with pytest.raises(BadParcel, match="does not open"):
            open_parcel(PARTIES, made().prekey, index, sealing(PARTIES.names[other]))
    with pytest.raises(BadParcel, match="does not open"):
        open_parcel(PARTIES, made().prekey, index, X25519PrivateKey.generate())


@pytest.mark.parametrize("point", [0, 1, 2**255 - 19, 2**255 - 18, 2**255 - 20])
def test_an_ephemeral_key_of_small_order_is_a_bad_parcel_and_no_crash(point: int) -> None:
    forged = replace(made().prekey, ephemeral=point.to_bytes(32, "little"))
    with pytest.raises(BadParcel):
        open_parcel(PARTIES, forged, 0, sealing("a"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_that_does_not_match_its_hash_is_a_bad_parcel(kind: Kind) -> None:
    first, *rest = made().prekey.parcels
    wrong = replace(first, **{f"{kind}_hash": bytes(32)})
    with pytest.raises(BadParcel, match=f"share of the {kind}"):
        open_parcel(PARTIES, replace(made().prekey, parcels=(wrong, *rest)), 0, sealing("a"))


@given(st.sampled_from(KINDS), st.integers(0, 4), st.data())
def test_an_opening_is_checked_for_giver_kind_prekey_and_every_byte(
    kind: Kind, giver: int, data: st.DataObject
) -> None:
    opening = openings(made(), kind)[giver]
    assert len(opening) == OPENING_BYTES
    assert check_opening(PARTIES, made().prekey, giver, kind, opening)
    assert not check_opening(PARTIES, made().prekey, giver, "seed" if kind == "key" else "key", opening)
    assert not check_opening(PARTIES, made().prekey, (giver + 1) % 5, kind, opening)
    assert not check_opening(PARTIES, made(number=8).prekey, giver, kind, opening)
    changed = bytearray(opening)
    changed[data.draw(st.integers(0, OPENING_BYTES - 1))] ^= data.draw(st.integers(1, 255))
    assert not check_opening(PARTIES, made().prekey, giver, kind, bytes(changed))


@given(st.binary(max_size=200))
def test_an_opening_of_any_other_bytes_is_no_opening(opening: bytes) -> None:
    for kind in KINDS:
        assert not check_opening(PARTIES, made().prekey, 0, kind, opening)


@pytest.mark.parametrize("secret", [0, 1, PRIME - 1, 2**248 - 1, 2**248, 2**254])
def test_secrets_at_the_edges_are_nobodys_and_no_crash(secret: int) -> None:
    assert key_of(secret, made().prekey) is None
    assert seed_of(secret, made().prekey) is None


def test_the_two_openings_of_one_member_share_neither_salt_nor_share() -> None:
    """Giving the one must say nothing of the other."""
    held = open_parcel(PARTIES, made().prekey, 0, sealing("a"))
    assert held.key[:16] != held.seed[:16]
    assert held.key[16:] != held.seed[16:]


def test_secrets_do_not_stand_in_what_is_printed() -> None:
    secrets = made()
    held = open_parcel(PARTIES, secrets.prekey, 0, sealing("a"))
    shown = repr(secrets) + repr(held)
    for secret in (secrets.seed, secrets.private.private_bytes_raw(), held.key, held.seed):
        assert repr(secret) not in shown
        assert secret.hex() not in shown
