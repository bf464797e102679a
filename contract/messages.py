"""What agents, server and operator say to each other (PROTOCOL sections 1, 2, 4).

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
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from hansa.contract.errors import MessageError
from hansa.contract.jobs import AttemptKind, JobId, JobPlan
from hansa.contract.keys import Signer, verify
from hansa.contract.typed import Fact, Frozen, Sentence, Slug, canonical_json, explain

PROTOCOL = 1
# An agent serves the current protocol number and the one before; there is none before 1.
SERVED = tuple(number for number in (PROTOCOL - 1, PROTOCOL) if number >= 1)

MAGIC = b"HANSA"
PREFIX = struct.Struct(">5sBI")
SIGNATURE_BYTES = 64
MAX_HEADER_BYTES = 4 * 2**20
# The parser keeps some 900 bytes for each wrong value: a header of nothing else may cost 120 MB, not 3 GB.
MAX_HEADER_VALUES = 2**16
MAX_MESSAGE_BYTES = 2**30
DOMAIN = b"hansa/message/1\x00"

DtypeName = Literal["f64", "u32", "u8"]
DTYPES: Mapping[DtypeName, np.dtype[Any]] = {
    "f64": np.dtype("<f8"),
    "u32": np.dtype("<u4"),
    "u8": np.dtype("u1"),
}
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
AttemptNumber = Annotated[int, Field(ge=1, lt=2**63)]
Nonce = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]
# A charter has no more members; no list or mapping of members in a message is longer.
MOST_MEMBERS = 1000
Members = Annotated[tuple[Slug, ...], Field(max_length=MOST_MEMBERS)]
# Printable, without what JSON escapes: as many bytes in a header as characters.
Signature = Annotated[str, Field(pattern=r"^[!#-\[\]-~]{0,88}$")]
Share = Annotated[str, Field(pattern=r"^[!#-\[\]-~]{0,64}$")]
ShortText = Annotated[str, Field(pattern=r"^[ !#-\[\]-~]{0,64}$")]
FACT_CHARACTERS = 200
FactValue = (
    Annotated[int, Field(gt=-(2**63), lt=2**63)] | Annotated[Sentence, Field(max_length=FACT_CHARACTERS)]
)
# Prekeys of each member that the server keeps ahead (PROTOCOL section 3).
PREKEY_STOCK = 4
# The one segment of a message that holds prekeys, one behind the other.
PREKEYS = "prekeys"


class SegmentHeader(Frozen):
    """Name, type, length and hash of one array behind the header."""

    name: Slug
    dtype: DtypeName
    count: Annotated[int, Field(ge=0, le=MAX_MESSAGE_BYTES)]
    sha256: Digest


class Order(Frozen):
    """What the operator asks of a cohort: the part of a request that every member sees alike."""

    job: JobId
    attempt: AttemptNumber
    kind: AttemptKind
    base: Count
    cohort: Annotated[tuple[Slug, ...], Field(min_length=1, max_length=MOST_MEMBERS)]
    # Number of the one-time key that each of the cohort uses; empty in mode `clear` (PROTOCOL section 3).
    prekeys: Annotated[dict[Slug, Count], Field(max_length=MOST_MEMBERS)] = {}
    # How the cohort is split where the charter has `audit_groups`; empty where it is not.
    groups: Annotated[tuple[Members, ...], Field(max_length=MOST_MEMBERS)] = ()
    # Members that are left out, each with its reason; the cohort sees it.
    left_out: Annotated[dict[Slug, Sentence], Field(max_length=MOST_MEMBERS)] = {}
    knobs: Annotated[dict[Slug, float], Field(max_length=16)] = {}
    evaluate: bool = False
    # SHA-256 of each array that comes with the order, by segment: whoever agrees on the order agrees on them.
    arrays: Annotated[dict[Slug, Digest], Field(max_length=16)] = {}

    @property
    def digest(self) -> str:
        """Hash that agree signatures and pair keys hang on."""
        return hashlib.sha256(b"hansa/order/1\x00" + canonical_json(self)).hexdigest()

    @property
    def circles(self) -> tuple[tuple[str, ...], ...]:
        """Members that mask with each other: the groups, or the whole cohort."""
        return self.groups or (self.cohort,)


class Head(Frozen):
    """The newest row of a member's ledger: sequence number and hash (PROTOCOL section 7)."""

    sequence: Count
    hash: Digest


