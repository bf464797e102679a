"""`hansa evidence verify`: check an archive with nothing but the archive; a charter from elsewhere pins whose it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from hansa.clients.leaving import Leaving
from hansa.contract.archive import InvalidArchive, Manifest, read_signed
from hansa.contract.charter import Charter, charter_hash
from hansa.contract.errors import HansaError, InputError
from hansa.contract.keys import from_text, to_text, verify
from hansa.contract.messages import Head, Receipt, Seen
from hansa.contract.signatures import Signatures, signature_fits
from hansa.contract.statements import receipt_statement
from hansa.contract.typed import explain, parse_toml
from hansa.privacy.book import Book
from hansa.privacy.records import Row

T = TypeVar("T")
_ROWS: TypeAdapter[list[Row]] = TypeAdapter(list[Row])
_SEEN: TypeAdapter[list[Seen]] = TypeAdapter(list[Seen])
_LEAVING: TypeAdapter[list[Leaving]] = TypeAdapter(list[Leaving])


@dataclass
class Checked:
    """What was checked, a sentence each, and what could not be."""

    manifest: Manifest
    lines: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pinned:
    """What the reader knows from elsewhere: a charter file's bytes, an identity key; None where it knows neither."""

    charter: bytes | None = None
    identity_key: str | None = None


def check_archive(content: bytes, pinned: Pinned) -> Checked:
    """Check everything in an archive.

    Raises
    ------
    InvalidArchive : names the first thing that does not hold
    """
    manifest, files = read_signed(content)
    done = Checked(manifest)
    done.lines.append(
        f"archive: {len(files)} files, each with the SHA-256 that the manifest names, and no other byte"
    )
    done.lines.append(f"manifest: signed by the key {manifest.identity_key}")
    charter = _check_charter(done, files, pinned)
    book = _check_ledger(done, files, charter)
    _check_receipts(done, files, charter, book)
    _check_outbox(done, files, book)
    return done


def _check_charter(done: Checked, files: Mapping[str, bytes], pinned: Pinned) -> Charter:
    manifest, content = done.manifest, _file(files, "charter.toml")
    if charter_hash(content) != manifest.charter:
        raise InvalidArchive("charter.toml: its hash is not the one that the manifest names")
    try:
        charter = parse_toml(content, Charter, "charter.toml")
        signed = Signatures.model_validate_json(_file(files, "charter-signatures.json"))
    except ValidationError as error:
        raise InvalidArchive(f"charter-signatures.json: {explain(error)}") from None
    except InputError as error:
        raise InvalidArchive(str(error)) from None
    for it in charter.members:
        if not signature_fits(signed.signatures.get(it.name, ""), it.identity_key, manifest.charter):
            raise InvalidArchive(f"charter-signatures.json: no signature of '{it.name}' fits the charter")
    done.lines.append(
        f"charter: '{charter.name}' version {charter.version}, {manifest.charter}, signed by all "
        f"{len(charter.members)} members"
    )
    own = charter.member(manifest.organisation)
    if own is None or own.identity_key != manifest.identity_key:
        raise InvalidArchive(f"the charter does not name the manifest's key for '{manifest.organisation}'")
    done.lines.append(f"signer: the charter names this key for '{own.name}' ({own.controller})")
    _check_pinned(done, charter, pinned)
    return charter


def _check_pinned(done: Checked, charter: Charter, pinned: Pinned) -> None:
    key = done.manifest.identity_key
    if pinned.identity_key is not None:
        if pinned.identity_key != key:
            raise InvalidArchive(f"it is signed by the key {key}, and the one given is {pinned.identity_key}")
        done.lines.append("pinned: it is the identity key that was given")
    if pinned.charter is not None:
        if charter_hash(pinned.charter) != done.manifest.charter:
            raise InvalidArchive(
                f"its charter ({done.manifest.charter}) is not the one given ({charter_hash(pinned.charter)})"
            )
        done.lines.append("pinned: its charter is the one that was given, byte for byte")
    if pinned == Pinned():
        done.open.append(
            f"whose key it is was not checked: give --charter or --identity from elsewhere, or compare the charter's "
            f"hash, {done.manifest.charter}"
        )


