"""What members sign beside their messages: words that are shown to others later."""

from __future__ import annotations

from hansa.contract.messages import Receipt, Witness
from hansa.contract.typed import canonical_json


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


def finish_statement(job: str, attempt: int, order_digest: str) -> bytes:
    """What a member signs when it answered an attempt's unmasking."""
    return b"hansa/finish/1\x00" + canonical_json([job, attempt, order_digest])


def keys_statement(job: str, epoch: int, maker: str, charter: str, digest: str) -> bytes:
    """What a member signs of the keys of a job in mode `he` that it opened: their hash, and whose they are."""
    return b"hansa/keys/1\x00" + canonical_json([job, epoch, maker, charter, digest])
