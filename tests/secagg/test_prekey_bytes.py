"""Bytes in the place of prekeys, whatever they are, cost no more than their size and are a `MessageError` at most."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from room import START, dice, identity, make_parties

from hansa.contract.errors import MessageError
from hansa.secagg.prekeys import check_prekey, decode_prekeys, make_prekey, prekey_bytes

PARTIES = make_parties(3)
SIZE = prekey_bytes(PARTIES)
HONEST = make_prekey(PARTIES, 2, START, 9, identity("c"), dice("honest")).prekey.encoded
MOST = 4

mutated = st.builds(
    lambda copies, cuts, extra: (HONEST * copies)[cuts:] + extra,
    st.integers(0, MOST + 1),
    st.integers(0, SIZE),
    st.binary(max_size=SIZE),
)
overwritten = st.builds(
    lambda place, patch: HONEST[:place] + patch + HONEST[place + len(patch) :],
    st.integers(0, SIZE - 1),
    st.binary(min_size=1, max_size=40),
)
whole = st.integers(0, MOST + 1).flatmap(
    lambda count: st.binary(min_size=SIZE * count, max_size=SIZE * count)
)


def allocated(content: bytes) -> int:
    """Decode, whatever comes of it; the most bytes that Python held meanwhile."""
    tracemalloc.start()
    try:
        for prekey in decode_prekeys(content, PARTIES, MOST):
            check_prekey(PARTIES, prekey)
    except MessageError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


@given(st.one_of(st.binary(max_size=3 * SIZE), mutated, overwritten, whole))
@example(b"")
@example(b"\xff" * SIZE)
@example(b"\x00\x02" + b"\xff" * (SIZE - 2))
def test_any_bytes_are_prekeys_or_a_message_error_within_their_size(content: bytes) -> None:
    # The content, its parts, the statement under the signature; 16 KiB for objects and the error.
    assert allocated(content) <= 6 * len(content) + 16_384


def test_more_prekeys_than_asked_for_are_refused_before_one_is_decoded() -> None:
    content = HONEST * 20_000
    started = time.perf_counter()
    assert allocated(content) < 16_384
    assert time.perf_counter() - started < 0.1
    with pytest.raises(MessageError, match="at most 4"):
        decode_prekeys(content, PARTIES, MOST)


@pytest.mark.parametrize("maker", [3, 4, 65_535])
def test_a_maker_that_the_charter_does_not_have_is_refused(maker: int) -> None:
    with pytest.raises(MessageError, match=f"member {maker}"):
        decode_prekeys(maker.to_bytes(2, "big") + HONEST[2:], PARTIES, 1)


@pytest.mark.parametrize("members", [2, 4, 9])
def test_prekeys_for_another_number_of_members_are_refused(members: int) -> None:
    parties = make_parties(members)
    other = make_prekey(parties, 0, START, 1, identity("a"), dice("other")).prekey.encoded
    with pytest.raises(MessageError, match=f"of {SIZE} bytes"):
        decode_prekeys(other, PARTIES, MOST)
