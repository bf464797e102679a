"""`hansa evidence verify`: check an archive with nothing but the archive; a charter from elsewhere pins whose it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from hansa.cli.evidence_charters import Chain, check_later, read_chain
from hansa.cli.evidence_checked import Checked, Pinned, file_of, json_of
from hansa.cli.evidence_decisions import decisions_of
from hansa.cli.evidence_receipts import check_older, check_outbox, check_receipts
from hansa.contract.archive import InvalidArchive, read_signed
from hansa.contract.charter import Charter, charter_hash
from hansa.contract.errors import HansaError, InputError
from hansa.contract.messages import Head
from hansa.contract.signatures import Signatures, signature_fits
from hansa.contract.typed import explain, parse_toml
from hansa.privacy.book import Book
from hansa.privacy.records import Row

# What nothing in an archive can be held against.
SAID_ONLY = (
    "job.json",
    "organisation.json",
    "versions.json",
    "attempts.json",
    "uploads.json",
    "events.json",
    "refusals.json",
    "models.json",
    "forgotten.json",
    "readme.txt",
)


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
    book, rows = _check_ledger(done, files, charter)
    _check_decisions(done, files, rows)
    check_receipts(done, files, charter, book)
    check_outbox(done, files, charter, book)
    check_older(done, files)
    said = [it for it in SAID_ONLY if it in files]
    done.open.append(f"signed, and held against nothing else here: {', '.join(said)}")
    return done


def _check_charter(done: Checked, files: Mapping[str, bytes], pinned: Pinned) -> Charter:
    manifest, content = done.manifest, file_of(files, "charter.toml")
    if charter_hash(content) != manifest.charter:
        raise InvalidArchive("charter.toml: its hash is not the one that the manifest names")
    try:
        charter = parse_toml(content, Charter, "charter.toml")
        signed = Signatures.model_validate_json(file_of(files, "charter-signatures.json"))
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
    if own is None:
        raise InvalidArchive(f"the charter does not have '{manifest.organisation}'")
    chain = read_chain(files, charter, manifest.charter)
    if check_later(done, chain, pinned) != manifest.identity_key:
        raise InvalidArchive(f"the charter does not name the manifest's key for '{manifest.organisation}'")
    done.lines.append(f"signer: the charter names this key for '{own.name}' ({own.controller})")
    _check_pinned(done, chain, pinned)
    return charter


def _check_pinned(done: Checked, chain: Chain, pinned: Pinned) -> None:
    key = done.manifest.identity_key
    if pinned.identity_key is not None:
        if pinned.identity_key != key:
            raise InvalidArchive(f"it is signed by the key {key}, and the one given is {pinned.identity_key}")
        done.lines.append("pinned: it is the identity key that was given")
    if pinned.charter is not None:
        given = charter_hash(pinned.charter)
        if given not in chain.hashes:
            raise InvalidArchive(f"its charter ({done.manifest.charter}) is not the one given ({given})")
        whose = "its charter" if given == chain.hashes[0] else "a later version of its charter"
        done.lines.append(f"pinned: {whose} is the one that was given, byte for byte")
    if pinned == Pinned():
        done.open.append(
            f"whose key it is was not checked: give --charter or --identity from elsewhere, or compare the charter's "
            f"hash, {done.manifest.charter}"
        )


def _check_ledger(done: Checked, files: Mapping[str, bytes], charter: Charter) -> tuple[Book, list[Row]]:
    found = json_of(files, "ledger.json")
    rows: list[Row] = []
    manifest, book = done.manifest, Book()
    try:
        for number, it in enumerate(found.get("rows", []), start=1):
            said = it.pop("hash", None)
            row = Row.model_validate_json(json.dumps(it))
            if row.hash != said:
                raise InvalidArchive(f"ledger.json: entry {number} does not have the hash it names")
            book.apply(row)
            rows.append(row)
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
    return book, rows


def _check_decisions(done: Checked, files: Mapping[str, bytes], rows: Sequence[Row]) -> None:
    """Approvals, grants and charges are rows of the ledger; the sentences on them may be of another version."""
    found, held = json_of(files, "approvals.json"), decisions_of(rows, done.manifest.job)
    if _bare(found) != _bare(held):
        raise InvalidArchive("approvals.json: is not what the ledger says of this job")
    counts = ", ".join(f"{len(it)} {name if len(it) != 1 else name[:-1]}" for name, it in held.items())
    done.lines.append(f"approvals: {counts}, all that the ledger has of this job and no other")
    if found != held:
        done.open.append('approvals.json: what stands at "says" is not in the words of this version')


def _bare(decisions: Mapping[str, Any]) -> dict[str, Any]:
    """Without the sentences for people."""
    return {
        name: [
            {key: it for key, it in row.items() if key != "says"} if isinstance(row, dict) else row
            for row in rows
        ]
        if isinstance(rows, list)
        else rows
        for name, rows in decisions.items()
    }


def report(done: Checked) -> Iterator[str]:
    """For people: what holds, then what was not checked."""
    for line in done.lines:
        yield f"ok   {line}"
    for line in done.open:
        yield f"open {line}"
