"""What an answer of the agent's holds, read from the very bytes that are about to leave: facts, no words, no values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from hansa.contract.charter import Charter, Mode
from hansa.contract.features import BinaryLabel
from hansa.contract.jobs import JobPlan
from hansa.contract.messages import (
    Charged,
    Head,
    Receipt,
    RefusalReply,
    ReplyHeader,
    UnmaskReply,
    UploadReply,
)
from hansa.contract.order import Count, Digest
from hansa.contract.segments import UPDATE, walks_at_home
from hansa.contract.typed import Frozen, Slug, canonical_json
from hansa.contract.wire import DTYPES, digest, reply_header, unpack

# What a file that a person takes out is called beside the messages.
FILE = "file"
# What leaves in a message's header, not in an array.
RECEIPT, SHARES = "receipt", "shares"
# Messages of no consequence that come often: of one kind so many minutes are one entry.
CHATTER = ("hello", "witness", "close", "refusal")
# How the records got into an update: one sum of gradients, the way of several steps, sums of products.
Computed = Literal["", "gradients", "walk", "moments"]


class Part(Frozen):
    """One thing in a message and its size."""

    name: Slug
    bytes: Count


class Leaving(Frozen):
    """One message or file that leaves, as the outbox keeps it.

    Parameters
    ----------
    kind : type of the message (`contract.messages.Reply`), or `file`
    detail : a refusal's code, or which kind of file
    digest : SHA-256 of the message's signed header, which names the hash of every array behind it; of a file's bytes
    mode, noise, computed : how the parts were protected, as the charter had it then
    """

    kind: Slug
    detail: Annotated[str, Field(max_length=500)] = ""
    job: Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")] = ""
    attempt: Count = 0
    parts: Annotated[tuple[Part, ...], Field(max_length=32)] = ()
    bytes: Count
    digest: Digest
    mode: Mode = "clear"
    noise: Literal["none", "local", "distributed"] = "none"
    computed: Computed = ""
    # Whether figures of quality are histograms of scores, or sums of errors.
    histogram: bool = True
    # Of an upload: digest of the order, which the receipt's signature covers, and the receipt.
    order: Digest | Literal[""] = ""
    receipt: Receipt | None = None

    @property
    def charges(self) -> tuple[Charged, ...]:
        """What it was charged."""
        return () if self.receipt is None else self.receipt.charges

    @property
    def currencies(self) -> dict[str, str]:
        """Grant to the currency its charges are counted in."""
        return {} if self.receipt is None else {it.grant: it.currency for it in self.receipt.grants}

    @property
    def head(self) -> Head | None:
        """The ledger's newest row as the receipt has it."""
        return None if self.receipt is None else self.receipt.head

    @property
    def kinds(self) -> tuple[str, ...]:
        """By what it can be looked for: its kind, its parts, and which kind of file."""
        file = (self.detail.split(" ")[0],) if self.kind == FILE else ()
        return (self.kind, *(it.name for it in self.parts), *file)

    @property
    def purposes(self) -> tuple[str, ...]:
        """What it was charged for: check, train, evaluate."""
        return tuple(dict.fromkeys(it.purpose for it in self.charges))


class Sender:
    """Reads what leaves by work.sock.

    Parameters
    ----------
    plan : a job's plan, None where it is not known
    """

    def __init__(self, charter: Charter, plan: Callable[[str], JobPlan | None]) -> None:
        self._charter = charter
        self._plan = plan

    def read(self, message: bytes, job: str = "", attempt: int = 0, order: str = "") -> tuple[Leaving, str]:
        """What a message holds, and a key that is equal for messages that say the same again.

        Parameters
        ----------
        job, attempt, order : what the request was about, where its signature held; the order by its digest

        Raises
        ------
        MessageError : it is no reply
        """
        packed = unpack(message)
        header = reply_header(packed)
        body = header.body
        receipt = body.receipt if isinstance(body, UploadReply) else None
        if isinstance(body, RefusalReply) and self._plan(job) is None:
            # The operator makes up as many ids as it likes.
            job, attempt = "", 0
        found = Leaving(
            kind=body.type,
            detail=body.code if isinstance(body, RefusalReply) else "",
            job=job,
            attempt=attempt,
            parts=_parts(header),
            bytes=len(message),
            digest=digest(packed.header),
            mode=self._charter.protection.mode,
            noise=self._charter.privacy.noise,
            computed=self._computed(header, job),
            histogram=isinstance(self._charter.task.features.label, BinaryLabel),
            order=order if receipt is not None else "",
            receipt=receipt if receipt is not None and receipt.head is not None else None,
        )
        return found, _key(header, found)

    def _computed(self, header: ReplyHeader, job: str) -> Computed:
        if UPDATE not in {it.name for it in header.segments}:
            return ""
        if self._charter.training.mechanism == "moments":
            return "moments"
        plan = self._plan(job)
        return "walk" if plan is not None and walks_at_home(self._charter, plan) else "gradients"


def _parts(header: ReplyHeader) -> tuple[Part, ...]:
    """Arrays with their bytes, and what of worth lies in the header itself."""
    body = header.body
    parts = [Part(name=it.name, bytes=it.count * DTYPES[it.dtype].itemsize) for it in header.segments]
    if isinstance(body, UnmaskReply) and body.shares:
        parts.append(Part(name=SHARES, bytes=sum(len(it) for it in body.shares.values())))
    if isinstance(body, UploadReply) and body.receipt.head is not None:
        parts.append(Part(name=RECEIPT, bytes=len(canonical_json(body.receipt))))
    return tuple(parts)


def _key(header: ReplyHeader, found: Leaving) -> str:
    """Chatter without arrays by its kind; all else by every byte but which request it answers."""
    if found.kind in CHATTER and not found.parts:
        return f"{found.kind} {found.job} {found.detail}"
    return digest(canonical_json(header.model_copy(update={"request": "0" * 64})))
