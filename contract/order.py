"""An order: the part of a request that every member of a cohort sees alike (PROTOCOL 4.1), and bounded small types.

Every field is bounded: what a stranger can send is small.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from hansa.contract.jobs import MOST_FACTORS, AttemptKind, JobId
from hansa.contract.typed import Frozen, Sentence, Slug, canonical_json

DtypeName = Literal["f64", "u32", "u8"]
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
# By what the step of a sum is multiplied; 0 drops it.
Factor = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
FactValue = (
    Annotated[int, Field(gt=-(2**63), lt=2**63)] | Annotated[Sentence, Field(max_length=FACT_CHARACTERS)]
)


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
    # The cohort's largest noise multiplier of each segment: sets the grid's room for noise; empty without privacy.
    noise: Annotated[dict[Slug, Annotated[float, Field(gt=0, le=1e9)]], Field(max_length=8)] = {}
    evaluate: bool = False
    # A probe (PROTOCOL 4.1): the train attempt whose sum it tries, and by what its step is multiplied.
    probes: Annotated[int, Field(ge=0, lt=2**63)] = 0
    factors: Annotated[tuple[Factor, ...], Field(max_length=MOST_FACTORS)] = ()
    # In mode `he`: number of the job's keys, and the tag of the state that the attempt starts from; empty at round 0.
    epoch: Annotated[int, Field(ge=0, lt=2**31)] = 0
    state: Digest | Literal[""] = ""
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