Charge = Annotated[dict[Slug, float | ShortText], Field(max_length=8)]


class Receipt(Frozen):
    """What a member was charged in an attempt, with its ledger's head; signed on its own, to be shown to others."""

    charges: Annotated[tuple[Charge, ...], Field(max_length=16)] = ()
    # None until there is a ledger.
    head: Head | None = None
    signature: Signature = ""


class Accepted(Frozen):
    """Which of a peer's prekeys an agent takes: those of that start of the peer, from that number on."""

    start: Nonce
    first: Count


class Witness(Frozen):
    """One member's word on another's start: the head it saw of it, and from which prekey on its own are valid for it.

    A member that came back from a backup does not know which shares it gave; of prekeys that were
    made after its start it gave none (PROTOCOL section 7).
    """

    witness: Slug
    member: Slug
    # The start nonce of `member` that this answers, and the one of the witness: its prekeys carry that.
    start: Nonce
    made: Nonce
    first: Count
    head: Head | None = None
    signature: Signature = ""


class HelloRequest(Frozen):
    """Who is there? Sent to every Flower node id that is not known yet."""

    type: Literal["hello"] = "hello"
    protocols: Annotated[tuple[Annotated[int, Field(ge=0, lt=256)], ...], Field(max_length=16)] = SERVED
    # Fresh at each sending, so that an old reply cannot pass for a new one.
    nonce: ShortText
    # So many new prekeys are asked for.
    prekeys: Annotated[int, Field(ge=0, le=PREKEY_STOCK)] = 0


class WitnessRequest(Frozen):
    """Sign for these starts, take these signatures on your own; make so many new prekeys after that."""

    type: Literal["witness"] = "witness"
    # Member to the nonce of its start.
    starts: Annotated[dict[Slug, Nonce], Field(max_length=MOST_MEMBERS)] = {}
    shown: Annotated[tuple[Witness, ...], Field(max_length=MOST_MEMBERS)] = ()
    # Fresh at each sending that asks for prekeys: the same bytes get the same answer, not new prekeys.
    nonce: ShortText = ""
    prekeys: Annotated[int, Field(ge=0, le=PREKEY_STOCK)] = 0


class JobRequest(Frozen):
    """A job's plan; a member approves it before its first attempt."""

    type: Literal["job"] = "job"
    plan: JobPlan


class TrainRequest(Frozen):
    """An attempt (`order.kind`: train, evaluate or statistics).

    Segments: `weights`, `prekeys`, and `released` where the model to evaluate is not the weights.
    """

    type: Literal["attempt"] = "attempt"
    order: Order
    # Signed answers to the last finished attempt's unmask (PROTOCOL section 7).
    proof: Annotated[tuple[Annotated[str, Field(max_length=2**16)], ...], Field(max_length=MOST_MEMBERS)] = ()


class AgreeRequest(Frozen):
    """Which uploads arrived; asked only when one is missing."""

    type: Literal["agree"] = "agree"
    job: JobId
    attempt: AttemptNumber
    active: Members


class UnmaskRequest(Frozen):
    """One share for every participant (PROTOCOL 4.4)."""

    type: Literal["unmask"] = "unmask"
    job: JobId
    attempt: AttemptNumber
    active: Members
    # The rest of the cohort.
    dropped: Members = ()
    # The receipt of every active member.
    receipts: Annotated[dict[Slug, Receipt], Field(max_length=MOST_MEMBERS)] = {}
    # Signatures of active members on the active set; none are needed where nobody dropped.
    signatures: Annotated[dict[Slug, Signature], Field(max_length=MOST_MEMBERS)] = {}


class CloseRequest(Frozen):
    """The job is over. Segment `released`: the model that every member keeps."""

    type: Literal["close"] = "close"
    job: JobId
    rounds: Count


