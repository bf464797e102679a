"""Messages decode to what was encoded, and nothing that another party sends makes the decoder fail otherwise."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.contract.errors import MessageError
from hansa.contract.keys import SigningKey
from hansa.contract.messages import HelloRequest, RequestHeader, SegmentHeader
from hansa.contract.wire import (
    MAX_HEADER_BYTES,
    PREFIX,
    check_signature,
    describe,
    pack,
    request_header,
    seal,
    segments_of,
    unpack,
)

KEY = SigningKey.generate()
HASH = "0" * 64
arrays = st.dictionaries(
    st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True),
    st.sampled_from(["<f8", "<u4", "u1"]).flatmap(
        lambda dtype: st.integers(0, 50).map(lambda size: np.arange(size).astype(dtype))
    ),
    max_size=4,
)


def message(segments: dict[str, np.ndarray]) -> bytes:
    header = RequestHeader(charter=HASH, body=HelloRequest(nonce="n"), segments=describe(segments))
    return seal(header, segments, KEY)


def read(content: bytes) -> None:
    """As a receiver reads it: signature first."""
    packed = unpack(content)
    if not check_signature(packed, KEY.public):
        raise MessageError("signature")
    segments_of(packed, request_header(packed).segments)


@given(arrays)
def test_what_is_sealed_comes_back(segments: dict[str, np.ndarray]) -> None:
    packed = unpack(message(segments))
    assert check_signature(packed, KEY.public)
    header = request_header(packed)
    found = segments_of(packed, header.segments)
    assert list(found) == list(segments)
    for name, array in segments.items():
        np.testing.assert_array_equal(found[name], array)
        assert not found[name].flags.writeable


@given(arrays, st.data())
def test_a_changed_byte_is_noticed(segments: dict[str, np.ndarray], data: st.DataObject) -> None:
    honest = message(segments)
    place = data.draw(st.integers(0, len(honest) - 1))
    changed = bytearray(honest)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(MessageError):
        read(bytes(changed))


@given(st.binary(max_size=400))
def test_garbage_is_a_message_error_and_nothing_else(garbage: bytes) -> None:
    for content in (garbage, b"HANSA\x01" + garbage):
        try:
            packed = unpack(content)
            header = request_header(packed)
            segments_of(packed, header.segments)
        except MessageError:
            pass


def test_a_header_that_states_more_than_there_is_allocates_nothing() -> None:
    for size in (10_000, MAX_HEADER_BYTES + 1, 2**32 - 1):
        with pytest.raises(MessageError, match="which it does not hold"):
            unpack(PREFIX.pack(b"HANSA", 1, size) + bytes(200))


def test_segments_that_state_more_than_there_is_are_refused() -> None:
    header = RequestHeader(
        charter=HASH,
        body=HelloRequest(nonce="n"),
        segments=(SegmentHeader(name="weights", dtype="f64", count=2**27, sha256=HASH),),
    )
    packed = unpack(pack(header, bytes(64), {}))
    with pytest.raises(MessageError, match="promises"):
        segments_of(packed, request_header(packed).segments)


def test_the_layout_on_the_wire_does_not_change() -> None:
    content = message({})
    magic, protocol, size = struct.unpack_from(">5sBI", content)
    assert (magic, protocol) == (b"HANSA", 1)
    assert content[10 : 10 + size].startswith(b'{"body":{')
    assert len(content) == 10 + size + 64
