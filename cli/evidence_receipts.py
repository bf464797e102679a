"""Receipts and the outbox of an archive, held against signatures and the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import TypeAdapter

from hansa.cli.evidence_checked import Checked, file_of, json_of, parsed
from hansa.clients.leaving import Leaving
from hansa.clients.outbox_reading import Older
from hansa.contract.archive import InvalidArchive, Manifest
from hansa.contract.charter import Charter
from hansa.contract.keys import from_text, to_text, verify
from hansa.contract.messages import Seen
from hansa.contract.statements import receipt_statement
from hansa.contract.typed import Frozen
from hansa.privacy.book import Book

_SEEN: TypeAdapter[list[Seen]] = TypeAdapter(list[Seen])
_LEAVING: TypeAdapter[list[Leaving]] = TypeAdapter(list[Leaving])
_OLDER: TypeAdapter[list[Older]] = TypeAdapter(list[Older])


class OfAnother(Frozen):
    """Another member's receipt, as this one kept it: under the bytes of its key, or their text."""

    key: str
    seen: Seen


_OTHERS: TypeAdapter[list[OfAnother]] = TypeAdapter(list[OfAnother])


def check_receipts(done: Checked, files: Mapping[str, bytes], charter: Charter, book: Book) -> None:
    """Every receipt is signed; its own end at rows of the ledger.

    Raises
    ------
    InvalidArchive : one does not hold
    """
    found, manifest = json_of(files, "receipts.json"), done.manifest
    own, key = parsed(_SEEN, found.get("own"), "receipts.json"), _key_of(manifest, charter)
    lost = 0
    for it in own:
        _check_receipt(it, manifest.organisation, key, "receipts.json")
        if it.job != manifest.job:
            raise InvalidArchive("receipts.json: a receipt of its own of another job")
        lost += not _in_ledger(it, book, "receipts.json")
    by_key = {it.identity_key: it.name for it in charter.members}
    others = parsed(_OTHERS, found.get("others"), "receipts.json")
    for other in others:
        theirs = _key_text(other.key)
        if theirs not in by_key:
            raise InvalidArchive("receipts.json: a receipt of a key that the charter does not name")
        _check_receipt(other.seen, by_key[theirs], theirs, "receipts.json")
    done.lines.append(
        f"receipts: {len(own) - lost} of its own, signed, each ending at a row of the ledger; {len(others)} of the "
        "others, signed"
    )
    if lost:
        done.open.append(
            f"receipts: {lost} of its own, signed, end at rows that were lost; the ledger has a recovery for them"
        )


def _in_ledger(seen: Seen, book: Book, name: str) -> bool:
    """Whether the row that a receipt ends at is there; False where it was lost and a recovery made up for it."""
    head = seen.receipt.head
    if head is not None and book.knows(head):
        return True
    if head is None or book.behind(seen):
        raise InvalidArchive(
            f"{name}: the receipt of attempt {seen.attempt} ends at a row that the ledger does not have"
        )
    return False


def _check_receipt(seen: Seen, member: str, key: str, name: str) -> None:
    statement = receipt_statement(seen.job, seen.attempt, seen.order, member, seen.receipt)
    try:
        signature = from_text(seen.receipt.signature)
    except ValueError:
        signature = b""
    if not verify(from_text(key), signature, statement):
        raise InvalidArchive(f"{name}: '{member}' did not sign the receipt of attempt {seen.attempt}")


def check_outbox(done: Checked, files: Mapping[str, bytes], charter: Charter, book: Book) -> None:
    """With noise every upload has a receipt, and the ledger has its charges.

    Raises
    ------
    InvalidArchive : one does not hold
    """
    try:
        facts = [it["facts"] for it in json.loads(file_of(files, "outbox.json"))]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidArchive("outbox.json: is no list of entries") from None
    leaving = parsed(_LEAVING, facts, "outbox.json")
    if any(it.job != done.manifest.job for it in leaving):
        raise InvalidArchive("outbox.json: an entry of another job")
    uploads = [it for it in leaving if it.kind == "upload"]
    if charter.privacy.noise == "none":
        done.lines.append(
            f"outbox: {len(leaving)} entries, {len(uploads)} of them uploads, for which nothing is charged"
        )
        return
    key = _key_of(done.manifest, charter)
    held = sum(_check_charged(it, done.manifest, key, book) for it in uploads)
    done.lines.append(
        f"outbox: {len(leaving)} entries, {len(uploads)} of them uploads; {held} held against the ledger, each "
        "charged there what its receipt says"
    )
    if held < len(uploads):
        done.open.append(
            f"outbox: {len(uploads) - held} uploads were charged in rows that were lost; the ledger has a recovery "
            "for them, which names sums, not attempts"
        )


def _check_charged(it: Leaving, manifest: Manifest, key: str, book: Book) -> bool:
    """Whether what an upload's receipt says it was charged stands in the ledger; False where those rows were lost."""
    name = "outbox.json"
    if it.receipt is None or not it.order or not it.receipt.charges:
        raise InvalidArchive(
            f"{name}: the upload of attempt {it.attempt} has no receipt that says what it was charged"
        )
    facts = {
        "job": it.job,
        "attempt": it.attempt,
        "order": it.order,
        "receipt": it.receipt.model_dump(mode="json"),
    }
    [seen] = parsed(_SEEN, [facts], name)
    _check_receipt(seen, manifest.organisation, key, name)
    if not _in_ledger(seen, book, name):
        return False
    rows = [row for row in book.charges_of(it.job, it.attempt) if not row.recovered]
    said = sorted((one.grant, one.purpose, one.amount) for one in it.receipt.charges)
    if said != sorted((row.grant, row.purpose, row.amount) for row in rows):
        raise InvalidArchive(
            f"{name}: attempt {it.attempt} was not charged in the ledger what its entry says"
        )
    return True


def check_older(done: Checked, files: Mapping[str, bytes]) -> None:
    """Sums are of this job; that they name no charges is said.

    Raises
    ------
    InvalidArchive : one does not hold
    """
    if "older.json" not in files:
        done.open.append("older: it has none; it was made before sums were kept, or they were left out")
        return
    try:
        older = parsed(_OLDER, json.loads(file_of(files, "older.json")), "older.json")
    except (ValueError, RecursionError):
        raise InvalidArchive("older.json: is no list of sums") from None
    if any(it.job != done.manifest.job for it in older):
        raise InvalidArchive("older.json: a sum of another job")
    if messages := sum(it.messages for it in older):
        done.open.append(
            f"older: {messages} messages are kept as sums only, so their charges were not compared"
        )


def _key_of(manifest: Manifest, charter: Charter) -> str:
    """The key with which the organisation signed its receipts: the one of the job's time."""
    own = charter.member(manifest.organisation)
    if own is None:
        raise InvalidArchive(f"the charter does not have '{manifest.organisation}'")
    return own.identity_key


def _key_text(key: str) -> str:
    try:
        return to_text(bytes.fromhex(key))
    except ValueError:
        return key
