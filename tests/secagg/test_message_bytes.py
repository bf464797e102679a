"""Headers of the start exchange and the unmasking, honest and mutated: typed, or a `MessageError`, within a bound."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from room import JOB

from hansa.contract.errors import MessageError
from hansa.contract.messages import (
    Accepted,
    AgreeReply,
    AgreeRequest,
    Charged,
    GrantState,
    Head,
    HelloReply,
    HelloRequest,
    Order,
    Receipt,
    ReplyHeader,
    RequestHeader,
    Seen,
    TrainRequest,
    UnmaskReply,
    UnmaskRequest,
    UploadReply,
    Witness,
    WitnessReply,
    WitnessRequest,
)
from hansa.contract.typed import canonical_json
from hansa.contract.wire import (
    MAX_HEADER_VALUES,
    describe,
    pack,
    reply_header,
    request_header,
    segments_of,
    unpack,
)

HASH = "0" * 64
NONCE = "1" * 32
CHARGE = Charged(grant="one", purpose="train", noise_multiplier=9.5, count=1, amount=0.25)
GRANT = GrantState(
    grant="one",
    data_set="records",
    currency="gdp",
    epsilon=8.0,
    delta=1e-5,
    amount=2.75,
    training=0.25,
    holdout=0.0,
)
PAID = Receipt(
    charges=(CHARGE, CHARGE), grants=(GRANT,), head=Head(sequence=9, hash=HASH), signature="s" * 88
)
SEEN = Seen(job=JOB, attempt=1, order=HASH, receipt=PAID)
WITNESS = Witness(witness="a", member="b", start=NONCE, made=NONCE, first=3, seen=SEEN)
ORDER = Order(
    job=JOB,
    attempt=1,
    kind="train",
    base=0,
    cohort=("a", "b"),
    prekeys={"a": 1, "b": 2},
    groups=(("a", "b"),),
)
RECEIPT = Receipt(charges=(CHARGE,), signature="s")
REQUESTS = (
    HelloRequest(nonce="n", prekeys=4),
    WitnessRequest(starts={"b": NONCE}, shown=(WITNESS,), prekeys=1),
    TrainRequest(order=ORDER),
    AgreeRequest(job=JOB, attempt=1, active=("a", "b")),
    UnmaskRequest(
        job=JOB, attempt=1, active=("a",), dropped=("b",), receipts={"a": RECEIPT}, signatures={"a": "s"}
    ),
)
ACCEPTS = {"a": Accepted(start=NONCE, first=1)}
REPLIES = (
    HelloReply(
        nonce="n",
        charter_version=1,
        started=0.5,
        isolated=True,
        start=NONCE,
        accepts={"a": Accepted(start=NONCE, first=1)},
    ),
    WitnessReply(witnesses=(WITNESS,), accepts=ACCEPTS),
    UploadReply(job=JOB, attempt=1, receipt=RECEIPT),
    AgreeReply(signature="s"),
    UnmaskReply(job=JOB, attempt=1, shares={"a": "s"}),
)
SEGMENTS = {"prekeys": np.arange(40, dtype="u1"), "update": np.arange(5, dtype="<u4")}


def wire(header: bytes, tail: bytes = b"") -> bytes:
    return struct.pack(">5sBI", b"HANSA", 1, len(header)) + header + bytes(64) + tail


HONEST = [
    pack(RequestHeader(charter=HASH, body=body, segments=describe(SEGMENTS)), bytes(64), SEGMENTS)
    for body in REQUESTS
] + [
    pack(
        ReplyHeader(charter=HASH, sender="a", request=HASH, body=body, segments=describe(SEGMENTS)),
        bytes(64),
        SEGMENTS,
    )
    for body in REPLIES
]
# Bits of JSON that a mutation puts where something else stood.
SHARDS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b'"',
    b":",
    b"null",
    b"1e999",
    b"NaN",
    b"-0",
    b"9" * 400,
    b'"\\ud800"',
]
SHARDS += [
    b"[" * 300,
    b'{"a":' * 300,
    b"\xff",
    b"\x00",
    b'"type":"unmask"',
    b'"type":"witness"',
    b"18446744073709551616",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An honest message with a few of its header's places overwritten, cut or grown; its stated length follows."""
    content = draw(st.sampled_from(HONEST))
    size = struct.unpack_from(">I", content, 6)[0]
    header, tail = bytearray(content[10 : 10 + size]), content[10 + size + 64 :]
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(header)))
        shard = draw(st.sampled_from(SHARDS) | st.binary(max_size=6))
        header[place : place + draw(st.integers(0, 12))] = shard
    return wire(bytes(header), tail)