def _check_ledger(done: Checked, files: Mapping[str, bytes], charter: Charter) -> Book:
    found = _json(files, "ledger.json")
    rows, manifest, book = found.get("rows", []), done.manifest, Book()
    try:
        for number, it in enumerate(rows, start=1):
            said = it.pop("hash", None)
            row = Row.model_validate_json(json.dumps(it))
            if row.hash != said:
                raise InvalidArchive(f"ledger.json: entry {number} does not have the hash it names")
            book.apply(row)
    except ValidationError as error:
        raise InvalidArchive(f"ledger.json: {explain(error)}") from None
    except (AttributeError, TypeError):
        raise InvalidArchive("ledger.json: is no list of rows") from None
    except InvalidArchive:
        raise
    except HansaError as error:
        raise InvalidArchive(f"ledger.json: {error}") from None
    if book.head != Head(sequence=manifest.head_sequence, hash=manifest.head_hash):
        raise InvalidArchive("ledger.json: its newest row is not the one that the manifest names")
    if charter.privacy.noise == "none":
        done.lines.append("ledger: none, because the charter has no noise")
    else:
        done.lines.append(
            f"ledger: {len(rows)} rows, the chain of hashes whole to row {book.head.sequence}, every row allowed by "
            "the ledger's laws"
        )
        done.open.append("epsilons were not recomputed by other software here: hansa budgets verify does so")
    return book


def _check_receipts(done: Checked, files: Mapping[str, bytes], charter: Charter, book: Book) -> None:
    found, manifest = _json(files, "receipts.json"), done.manifest
    own = _parse(_SEEN, found.get("own"), "receipts.json")
    for it in own:
        _check_receipt(it, manifest.organisation, manifest.identity_key)
        head = it.receipt.head
        if it.job != manifest.job or head is None or not book.knows(head):
            raise InvalidArchive(
                f"receipts.json: the receipt of attempt {it.attempt} ends at a row that the ledger does not have"
            )
    by_key = {it.identity_key: it.name for it in charter.members}
    others = found.get("others", [])
    for it in others:
        [seen] = _parse(_SEEN, [it.get("seen")], "receipts.json")
        # Kept under the key's bytes or text.
        key = _key_text(str(it.get("key", "")))
        if key not in by_key:
            raise InvalidArchive("receipts.json: a receipt of a key that the charter does not name")
        _check_receipt(seen, by_key[key], key)
    done.lines.append(
        f"receipts: {len(own)} of its own, signed, each ending at a row of the ledger; {len(others)} of the "
        "others, signed"
    )


def _check_receipt(seen: Seen, member: str, key: str) -> None:
    statement = receipt_statement(seen.job, seen.attempt, seen.order, member, seen.receipt)
    try:
        signature = from_text(seen.receipt.signature)
    except ValueError:
        signature = b""
    if not verify(from_text(key), signature, statement):
        raise InvalidArchive(f"receipts.json: '{member}' did not sign the receipt of attempt {seen.attempt}")


def _check_outbox(done: Checked, files: Mapping[str, bytes], book: Book) -> None:
    try:
        facts = [it["facts"] for it in json.loads(_file(files, "outbox.json"))]
    except (ValueError, KeyError, TypeError):
        raise InvalidArchive("outbox.json: is no list of entries") from None
    leaving = _parse(_LEAVING, facts, "outbox.json")
    for it in leaving:
        if it.job != done.manifest.job:
            raise InvalidArchive("outbox.json: an entry of another job")
        if it.receipt is not None:
            _check_charged(it, it.receipt, book)
    uploads = sum(it.kind == "upload" for it in leaving)
    done.lines.append(
        f"outbox: {len(leaving)} entries, {uploads} of them uploads, each charged in the ledger as it says"
    )


def _check_charged(it: Leaving, receipt: Receipt, book: Book) -> None:
    """What its receipt says it was charged stands in the ledger, unless a recovery made up for lost rows."""
    rows = [row for row in book.charges_of(it.job, it.attempt) if not row.recovered]
    if any(row.recovered for row in book.charges.values()):
        return
    said = sorted((one.grant, one.purpose, one.amount) for one in receipt.charges)
    if said != sorted((row.grant, row.purpose, row.amount) for row in rows):
        raise InvalidArchive(
            f"outbox.json: attempt {it.attempt} was not charged in the ledger what its entry says"
        )


def _key_text(key: str) -> str:
    try:
        return to_text(bytes.fromhex(key))
    except ValueError:
        return key


def _file(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise InvalidArchive(f"{name}: is missing")
    return files[name]


def _json(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        found = json.loads(_file(files, name))
    except (ValueError, RecursionError):
        raise InvalidArchive(f"{name}: is no JSON") from None
    if not isinstance(found, dict):
        raise InvalidArchive(f"{name}: is no JSON object")
    return found


def _parse(kind: TypeAdapter[T], value: Any, name: str) -> T:
    try:
        return kind.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise InvalidArchive(f"{name}: {explain(error)}") from None


def report(done: Checked) -> Iterator[str]:
    """For people: what holds, then what was not checked."""
    for line in done.lines:
        yield f"ok   {line}"
    for line in done.open:
        yield f"open {line}"
