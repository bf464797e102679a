"""What agents, server and operator say to each other (PROTOCOL sections 1, 2, 4).

`contract.wire` turns them into bytes and back. Every field is bounded: what a stranger can send is small.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hansa.contract.blind_messages import (
    ApplyReply,
    ApplyRequest,
    Held,
    KeysReply,
    KeysRequest,
    ReloadRequest,
    Tag,
)
from hansa.contract.jobs import JobId, JobPlan
from hansa.contract.order import FACT_CHARACTERS as FACT_CHARACTERS
from hansa.contract.order import MOST_MEMBERS, AttemptNumber, Count, Digest, Members, Nonce, Share, ShortText
from hansa.contract.order import DtypeName as DtypeName
from hansa.contract.order import FactValue as FactValue
from hansa.contract.order import Order as Order
from hansa.contract.order import Signature as Signature
from hansa.contract.typed import Frozen, Sentence, Slug

PROTOCOL = 1
# An agent serves the current protocol number and the one before; there is none before 1.
SERVED = tuple(number for number in (PROTOCOL - 1, PROTOCOL) if number >= 1)

MAX_MESSAGE_BYTES = 2**30

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


class Head(Frozen):
    """The newest row of a member's ledger: sequence number and hash (PROTOCOL section 7)."""

    sequence: Count
    hash: Digest


Positive = Annotated[float, Field(gt=0, le=1e300)]
Sum = Annotated[float, Field(ge=0, le=1e300)]


class Charged(Frozen):
    """One charge of an attempt: purpose, what was released how often with how much noise, and what it took."""

    grant: Slug
    purpose: Literal["check", "train", "evaluate"]
    noise_multiplier: Positive
    count: Annotated[int, Field(ge=1, lt=2**31)]
    # Below 1 over Poisson samples at that rate.
    sampling_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    amount: Sum


class GrantState(Frozen):
    """A grant as it stood after a charge; amounts are in the currency of its data set.

    Running sums, so that the newest receipt alone says how much was ever spent.
    """

    grant: Slug
    data_set: Slug
    currency: Literal["gdp", "rdp"]
    # The one Rényi order; None in `gdp`.
    order: Annotated[int, Field(ge=2, le=1024)] | None = None
    epsilon: Positive
    delta: Positive
    amount: Positive
    training: Sum
    holdout: Sum
    # Somebody may have been in both parts, under different charters: the two sums are added up.
    together: bool = False

    @property
    def counted(self) -> float:
        """What no entity lost more than."""
        return self.training + self.holdout if self.together else max(self.training, self.holdout)


class Receipt(Frozen):
    """What a member was charged in an attempt, with its ledger's head; signed on its own, to be shown to others."""

    charges: Annotated[tuple[Charged, ...], Field(max_length=4)] = ()
    # Every grant that can still be charged, as it stands at `head`.
    grants: Annotated[tuple[GrantState, ...], Field(max_length=16)] = ()
    # None where nothing is charged because the charter has no noise.
    head: Head | None = None
    signature: Signature = ""


class Seen(Frozen):
    """A receipt with what its signature covers beside it: proof of a head, in its maker's own words."""

    job: JobId
    attempt: AttemptNumber
    # Digest of the order.
    order: Digest
    receipt: Receipt


class Finish(Frozen):
    """Proof that an attempt finished: t members say that they answered its unmasking (PROTOCOL section 7)."""

    attempt: AttemptNumber
    # Digest of the order.
    order: Digest
    signatures: Annotated[dict[Slug, Signature], Field(max_length=MOST_MEMBERS)]


class Accepted(Frozen):
    """Which of a peer's prekeys an agent takes: those of that start of the peer, from that number on."""

    start: Nonce
    first: Count


class Witness(Frozen):
    """One member's word on another's start.

    It says the highest head that it saw of it, and from which number on its own prekeys are valid for it.

    A member that came back from a backup does not know which shares it gave; of prekeys that were
    made after its start it gave none (PROTOCOL section 7).
    """

    witness: Slug
    member: Slug
    # The start nonce of `member` that this answers, and the one of the witness: its prekeys carry that.
    start: Nonce
    made: Nonce
    first: Count
    # The receipt of `member` with the highest head that the witness ever saw.
    seen: Seen | None = None
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

    Segments: `weights`, `prekeys`, and `released` where the model to evaluate is not the weights. A probe brings
    `released`, the model without the step that it tries, and `step`; in mode `he` the sum that the step is made of.
    """

    type: Literal["attempt"] = "attempt"
    order: Order
    # Of a probe in mode `he`: the sum that it tries.
    pending: ApplyRequest | None = None
    # Attempts of this job that finished since the last request.
    finished: Annotated[tuple[Finish, ...], Field(max_length=8)] = ()


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
    """The job is over. Segment `released`: the model that every member keeps, but in mode `he`, where it holds it."""

    type: Literal["close"] = "close"
    job: JobId
    rounds: Count
    # In mode `he`: the tag of the state that they keep.
    state: Tag = ""


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
    # Noise multiplier of each segment, as this member derived it from its own grant; empty without privacy.
    noise: Annotated[dict[Slug, Positive], Field(max_length=8)] = {}
    # What it holds of the job in mode `he`.
    held: Held = Held()


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
    # On `finish_statement`, where the charter has noise.
    finished: Signature = ""


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
    HelloRequest
    | WitnessRequest
    | JobRequest
    | KeysRequest
    | TrainRequest
    | AgreeRequest
    | UnmaskRequest
    | ApplyRequest
    | ReloadRequest
    | CloseRequest
)
Reply = (
    HelloReply
    | WitnessReply
    | JobReply
    | KeysReply
    | UploadReply
    | AgreeReply
    | UnmaskReply
    | ApplyReply
    | CloseReply
    | RefusalReply
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
