"""Signed requests out, verified replies in: the server's end of the messages, without any transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from hansa.contract.charter import Charter
from hansa.contract.errors import MessageError
from hansa.contract.keys import from_text
from hansa.contract.messages import (
    PROTOCOL,
    ReplyHeader,
    Request,
    RequestHeader,
    SegmentHeader,
    Segments,
    check_signature,
    describe,
    digest,
    pack,
    reply_header,
    segments_of,
    unpack,
)
from hansa.contract.typed import canonical_json
from hansa.strategies.ports import Operator

NO_SEGMENTS: Mapping[str, NDArray[Any]] = {}


@dataclass(frozen=True)
class Reply:
    """A reply whose signature and hashes hold."""

    header: ReplyHeader
    segments: Segments


class Desk:
    """Writes requests under one charter and reads what comes back."""

    def __init__(self, charter: Charter, charter_hash: str, operator: Operator) -> None:
        self.charter = charter
        self._hash = charter_hash
        self._operator = operator
        self._keys = {member.name: from_text(member.identity_key) for member in charter.members}

    def write(
        self,
        job: str,
        body: Request,
        segments: Segments = NO_SEGMENTS,
        headers: tuple[SegmentHeader, ...] | None = None,
    ) -> bytes:
        """A request's bytes, signed by the operator; `headers` where `segments` are described already."""
        header = RequestHeader(
            charter=self._hash, body=body, segments=describe(segments) if headers is None else headers
        )
        [signature] = self._operator.sign_headers(job, [canonical_json(header)])
        return pack(header, signature, segments)

    def read(self, reply: bytes, request: bytes) -> Reply:
        """A member's reply to `request`.

        Raises
        ------
        MessageError : malformed, from nobody we know, not signed by its sender, or to another request
        """
        packed = unpack(reply)
        if packed.protocol != PROTOCOL:
            raise MessageError(f"the reply speaks protocol {packed.protocol}, not {PROTOCOL}")
        header = reply_header(packed)
        key = self._keys.get(header.sender)
        if key is None:
            raise MessageError(f"'{header.sender}' is not a member of the charter")
        if not check_signature(packed, key):
            raise MessageError(f"the reply is not signed by {header.sender}")
        if header.request != digest(request):
            raise MessageError(f"{header.sender} answers another request than the one it was sent")
        if header.body.type != "refusal" and header.charter != self._hash:
            raise MessageError(f"{header.sender} works under another charter")
        return Reply(header, segments_of(packed, header.segments))
