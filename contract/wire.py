"""A message as bytes, both ways (PROTOCOL section 1).

On the wire a message is

    b"HANSA" | protocol u8 | header length u32 | header JSON | Ed25519 signature (64 B) | segments

The header names every segment with its length and SHA-256, so one signature covers all bytes.
Decoding is bounded: every stated size is checked before anything of that size is allocated.
The protocol number stands outside the JSON so that an unknown protocol can be refused by name.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from hansa.contract.errors import MessageError
from hansa.contract.keys import Signer, verify
from hansa.contract.messages import (
    MAX_MESSAGE_BYTES,
    PROTOCOL,
    DtypeName,
    ReplyHeader,
    RequestHeader,
    SegmentHeader,
)
from hansa.contract.typed import Fact, canonical_json, explain

MAGIC = b"HANSA"
PREFIX = struct.Struct(">5sBI")
SIGNATURE_BYTES = 64
MAX_HEADER_BYTES = 4 * 2**20
# The parser keeps some 900 bytes for each wrong value: a header of nothing else may cost 120 MB, not 3 GB.
MAX_HEADER_VALUES = 2**16
DOMAIN = b"hansa/message/1\x00"

DTYPES: Mapping[DtypeName, np.dtype[Any]] = {
    "f64": np.dtype("<f8"),
    "u32": np.dtype("<u4"),
    "u8": np.dtype("u1"),
}
Segments = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Packed:
    """A message as it stands on the wire, still to be checked: header bytes, signature, segment bytes."""

    protocol: int
    header: bytes
    signature: bytes
    tail: memoryview = field(repr=False)


def digest(content: bytes | memoryview) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(content).hexdigest()


def describe(segments: Segments) -> tuple[SegmentHeader, ...]:
    """Headers of arrays, in the order in which `pack` lays them out."""
    headers = []
    for name, array in segments.items():
        kind = next((key for key, dtype in DTYPES.items() if dtype == array.dtype), None)
        if kind is None:
            raise ValueError(
                f"segment '{name}' has dtype {array.dtype}; a message carries {', '.join(DTYPES)}"
            )
        headers.append(SegmentHeader(name=name, dtype=kind, count=array.size, sha256=digest(_bytes(array))))
    return tuple(headers)


def signed_part(header: bytes, protocol: int = PROTOCOL) -> bytes:
    """The bytes under a message's signature."""
    return DOMAIN + bytes([protocol]) + header


def pack(header: RequestHeader | ReplyHeader, signature: bytes, segments: Segments) -> bytes:
    """A message's bytes from its signed header and its arrays."""
    encoded = canonical_json(header)
    parts: list[bytes | memoryview] = [PREFIX.pack(MAGIC, PROTOCOL, len(encoded)), encoded, signature]
    parts += [_bytes(array) for array in segments.values()]
    return b"".join(parts)


def seal(header: RequestHeader | ReplyHeader, segments: Segments, signer: Signer) -> bytes:
    """Sign and pack in one step, for whoever holds the key."""
    return pack(header, signer.sign(signed_part(canonical_json(header))), segments)


def unpack(message: bytes) -> Packed:
    """Split a message without trusting it.

    Raises
    ------
    MessageError : too short, not ours, or a stated size that the bytes do not have
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise MessageError(f"a message of {len(message)} bytes is above the limit of {MAX_MESSAGE_BYTES}")
    if len(message) < PREFIX.size:
        raise MessageError(f"a message of {len(message)} bytes is too short to be one")
    magic, protocol, header_bytes = PREFIX.unpack_from(message)
    if magic != MAGIC:
        raise MessageError("these bytes are not a Hansa message")
    if header_bytes > MAX_HEADER_BYTES or PREFIX.size + header_bytes + SIGNATURE_BYTES > len(message):
        raise MessageError(f"the message states a header of {header_bytes} bytes, which it does not hold")
    start = PREFIX.size + header_bytes
    return Packed(
        protocol=protocol,
        header=message[PREFIX.size : start],
        signature=message[start : start + SIGNATURE_BYTES],
        tail=memoryview(message)[start + SIGNATURE_BYTES :],
    )


def check_signature(packed: Packed, public_key: bytes) -> bool:
    """Whether the header was signed by that key."""
    return verify(public_key, packed.signature, signed_part(packed.header, packed.protocol))


def request_header(packed: Packed) -> RequestHeader:
    """The request's typed header; check the signature first."""
    return _parse(packed, RequestHeader)


def reply_header(packed: Packed) -> ReplyHeader:
    """The reply's typed header. It may be read before the signature: `sender` says whose key to check."""
    return _parse(packed, ReplyHeader)


def segments_of(packed: Packed, headers: tuple[SegmentHeader, ...]) -> dict[str, NDArray[Any]]:
    """Read-only arrays over the message's own bytes, each checked against its hash."""
    total = sum(header.count * DTYPES[header.dtype].itemsize for header in headers)
    if total != len(packed.tail):
        raise MessageError(f"the header promises {total} bytes of segments, {len(packed.tail)} follow")
    arrays: dict[str, NDArray[Any]] = {}
    offset = 0
    for header in headers:
        size = header.count * DTYPES[header.dtype].itemsize
        part = packed.tail[offset : offset + size]
        if digest(part) != header.sha256:
            raise MessageError(f"segment '{header.name}' does not match its hash")
        if header.name in arrays:
            raise MessageError(f"segment '{header.name}' appears twice")
        array = np.frombuffer(part, dtype=DTYPES[header.dtype])
        array.flags.writeable = False
        arrays[header.name] = array
        offset += size
    return arrays


def _parse(packed: Packed, kind: type[Fact]) -> Fact:
    if packed.header.count(b",") >= MAX_HEADER_VALUES:
        raise MessageError(f"a message header of more than {MAX_HEADER_VALUES} values")
    try:
        return kind.model_validate_json(packed.header, strict=True)
    except ValidationError as error:
        raise MessageError(f"message header: {explain(error)}") from None


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")
