"""Masks: published vectors hold for the ciphers in use, both sides derive the same words, and sums cancel."""

from __future__ import annotations

import hmac
import json
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st
from room import JOB, START, Words, dice, identity, make_parties, names

from hansa.secagg import masks
from hansa.secagg.fixed_point import MODULUS
from hansa.secagg.masks import HE_PRIME, MaskSecret, add_masks, new_room, pair_secret, pair_sign, self_secret
from hansa.secagg.prekeys import PrekeySecrets, make_prekey

# Every second word is rejected modulo this: what is rare modulo HE_PRIME happens in each chunk.
HALF = 2**31 + 11
MODULI = [MODULUS, HE_PRIME, HALF]
CHUNK = 32_768


def made(members: int) -> list[PrekeySecrets]:
    """One prekey of each of so many members."""
    parties = make_parties(members)
    return [
        make_prekey(parties, index, START, 5, identity(name), dice(f"masks {name} {members}"))
        for index, name in enumerate(parties.names)
    ]


MADE = made(4)


def pair(me: int, peer: int, prekeys: list[PrekeySecrets] = MADE, **other: object) -> MaskSecret:
    arguments: dict[str, object] = {
        "job": JOB,
        "attempt": 1,
        "circle": names(len(prekeys)),
        "names": names(len(prekeys)),
    }
    return pair_secret(
        prekeys[me].private,
        prekeys[me].prekey,
        prekeys[peer].prekey,
        **{**arguments, **other},  # type: ignore[arg-type]
    )


def stream(secret: MaskSecret, modulus: int, counts: list[int], segment: str = "update") -> Words:
    """So many words of a mask, taken in such portions."""
    words, room = secret.words(segment, modulus), new_room()
    return np.concatenate([words.next(count, room).copy() for count in counts])