class HelloReply(Frozen):
    """A member's presence: nonce, ledger head, and what it pinned. Segment `prekeys`: as many as were asked for."""

    type: Literal["hello"] = "hello"
    nonce: ShortText
    charter_version: Annotated[int, Field(ge=1, lt=2**31)]
    # Seconds since 1970.
    started: Annotated[float, Field(ge=0, lt=2**40)]
    isolated: bool
    head: Head | None = None
    # Nonce of the agent's start, and which prekeys of each peer it takes; empty in mode `clear`.
    start: Nonce | Literal[""] = ""
    accepts: Annotated[dict[Slug, Accepted], Field(max_length=MOST_MEMBERS)] = {}


class WitnessReply(Frozen):
    """Signatures on the starts, and from which number on this agent takes each peer's prekeys now.

    Segment `prekeys`: as many as were asked for.
    """

    type: Literal["witness"] = "witness"
    witnesses: Annotated[tuple[Witness, ...], Field(max_length=MOST_MEMBERS)] = ()
    accepts: Annotated[dict[Slug, Accepted], Field(max_length=MOST_MEMBERS)] = {}


class JobReply(Frozen):
    """Approval of a job; a refusal says otherwise."""

    type: Literal["job"] = "job"
    approved: Literal[True] = True


class UploadReply(Frozen):
    """A member's part of an attempt. Segments: `update`, `evaluation`, and one new prekey where one was used."""

    type: Literal["upload"] = "upload"
    job: JobId
    attempt: AttemptNumber
    receipt: Receipt = Receipt()


class AgreeReply(Frozen):
    """A member's one signature on (job, attempt, order, active set)."""

    type: Literal["agree"] = "agree"
    signature: Signature


class UnmaskReply(Frozen):
    """One share for every participant: salt and share, 48 bytes in base64, of a seed or of a one-time key."""

    type: Literal["unmask"] = "unmask"
    job: JobId
    attempt: AttemptNumber
    shares: Annotated[dict[Slug, Share], Field(max_length=MOST_MEMBERS)] = {}


class CloseReply(Frozen):
    """The final model is kept."""

    type: Literal["close"] = "close"
    job: JobId


class RefusalReply(Frozen):
    """Why not: code, sentence, facts."""

    type: Literal["refusal"] = "refusal"
    # Not one of REFUSAL_CODES alone: a newer agent's word is still an answer.
    code: Slug
    sentence: Sentence
    facts: Annotated[dict[Slug, FactValue], Field(max_length=16)] = {}


Request = (
    HelloRequest | WitnessRequest | JobRequest | TrainRequest | AgreeRequest | UnmaskRequest | CloseRequest
)
Reply = (
    HelloReply | WitnessReply | JobReply | UploadReply | AgreeReply | UnmaskReply | CloseReply | RefusalReply
)


class RequestHeader(Frozen):
    """What the operator signs."""

    charter: Digest
    sender: Literal["operator"] = "operator"
    body: Annotated[Request, Field(discriminator="type")]
    segments: Annotated[tuple[SegmentHeader, ...], Field(max_length=16)] = ()


class ReplyHeader(Frozen):
    """What a member signs: `request` is the hash of the bytes it answers."""

    charter: Digest
    sender: Slug
    request: Digest
    body: Annotated[Reply, Field(discriminator="type")]
    segments: Annotated[tuple[SegmentHeader, ...], Field(max_length=16)] = ()


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


def active_statement(job: str, attempt: int, order_digest: str, active: tuple[str, ...]) -> bytes:
    """What an active member signs: who took part in this order of this attempt (PROTOCOL 4.3)."""
    return b"hansa/active/1\x00" + canonical_json([job, attempt, order_digest, sorted(active)])


def receipt_statement(job: str, attempt: int, order_digest: str, member: str, receipt: Receipt) -> bytes:
    """What a receipt's signature covers: the member uploaded for this order and was charged so much."""
    content = receipt.model_dump(mode="json", exclude={"signature"})
    return b"hansa/receipt/1\x00" + canonical_json([job, attempt, order_digest, member, content])


def witness_statement(charter: str, witness: Witness) -> bytes:
    """What a witness's signature covers."""
    content = witness.model_dump(mode="json", exclude={"signature"})
    return b"hansa/witness/1\x00" + canonical_json([charter, content])


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
