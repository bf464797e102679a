"""Rows of a ledger: what an organisation decided and what it was charged (DESIGN section 6).

A row's meaning and fields never change, because its hash is over all of them: what is new gets a new kind
of row. Every amount is in the currency of the data set it belongs to.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field

from hansa.contract.jobs import JobId
from hansa.contract.messages import Head, Seen
from hansa.contract.typed import Frozen, Slug, canonical_json
from hansa.privacy.currency import Currency
from hansa.privacy.events import Event
from hansa.privacy.people import KEPT

Part = Literal["training", "holdout"]
Purpose = Literal["check", "train", "evaluate"]
Amount = Annotated[float, Field(ge=0)]
Epsilon = Annotated[float, Field(gt=0, le=100)]
Delta = Annotated[float, Field(ge=1e-15, le=0.1)]
Attempt = Annotated[int, Field(ge=1, lt=2**63)]
Share = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(max_length=500)]
Said = Annotated[str, Field(min_length=1, max_length=500)]


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("say it in words")
    return text


# As a person gives it; what stands in a ledger already may be blank.
Stated = Annotated[Text, AfterValidator(_not_blank)]


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC it lies outside the years 1 to 9999") from None


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]

EntityHash = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]
ChargeKey = tuple[str, str, int, Purpose, Part]

# What the first row has for the hash of the one before.
FIRST = "0" * 64


class DataSetRow(Frozen):
    """A data set in all its versions, and the most that may ever be spent on it.

    A later row of the same name brings a new version's people; the cap is fixed.
    """

    row: Literal["data-set"] = "data-set"
    name: Slug
    currency: Currency
    epsilon: Epsilon
    delta: Delta
    # What (epsilon, delta) buys in the currency.
    cap: Annotated[float, Field(gt=0)]
    # `people.sketch` of its entities: the same people are known again under another name.
    people: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")], ...], Field(min_length=1, max_length=KEPT)
    ]


class SidesRow(Frozen):
    """What decides, from here on, which of a data set's people train and which are held out.

    A grant counts the larger of what the two parts lost, because nobody is in both. Under another hold-out share,
    entity column or key somebody may come to be in both, and so where records are known by their content and
    another column holds some: from a data set's second row of this kind on, what both lost is added up, for good.
    """

    row: Literal["sides"] = "sides"
    data_set: Slug
    holdout: Annotated[float, Field(gt=0, lt=1)]
    # The contract's entity column; empty where each record counts by itself, known by its columns' content.
    entity: Annotated[str, Field(max_length=200)]
    # Keyed hash over all that a record's side depends on but the record.
    fingerprint: EntityHash


class GrantRow(Frozen):
    """A budget out of a data set's cap, and on whose word."""

    row: Literal["grant"] = "grant"
    grant: Slug
    data_set: Slug
    epsilon: Epsilon
    delta: Delta
    # What (epsilon, delta) buys in the data set's currency.
    amount: Annotated[float, Field(gt=0)]
    expires: Instant
    purpose: Text
    legal_basis: Text
    granted_by: Said
    reason: Text


class FreezeRow(Frozen):
    """Nothing is charged to a grant until it is unfrozen."""

    row: Literal["freeze"] = "freeze"
    grant: Slug
    reason: Text
    by: Said


class UnfreezeRow(Frozen):
    """A grant may be charged again."""

    row: Literal["unfreeze"] = "unfreeze"
    grant: Slug
    reason: Text
    by: Said


class ReleaseAmounts(Frozen):
    """What one release of each kind takes, from which its noise is derived; 0 where none is planned."""

    check: Amount = 0.0
    training: Amount = 0.0
    holdout: Amount = 0.0


class ApprovalRow(Frozen):
    """This organisation's yes to a job: which grant it draws on, and how much it may take of either part.

    Another approval of the same job replaces the one before and lifts its limit of unfinished attempts.
    """

    row: Literal["approval"] = "approval"
    job: JobId
    grant: Slug
    share: Share
    most: Amount
    amounts: ReleaseAmounts
    by: Said


class Charge(Frozen):
    """What an attempt is about to do to a data set; the ledger prices it."""

    job: JobId
    attempt: Attempt
    purpose: Purpose
    part: Part
    data_set: Slug
    events: Annotated[tuple[Event, ...], Field(min_length=1, max_length=8)]


class ChargeRow(Frozen):
    """What one attempt takes, written before anything is computed and never refunded."""

    row: Literal["charge"] = "charge"
    grant: Slug
    job: JobId
    attempt: Attempt
    purpose: Purpose
    part: Part
    events: Annotated[tuple[Event, ...], Field(min_length=1, max_length=8)]
    amount: Amount
    # Entered again from receipts after the ledger was found behind its witnesses.
    recovered: bool = False

    @property
    def key(self) -> ChargeKey:
        """What there is one charge for."""
        return (self.grant, self.job, self.attempt, self.purpose, self.part)


class FinishRow(Frozen):
    """An attempt that was seen to be finished: t members answered its unmasking."""

    row: Literal["finish"] = "finish"
    job: JobId
    attempt: Attempt


class RecoveryRow(Frozen):
    """Somebody showed a receipt, in this organisation's own signature, whose head this ledger does not have.

    The chain goes on behind that head's number, so that no number ever stands for two hashes. What the receipt
    says was spent and this ledger did not know follows as recovered charges, one for each grant and part; a
    grant that this ledger never heard of is entered as expired, with that receipt's word on it.
    """

    row: Literal["recovery"] = "recovery"
    lost: Seen
    by: Said
    reason: Text


class ForgetRow(Frozen):
    """So many entities are computed on no more, from the next attempt on; what was spent on them stays.

    Parameters
    ----------
    total : entities forgotten up to here
    fingerprint : SHA-256 over the keyed hashes of all of them, sorted: shows a list that lacks some
    """

    row: Literal["forget"] = "forget"
    entities: Annotated[int, Field(ge=1)]
    total: Annotated[int, Field(ge=1)]
    fingerprint: EntityHash
    reason: Text
    by: Said


AnyBody = (
    DataSetRow
    | SidesRow
    | GrantRow
    | FreezeRow
    | UnfreezeRow
    | ApprovalRow
    | ChargeRow
    | FinishRow
    | RecoveryRow
    | ForgetRow
)
Body = Annotated[AnyBody, Field(discriminator="row")]


class Row(Frozen):
    """One link of the chain."""

    sequence: Annotated[int, Field(ge=1)]
    at: Instant
    previous: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    body: Body

    @property
    def hash(self) -> str:
        """SHA-256 over the row and, through `previous`, all before it."""
        return hashlib.sha256(b"hansa/ledger/1\x00" + canonical_json(self)).hexdigest()

    @property
    def head(self) -> Head:
        """The ledger's head when this row is its newest."""
        return Head(sequence=self.sequence, hash=self.hash)


def following(head: Head, body: AnyBody) -> int:
    """Number of the row that follows a head: the next one, or behind what was lost."""
    lost = body.lost.receipt.head if isinstance(body, RecoveryRow) else None
    return max(head.sequence, 0 if lost is None else lost.sequence) + 1


def link(head: Head, at: datetime, body: AnyBody) -> Row:
    """The row that follows a head."""
    return Row(sequence=following(head, body), at=at, previous=head.hash, body=body)