def portions(total: int) -> list[int]:
    return [CHUNK] * (total // CHUNK) + ([total % CHUNK] if total % CHUNK else [])


@pytest.mark.parametrize(
    ("salt", "info", "expected"),
    [
        (
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (None, b"", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
    ],
)
def test_key_derivation_is_that_of_rfc_5869(salt: bytes | None, info: bytes, expected: str) -> None:
    """Appendix A.1 and A.3 (no salt, as masks use it)."""
    derived = masks.HKDF(masks.SHA256(), 42, salt=salt, info=info).derive(b"\x0b" * 22)
    assert derived.hex() == expected


def test_a_masks_key_is_hkdf_over_everything_that_it_belongs_to() -> None:
    """Against RFC 5869 written out with HMAC."""
    secret = pair(0, 1)
    low, high = secret.prekeys
    said = json.dumps([1, low.hex(), high.hex(), "update", MODULUS, "main"], separators=(",", ":"))
    extracted = hmac.digest(bytes(32), secret.secret, "sha256")
    expected = hmac.digest(extracted, b"hansa/mask/1\x00" + said.encode() + b"\x01", "sha256")
    assert secret.key("update", MODULUS, "main") == expected


def test_the_keystream_is_that_of_nist_sp_800_38a() -> None:
    """F.5.5, CTR-AES256.Encrypt."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    plain = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    expected = (
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )
    cipher = masks.Cipher(masks.AES256(key), masks.CTR(bytes(range(0xF0, 0x100)))).encryptor()
    assert cipher.update(plain).hex() == expected


def test_words_are_aes_of_a_counter_from_zero_in_little_endian() -> None:
    """Against single blocks of AES-256, across two chunks."""
    secret = self_secret(b"s" * 31, MADE[0].prekey)
    blocks = b"".join(index.to_bytes(16, "big") for index in range(2 * CHUNK // 4))
    key = secret.key("update", MODULUS, "main")
    expected = masks.Cipher(masks.AES256(key), ECB()).encryptor().update(blocks)
    np.testing.assert_array_equal(stream(secret, MODULUS, [CHUNK, CHUNK]), np.frombuffer(expected, "<u4"))


def by_the_rule(secret: MaskSecret, modulus: int, count: int) -> Words:
    """Rejection as PROTOCOL section 3 says it, word by word, from whole streams."""

    def raw(purpose: str) -> Words:
        cipher = masks.Cipher(masks.AES256(secret.key("update", modulus, purpose)), masks.CTR(bytes(16)))
        return np.frombuffer(cipher.encryptor().update(bytes(8 * count + 64)), "<u4")

    refill = iter(int(word) for word in raw("refill") if word < modulus)
    main = (int(word) for word in raw("main")[:count])
    return np.array([word if word < modulus else next(refill) for word in main], dtype=np.uint32)


@given(st.sampled_from(MODULI), st.lists(st.integers(1, 700), min_size=1, max_size=6), st.integers())
def test_rejected_words_are_replaced_from_the_refill_stream_however_words_are_taken(
    modulus: int, counts: list[int], seed: int
) -> None:
    secret = MaskSecret(dice(str(seed))(31), (b"a" * 32, b"b" * 32))
    words = stream(secret, modulus, counts)
    assert int(words.max()) < modulus
    np.testing.assert_array_equal(words, by_the_rule(secret, modulus, sum(counts)))


@pytest.mark.parametrize("modulus", MODULI)
def test_refill_is_alike_on_both_sides_across_chunks(modulus: int) -> None:
    total = 3 * CHUNK + 17
    mine, theirs = stream(pair(0, 1), modulus, portions(total)), stream(pair(1, 0), modulus, portions(total))
    np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(mine, by_the_rule(pair(0, 1), modulus, total))


@pytest.mark.parametrize(("me", "peer"), [(0, 1), (1, 3), (2, 0)])
def test_both_members_of_a_pair_have_the_same_secret_and_opposite_signs(me: int, peer: int) -> None:
    assert pair(me, peer) == pair(peer, me)
    assert pair_sign(names(4)[me], names(4)[peer]) == -pair_sign(names(4)[peer], names(4)[me])


def test_the_lower_name_adds_and_the_higher_subtracts() -> None:
    assert pair_sign("a", "b") == 1
    assert pair_sign("b", "a") == -1
    words = stream(pair(0, 1), MODULUS, [8])
    low, high = np.zeros(8, np.uint32), np.zeros(8, np.uint32)
    add_masks(low, [(pair(0, 1), pair_sign("a", "b"))], "update")
    add_masks(high, [(pair(1, 0), pair_sign("b", "a"))], "update")
    np.testing.assert_array_equal(low, words)
    np.testing.assert_array_equal(high, (2**32 - words.astype(np.uint64)).astype(np.uint32))


@given(st.sampled_from(MODULI), st.sampled_from([0, 1, 5, 300]), st.integers(2, 6), st.integers(0, 2**32))
def test_masks_of_all_pairs_cancel_in_the_sum(modulus: int, size: int, members: int, seed: int) -> None:
    check_cancelling(modulus, size, members, seed)


@pytest.mark.parametrize("modulus", MODULI)
@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_masks_cancel_at_the_edges_of_chunks(modulus: int, size: int) -> None:
    check_cancelling(modulus, size, 3, 1)


def check_cancelling(modulus: int, size: int, members: int, seed: int) -> None:
    prekeys, called = made(members), names(members)
    values = np.random.default_rng(seed).integers(0, modulus, size=(members, size), dtype=np.uint64)
    values[:, : size // 3] = modulus - 1  # the largest word there is
    total = np.zeros(size, dtype=np.uint64)
    for me in range(members):
        masked = values[me].astype(np.uint32)
        before = masked.copy()
        pairs = [
            (pair(me, peer, prekeys), pair_sign(called[me], called[peer]))
            for peer in range(members)
            if peer != me
        ]
        own = self_secret(prekeys[me].seed, prekeys[me].prekey)
        add_masks(masked, [(own, 1), *pairs], "update", modulus)
        assert size < 8 or (masked != before).mean() > 0.5
        assert size == 0 or int(masked.max()) < modulus
        add_masks(masked, [(own, -1)], "update", modulus)
        total += masked
    np.testing.assert_array_equal(total % modulus, values.sum(axis=0) % modulus)


def test_a_key_belongs_to_one_segment_modulus_stream_protocol_pair_attempt_job_and_circle() -> None:
    secrets = {
        "as it is": pair(0, 1),
        "other peer": pair(0, 2),
        "other attempt": pair(0, 1, attempt=2),
        "other job": pair(0, 1, job="cd" * 16),
        "other circle": pair(0, 1, circle=names(3)),
        "other name": pair(0, 1, names=("a", "bb", "c", "d")),
        "self": self_secret(MADE[0].seed, MADE[0].prekey),
        "self of another": self_secret(MADE[0].seed, MADE[1].prekey),
        "other prekey": replace(pair(0, 1), prekeys=(pair(0, 1).prekeys[1], pair(0, 1).prekeys[0])),
    }
    keys = {
        (label, segment, modulus, purpose, protocol): secret.key(segment, modulus, purpose, protocol)
        for label, secret in secrets.items()
        for segment in ("update", "evaluation", "update-4294967296", "")
        for modulus in (MODULUS, HE_PRIME)
        for purpose in ("main", "refill")
        for protocol in (1, 2)
    }
    assert len(set(keys.values())) == len(keys) == 9 * 4 * 2 * 2 * 2
    assert pair(0, 1, circle=tuple(reversed(names(4)))) == pair(0, 1)


@pytest.mark.parametrize("point", [0, 1, 2**255 - 19, 2**255 - 18, 2**255 - 20])
def test_a_public_key_that_gives_everybody_the_same_secret_is_refused(point: int) -> None:
    bad = replace(MADE[1].prekey, public=point.to_bytes(32, "little"))
    with pytest.raises(ValueError, match=r"."):
        pair_secret(MADE[0].private, MADE[0].prekey, bad, job=JOB, attempt=1, circle=names(4), names=names(4))


@pytest.mark.parametrize("modulus", [0, 2**31, 2**32 + 1, 97])
def test_moduli_that_rejection_is_not_made_for_are_refused(modulus: int) -> None:
    with pytest.raises(ValueError, match="modulo"):
        pair(0, 1).words("update", modulus)


def test_more_than_a_chunk_at_once_is_refused_and_not_filled_with_what_lay_there() -> None:
    with pytest.raises(ValueError, match="a chunk"):
        pair(0, 1).words("update", MODULUS).next(CHUNK + 1, new_room(CHUNK + 1))


def test_a_mask_does_not_stand_in_what_is_printed() -> None:
    assert repr(pair(0, 1).secret) not in repr(pair(0, 1))


def test_the_prime_is_what_the_protocol_says() -> None:
    assert 2**32 - HE_PRIME == 139_263
    assert all(HE_PRIME % divisor for divisor in range(2, 65_536))
