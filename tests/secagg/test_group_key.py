"""What comes from the group key: tags that say equal states, seals that only members open, keys that never meet."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from room import JOB, dice

from hansa.secagg.group_key import SEAL_BYTES, BadSeal, GroupKey

GROUP = GroupKey(JOB, dice("group")(32))
STATE = {"weights": np.arange(6, dtype=np.float64), "moment": np.zeros((2, 3), dtype=np.float32)}


def hkdf(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 written out, one block, no salt."""
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def test_the_tag_is_an_hmac_under_a_key_of_its_own_over_names_types_shapes_and_bits() -> None:
    key = hkdf(GROUP.secret, b'hansa/state-tag/1\x00[1,"' + JOB.encode() + b'"]')
    head = b'[4,[["moment","<f4",[2,3]],["weights","<f8",[6]]]]'
    said = len(head).to_bytes(8, "big") + head + STATE["moment"].tobytes() + STATE["weights"].tobytes()
    assert GROUP.state_tag(4, STATE) == hmac.digest(key, said, "sha256")


def test_equal_states_have_equal_tags_and_others_do_not() -> None:
    tag = GROUP.state_tag(4, STATE)
    assert GROUP.state_tag(4, dict(reversed(STATE.items()))) == tag
    assert GROUP.state_tag(4, {**STATE, "weights": np.arange(12.0)[::2] / 2}) == tag
    negative_zero = STATE["weights"].copy()
    negative_zero[0] = -0.0
    for other in (
        GROUP.state_tag(5, STATE),
        GROUP.state_tag(4, {**STATE, "weights": negative_zero}),
        GROUP.state_tag(4, {**STATE, "weights": STATE["weights"].astype(np.float32)}),
        GROUP.state_tag(4, {**STATE, "moment": STATE["moment"].reshape(3, 2)}),
        GROUP.state_tag(4, {**STATE, "more": np.empty(0)}),
        GROUP.state_tag(4, {"weights": STATE["weights"], "momens": STATE["moment"]}),
        GroupKey("cd" * 16, GROUP.secret).state_tag(4, STATE),
        GroupKey(JOB, dice("other")(32)).state_tag(4, STATE),
        hashlib.sha256(STATE["weights"].tobytes()).digest(),
    ):
        assert other != tag


@given(st.binary(max_size=300))
def test_a_sealed_state_opens_to_what_was_sealed(content: bytes) -> None:
    sealed = GROUP.seal_state("state", 4, 9, content, dice("nonce"))
    assert len(sealed) == len(content) + SEAL_BYTES
    assert GROUP.open_state("state", 4, 9, sealed) == content


def test_a_seal_holds_name_round_attempt_job_and_key() -> None:
    sealed = GROUP.seal_state("state", 4, 9, b"weights", dice("nonce"))
    for group, place in (
        (GROUP, ("other", 4, 9)),
        (GROUP, ("state", 5, 9)),
        (GROUP, ("state", 4, 8)),
        (GroupKey("cd" * 16, GROUP.secret), ("state", 4, 9)),
        (GroupKey(JOB, dice("other")(32)), ("state", 4, 9)),
    ):
        with pytest.raises(BadSeal, match="not the state"):
            group.open_state(*place, sealed)


@given(st.data())
def test_a_changed_seal_does_not_open(data: st.DataObject) -> None:
    sealed = bytearray(GROUP.seal_state("state", 4, 9, b"weights", dice("nonce")))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadSeal):
        GROUP.open_state("state", 4, 9, bytes(sealed))


@given(st.binary(max_size=100))
def test_other_bytes_are_no_sealed_state(sealed: bytes) -> None:
    with pytest.raises(BadSeal):
        GROUP.open_state("state", 4, 9, sealed)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_group_key_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="group key"):
        GroupKey(JOB, bytes(length))


def test_the_key_does_not_show_in_what_is_printed() -> None:
    assert GROUP.secret.hex() not in repr(GROUP)
    assert repr(GROUP.secret) not in repr(GROUP)
