"""What mode `he` says beside the other messages: keys of a job, sums to apply, sealed states (PROTOCOL section 5).

The server carries all of it and can read none: keys are sealed to members, sums are encrypted under them,
states are sealed under the group key.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hansa.contract.jobs import JobId
from hansa.contract.order import MOST_MEMBERS, Count, Digest, Factor, Members, Order, Signature
from hansa.contract.typed import Frozen, Slug

# Segments of these messages, u8: a job's keys sealed to every member; a sum under the envelope; a sealed state.
SEALED_KEYS = "sealed-keys"
ENCRYPTED_SUM = "sum"
SEALED_STATE = "sealed-state"
# A job's keys are numbered; a charter's members make no more of them.
MOST_EPOCHS = 10_000
# So many wrong sums of a job, and a member takes no part in it any more.
MOST_WRONG = 3

Epoch = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
Tag = Digest | Literal[""]


class Held(Frozen):
    """What a member holds of a job in mode `he`.

    Parameters
    ----------
    epoch, maker : of the newest keys that it signed for; 0 where it signed for none
    ready : whether it was shown t signatures on them, so that it encrypts
    round : of its newest state
    tag : HMAC of that state under the group key; empty before round 1
    """

    epoch: Annotated[int, Field(ge=0, le=MOST_EPOCHS)] = 0
    maker: Slug | Literal[""] = ""
    ready: bool = False
    round: Count = 0
    tag: Tag = ""


class KeysRequest(Frozen):
    """Make, take, confirm or hand on a job's keys.

    Without segment `sealed-keys` the maker makes them, and whoever has them seals them once more; with it a member
    opens its part. Signatures are those on the hash of what was opened, t of them make a member ready.
    """

    type: Literal["keys"] = "keys"
    job: JobId
    epoch: Epoch
    maker: Slug
    signatures: Annotated[dict[Slug, Signature], Field(max_length=MOST_MEMBERS)] = {}


class KeysReply(Frozen):
    """A signature on the hash of the keys, and those shown before. Segment `sealed-keys` where it was to seal them."""

    type: Literal["keys"] = "keys"
    job: JobId
    epoch: Epoch
    maker: Slug
    signature: Signature
    ready: bool
    signatures: Annotated[dict[Slug, Signature], Field(max_length=MOST_MEMBERS)] = {}


class ApplyRequest(Frozen):
    """Decrypt this sum, check it, apply it. Segment `sum`.

    Parameters
    ----------
    order : that of the attempt whose sum it is
    active : members whose uploads are in it
    noise : standard deviation of the noise on each coordinate of the mean update, for the server's rule
    factor : by what the server's rate is multiplied, as a probe has found; 0 drops the step
    sealing : members that are to send their new state, sealed
    """

    type: Literal["apply"] = "apply"
    order: Order
    active: Members
    noise: Annotated[float, Field(ge=0, le=1e300)] = 0.0
    factor: Factor = 1.0
    sealing: Members = ()


class ReloadRequest(Frozen):
    """Take this state instead of the one you hold. Segment `sealed-state`, from another member."""

    type: Literal["reload"] = "reload"
    job: JobId
    round: Count
    tag: Digest


class ApplyReply(Frozen):
    """The state that a member holds now. Segment `sealed-state` where it was asked for."""

    type: Literal["apply"] = "apply"
    job: JobId
    round: Count
    tag: Digest