def read(content: bytes) -> None:
    """As agent and server read; the derived values are what pair keys and signatures are made from."""
    for header_of in (request_header, reply_header):
        try:
            packed = unpack(content)
            header = header_of(packed)
            segments_of(packed, header.segments)
            canonical_json(header)
        except MessageError:
            continue
        if isinstance(header.body, TrainRequest):
            assert header.body.order.digest
            assert header.body.order.circles


def peak(content: bytes) -> int:
    tracemalloc.start()
    try:
        read(content)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", HONEST)
def test_an_honest_message_is_read_by_one_side_and_refused_by_the_other(content: bytes) -> None:
    packed = unpack(content)
    header_of, other = (
        (request_header, reply_header) if b'"operator"' in packed.header else (reply_header, request_header)
    )
    arrays = segments_of(packed, header_of(packed).segments)
    np.testing.assert_array_equal(arrays["prekeys"], SEGMENTS["prekeys"])
    with pytest.raises(MessageError, match="message header"):
        other(packed)


@given(mutated() | st.builds(wire, st.binary(max_size=300)))
@example(wire(b"[" * 100_000))
@example(wire(b'{"body":' * 50_000))
@example(wire(b'"\\ud800"'))
def test_any_bytes_are_a_message_or_a_message_error_within_a_bound(content: bytes) -> None:
    # Python's own allocations: typed objects and the explained problems; 64 bytes for each byte and 128 KiB.
    assert peak(content) <= 64 * len(content) + 131_072


@given(st.sampled_from(HONEST), st.data())
def test_a_message_cut_anywhere_is_a_message_error(content: bytes, data: st.DataObject) -> None:
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    for header_of in (request_header, reply_header):
        with pytest.raises(MessageError):
            segments_of(unpack(cut), header_of(unpack(cut)).segments)


WORST = {
    "unknown fields": b",".join(b'"%d":1' % it for it in range(MAX_HEADER_VALUES - 10)),
    "wrong values": b'"witnesses":[' + b",".join([b"1"] * (MAX_HEADER_VALUES - 10)) + b"]",
    "twice wrong values": b'"accepts":{'
    + b",".join(b'"-%d":[]' % it for it in range(MAX_HEADER_VALUES - 10))
    + b"}",
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the most memory held")
@pytest.mark.parametrize("kind", WORST)
def test_a_header_of_wrong_values_alone_takes_little_memory_and_time(kind: str) -> None:
    """Uncounted, 4 MB of such a header took 3 GB and 15 s. The parser's memory is not Python's: ask the system."""
    header = (
        b'{"charter":"%s","sender":"a","request":"%s","body":{"type":"witness",'
        % (HASH.encode(), HASH.encode())
        + WORST[kind]
        + b"}}"
    )
    program = (
        "import sys\n"
        "from hansa.contract.errors import MessageError\n"
        "from hansa.contract.wire import reply_header, unpack\n"
        "content = sys.stdin.buffer.read()\n"
        "def most(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "before = most()\n"
        "try:\n    reply_header(unpack(content))\nexcept MessageError:\n    print(most() - before)\n"
    )
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program], input=wire(header), capture_output=True, check=True, env=os.environ
    )
    assert int(done.stdout) < 200 * 1024, "kilobytes"
    assert time.perf_counter() - started < 20


def test_a_header_of_more_values_than_any_message_has_is_refused_unparsed() -> None:
    content = wire(b"[" + b"1," * MAX_HEADER_VALUES + b"1]")
    started = time.perf_counter()
    with pytest.raises(MessageError, match="values"):
        reply_header(unpack(content))
    assert time.perf_counter() - started < 0.1


def test_the_largest_honest_header_is_far_below_the_bound_on_values() -> None:
    """A thousand members, two charges each, all of them shown in one unmask request."""
    names = [f"member-{it}" for it in range(1000)]
    body = UnmaskRequest(
        job=JOB,
        attempt=1,
        active=tuple(names),
        receipts=dict.fromkeys(names, PAID),
        signatures=dict.fromkeys(names, "s" * 88),
    )
    content = pack(RequestHeader(charter=HASH, body=body), bytes(64), {})
    assert request_header(unpack(content)).body == body
    assert unpack(content).header.count(b",") < MAX_HEADER_VALUES // 2
