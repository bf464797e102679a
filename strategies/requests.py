"""Signed requests out, verified replies in: the server's end of the messages, without any transport."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from hansa.contract.charter import Charter
from hansa.contract.errors import MessageError
from hansa.contract.messages import PROTOCOL, RefusalReply, ReplyHeader, Request, RequestHeader, SegmentHeader
from hansa.contract.typed import canonical_json, clipped
from hansa.contract.wire import Segments, check_signature, describe, pack, reply_header, segments_of, unpack
from hansa.secagg.parties import Parties
from hansa.strategies.ports import Operator

NO_SEGMENTS: Mapping[str, NDArray[Any]] = {}
# What the operator is asked to sign in one call: control bounds both.
_HEADERS_AT_ONCE = 1000
_BYTES_AT_ONCE = 16 * 2**20
# Room for the header of any reply: a share, a word and a prekey's range for each member are some 700 bytes,
# the receipt that a word shows of a member with all the grants it can have some 5,000.
_REPLY_BYTES = 2**16
_REPLY_BYTES_EACH = 2**13


@dataclass(frozen=True)
class Reply:
    """A reply whose signature and hashes hold."""

    header: ReplyHeader
    segments: Segments


class Desk:
    """Writes requests under one charter and reads what comes back."""

    def __init__(self, charter: Charter, charter_hash: str, operator: Operator) -> None:
        self.charter = charter
        self.hash = charter_hash
        self.parties = Parties.of(charter, charter_hash)
        self._operator = operator
        self._keys = dict(zip(self.parties.names, self.parties.identity_keys, strict=True))

    def write(
        self,
        job: str,
        body: Request,
        segments: Segments = NO_SEGMENTS,
        headers: tuple[SegmentHeader, ...] | None = None,
    ) -> bytes:
        """A request's bytes, signed by the operator; `headers` where `segments` are described already."""
        header = RequestHeader(
            charter=self.hash, body=body, segments=describe(segments) if headers is None else headers
        )
        [signature] = self._operator.sign_headers(job, [canonical_json(header)])
        return pack(header, signature, segments)

    def write_many(self, job: str, bodies: Sequence[Request]) -> list[bytes]:
        """Requests without segments, signed in one call of the operator, or in as few as its bounds allow."""
        headers = [RequestHeader(charter=self.hash, body=body) for body in bodies]
        signatures: list[bytes] = []
        batch: list[bytes] = []
        for content in map(canonical_json, headers):
            if batch and (
                len(batch) == _HEADERS_AT_ONCE or sum(map(len, batch)) + len(content) > _BYTES_AT_ONCE
            ):
                signatures += self._operator.sign_headers(job, batch)
                batch = []
            batch.append(content)
        signatures += self._operator.sign_headers(job, batch) if batch else []
        return [
            pack(header, signature, NO_SEGMENTS)
            for header, signature in zip(headers, signatures, strict=True)
        ]

    def read(self, reply: bytes, asked: str, segments: int = 0) -> Reply:
        """A member's reply to a request. What a refusal says is made fit to be kept and shown.

        Parameters
        ----------
        asked : the request's hash
        segments : bytes of the segments that were asked for; a much larger reply is not looked into

        Raises
        ------
        MessageError : malformed, from nobody we know, not signed by its sender, or to another request
        """
        most = _REPLY_BYTES + _REPLY_BYTES_EACH * len(self._keys) + segments
        if len(reply) > most:
            raise MessageError(f"a reply of {len(reply)} bytes, where at most {most} were asked for")
        packed = unpack(reply)
        if packed.protocol != PROTOCOL:
            raise MessageError(f"the reply speaks protocol {packed.protocol}, not {PROTOCOL}")
        header = reply_header(packed)
        key = self._keys.get(header.sender)
        if key is None:
            raise MessageError(f"'{header.sender}' is not a member of the charter")
        if not check_signature(packed, key):
            raise MessageError(f"the reply is not signed by {header.sender}")
        if header.request != asked:
            raise MessageError(f"{header.sender} answers another request than the one it was sent")
        if header.body.type != "refusal" and header.charter != self.hash:
            raise MessageError(f"{header.sender} works under another charter")
        if isinstance(header.body, RefusalReply):
            said = {"code": clipped(header.body.code, 63), "sentence": clipped(header.body.sentence)}
            header = header.model_copy(update={"body": header.body.model_copy(update=said)})
        return Reply(header, segments_of(packed, header.segments))
