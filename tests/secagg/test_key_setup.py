"""Keys of a job: every member opens the maker's, tampering shows, and nothing is used that t have not signed alike."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from envelopes import uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from room import JOB, dice, identity, make_parties, sealing

from hansa.contract.keys import to_text
from hansa.secagg import key_setup
from hansa.secagg.ciphertexts import KEY_BYTES
from hansa.secagg.group_key import GROUP_KEY_BYTES, GroupKey
from hansa.secagg.key_setup import (
    BadBundle,
    JobKeys,
    KeyPlace,
    bundle_bytes,
    keys_agreed,
    keys_signers,
    open_bundle,
    seal_bundle,
)
from hansa.secagg.masks import HE_PRIME, Masked

PARTIES = make_parties(4)
PLACE = KeyPlace(JOB, 1, "b", PARTIES)


@cache
def made(label: str = "keys") -> JobKeys:
    return JobKeys.make(JOB, dice(label))


@cache
def bundle(maker: str = "b") -> bytes:
    return seal_bundle(made(), replace(PLACE, maker=maker), identity(maker), dice("bundle"))


def opened(content: bytes, me: str = "a", place: KeyPlace = PLACE) -> JobKeys:
    return open_bundle(content, place, me, sealing(me), dice("try"))


def signed(keys: JobKeys, place: KeyPlace, names: str) -> dict[str, str]:
    return {name: to_text(identity(name).sign(keys.statement(place))) for name in names}


def test_every_member_opens_the_same_keys() -> None:
    assert len(bundle()) == bundle_bytes(PARTIES)
    words = uniform(3, 0)
    upload = made().envelope.encrypt(Masked(words, HE_PRIME))
    for name in PARTIES.names:
        keys = opened(bundle(), name)
        assert keys.content == made().content
        assert keys.digest(PLACE) == made().digest(PLACE)
        assert keys.group.job == JOB
        np.testing.assert_array_equal(keys.envelope.decrypt(upload, 3), words)


def test_a_bundle_is_one_key_and_48_bytes_for_each_member() -> None:
    assert bundle_bytes(make_parties(10)) - bundle_bytes(make_parties(9)) == 48
    assert bundle_bytes(make_parties(10)) < 60_000


def test_a_stranger_and_another_member_do_not_open_what_is_not_theirs() -> None:
    for name in ("a", "c"):
        with pytest.raises(BadBundle, match="does not open"):
            open_bundle(bundle(), PLACE, "d", sealing(name), dice("try"))


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (replace(PLACE, maker="a"), "not that of 'a'"),
        (replace(PLACE, maker="stranger"), "not that of 'stranger'"),
        (replace(PLACE, epoch=2), "in epoch 2"),
        (replace(PLACE, job="cd" * 16), "not signed by 'b'"),
        (replace(PLACE, parties=make_parties(4, charter_hash="d" * 64)), "not signed by 'b'"),
        (replace(PLACE, parties=make_parties(5)), "bytes"),
    ],
)
def test_a_bundle_of_another_maker_epoch_job_or_charter_is_refused(place: KeyPlace, sentence: str) -> None:
    with pytest.raises(BadBundle, match=sentence):
        opened(bundle(), place=place)


def test_a_bundle_made_in_the_makers_name_is_refused() -> None:
    """The server knows every sealing key; it cannot sign."""
    forged = seal_bundle(JobKeys.make(JOB, dice("server")), PLACE, identity("server"), dice("forged"))
    with pytest.raises(BadBundle, match="not signed by 'b'"):
        opened(forged, me="b")


@settings(deadline=None, max_examples=80)
@given(st.integers(0, bundle_bytes(PARTIES) - 1), st.integers(1, 255))
def test_a_bundle_with_a_changed_byte_is_refused(place: int, flip: int) -> None:
    content = bytearray(bundle())
    content[place] ^= flip
    with pytest.raises(BadBundle):
        opened(bytes(content))


@given(
    st.one_of(
        st.binary(max_size=300), st.integers(0, bundle_bytes(PARTIES) - 1).map(lambda end: bundle()[:end])
    )
)
def test_other_bytes_are_no_bundle(content: bytes) -> None:
    with pytest.raises(BadBundle, match="bytes"):
        opened(content)


def resigned(content: bytearray) -> bytes:
    """What a maker that cheats sends: signed."""
    statement = key_setup._BUNDLE_DOMAIN + PLACE.encoded + bytes(content[:-64])
    return bytes(content[:-64]) + identity("b").sign(statement)


def test_a_maker_that_signs_a_damaged_bundle_leaves_nobody_with_keys() -> None:
    for place in (6, 38, 38 + 48 * 4, bundle_bytes(PARTIES) - 65):
        content = bytearray(bundle())
        content[place] ^= 1
        with pytest.raises(BadBundle, match="does not open"):
            opened(resigned(content))
    content = bytearray(bundle())
    content[6:38] = bytes(32)  # a public key that gives everybody the same secret
    with pytest.raises(BadBundle, match="does not open"):
        opened(resigned(content))


def test_contents_that_are_no_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (
        b"\xff" * (GROUP_KEY_BYTES + KEY_BYTES),
        bytes(range(32)) + made().envelope.key[:-1] + b"\xff",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(JobKeys, "content", wrong)
            content = seal_bundle(made(), PLACE, identity("b"), dice("wrong"))
        with pytest.raises(BadBundle, match="does not hold the keys"):
            opened(content)


@pytest.mark.parametrize(
    "length", [0, GROUP_KEY_BYTES, GROUP_KEY_BYTES + KEY_BYTES - 1, GROUP_KEY_BYTES + KEY_BYTES + 1]
)
def test_keys_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="keys of"):
        JobKeys.load(JOB, bytes(length))


def test_the_signed_hash_is_of_keys_job_epoch_maker_and_charter() -> None:
    digest = made().digest(PLACE)
    others = [
        made("others").digest(PLACE),
        JobKeys(made().envelope, GroupKey(JOB, bytes(32))).digest(PLACE),
        made().digest(replace(PLACE, job="cd" * 16)),
        made().digest(replace(PLACE, epoch=2)),
        made().digest(replace(PLACE, maker="a")),
        made().digest(replace(PLACE, parties=make_parties(4, charter_hash="d" * 64))),
    ]
    assert len({digest, *others}) == 1 + len(others)


def test_keys_are_agreed_on_when_t_have_signed_them_and_the_maker_among_them() -> None:
    assert PARTIES.threshold == 3
    for names in ("abc", "abcd", "bcd"):
        assert keys_agreed(made(), PLACE, signed(made(), PLACE, names))
    for names in ("", "b", "ab", "acd"):
        assert not keys_agreed(made(), PLACE, signed(made(), PLACE, names))


def test_signatures_on_other_keys_of_strangers_and_malformed_ones_do_not_count() -> None:
    mine = signed(made(), PLACE, "ab")
    other = signed(made("others"), PLACE, "cd")
    for more in (
        other,
        {"stranger": to_text(identity("stranger").sign(made().statement(PLACE)))},
        {"c": mine["a"], "d": "no base64"},
        {"c": ""},
        signed(made(), replace(PLACE, epoch=2), "cd"),
        signed(made(), replace(PLACE, maker="a"), "cd"),
        signed(made(), replace(PLACE, job="cd" * 16), "cd"),
    ):
        assert keys_signers(made(), PLACE, {**mine, **more}) == {"a", "b"}
        assert not keys_agreed(made(), PLACE, {**mine, **more})


def test_two_keys_of_one_maker_cannot_both_be_agreed_on() -> None:
    """With t of n above half, each member signing one: the maker alone signs both."""
    one, other = made(), made("others")
    for split in range(4):
        names = "acd"
        first = signed(one, PLACE, "b" + names[:split])
        second = signed(other, PLACE, "b" + names[split:])
        assert not (keys_agreed(one, PLACE, first) and keys_agreed(other, PLACE, second))


def test_no_key_shows_in_what_is_printed() -> None:
    assert made().group.secret.hex() not in repr(made())
    assert "Envelope" not in repr(made())
