"""Copies that somebody changed: a check that lets one of them pass has proved nothing."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hansa.cli.evidence_checked import Pinned
from hansa.cli.evidence_verify import check_archive
from hansa.contract.archive import Manifest, pack, pack_signed, read_signed, unpack
from hansa.contract.errors import HansaError
from hansa.contract.keys import SigningKey, to_text
from hansa.contract.typed import canonical_json
from hansa.privacy.records import ChargeRow, Row


@dataclass(frozen=True)
class Tampered:
    """A changed copy of an archive of evidence.

    Parameters
    ----------
    change : what was done to it; copies of one kind share it
    where : which file in it, where the change is in one
    """

    change: str
    content: bytes
    where: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a check said of a changed copy; no reason: it let the copy pass."""

    change: str
    reason: str

    @property
    def refused(self) -> bool:
        """As every changed copy must be."""
        return bool(self.reason)

    @property
    def short(self) -> str:
        """The reason's first sentence."""
        return self.reason.split(". ")[0]


def judge(copies: Iterable[Tampered], pinned: Pinned) -> list[Verdict]:
    """Check each copy as `hansa evidence verify` does."""
    return [verdict(it.change, partial(check_archive, it.content, pinned)) for it in copies]


def verdict(change: str, check: Callable[[], object]) -> Verdict:
    """What a check that raises for whatever does not hold says of a changed copy."""
    try:
        check()
    except HansaError as error:
        return Verdict(change, str(error))
    return Verdict(change, "")


def tampered_copies(content: bytes, identity: SigningKey) -> Iterator[Tampered]:
    """Copies of an archive, each with one change: by anybody, by a stranger with a key, by the organisation itself.

    Parameters
    ----------
    identity : the organisation's own key, which signs what it changed
    """
    files = unpack(content)
    manifest, signed = read_signed(content)
    for name, held in files.items():
        yield Tampered("one bit of a file in it", pack({**files, name: flipped(held)}), name)
    for name in files:
        yield Tampered("a file left out", pack({key: it for key, it in files.items() if key != name}), name)
    yield Tampered("a file more", pack({**files, "more.txt": b"more"}))
    yield Tampered("one bit of the whole", flipped(content))
    yield Tampered("its last byte cut off", content[:-1])
    yield Tampered("a byte more at its end", content + b"\0")
    stranger = SigningKey.generate()
    yield Tampered("signed again by a stranger", pack_signed(signed, manifest, stranger))
    theirs = manifest.model_copy(update={"identity_key": to_text(stranger.public)})
    yield Tampered("signed again by a stranger, named in the manifest", pack_signed(signed, theirs, stranger))
    yield from _by_itself(signed, manifest, identity)


def _by_itself(files: dict[str, bytes], manifest: Manifest, identity: SigningKey) -> Iterator[Tampered]:
    """What only the organisation can make: other contents under its own good signature."""
    ledger = json.loads(files["ledger.json"])
    charges = [number for number, it in enumerate(ledger["rows"]) if it["body"]["row"] == "charge"]
    if charges:
        # The manifest's head goes back with it: what speaks against it is what others saw.
        ledger["rows"] = ledger["rows"][: charges[-1]]
        newest = ledger["rows"][-1]
        head = {"head_sequence": newest["sequence"], "head_hash": newest["hash"]}
        shorter = manifest.model_copy(update=head)
        yield Tampered(
            "the newest charge cut off the ledger, signed by its own key",
            _signed_with(files, "ledger.json", ledger, shorter, identity),
            "ledger.json",
        )
    outbox = json.loads(files["outbox.json"])
    receipts = (it["facts"]["receipt"] for it in outbox)
    paid = next((it["charges"] for it in receipts if it is not None and it["charges"]), None)
    if paid is not None:
        paid[0]["amount"] /= 2
        yield Tampered(
            "a charge halved in the outbox, signed by its own key",
            _signed_with(files, "outbox.json", outbox, manifest, identity),
            "outbox.json",
        )


def _signed_with(
    files: dict[str, bytes], name: str, value: Any, manifest: Manifest, identity: SigningKey
) -> bytes:
    return pack_signed({**files, name: json.dumps(value).encode()}, manifest, identity)


def flipped(content: bytes) -> bytes:
    """With the lowest bit of its middle byte turned."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def changed_backup(archive: Path, out: Path, name: str) -> None:
    """A copy of a backup in which one file has another byte, under the manifest as it was."""
    with tarfile.open(archive) as old, tarfile.open(out, "w:gz") as new:
        for entry in old:
            file = old.extractfile(entry)
            assert file is not None
            content = file.read()
            new.addfile(entry, io.BytesIO(flipped(content) if entry.name == name else content))


def halve_newest_charge(ledger: Path) -> int:
    """Halve the newest charge in a ledger's file and give that row the hash it then has; its number.

    The file's own rules forbid it; whoever owns the file can drop them.

    Raises
    ------
    HansaError : there is no charge in it
    """
    with closing(sqlite3.connect(ledger)) as db, db:
        contents = db.execute("SELECT content FROM rows ORDER BY sequence DESC")
        rows = (Row.model_validate_json(it) for (it,) in contents)
        row = next((it for it in rows if isinstance(it.body, ChargeRow)), None)
        if row is None or not isinstance(row.body, ChargeRow):
            raise HansaError(f"{ledger}: has no charge that could be changed")
        body = row.body.model_copy(update={"amount": row.body.amount / 2})
        changed = row.model_copy(update={"body": body})
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{trigger}"')
        values = (canonical_json(changed).decode(), changed.hash, row.sequence)
        db.execute("UPDATE rows SET content = ?, hash = ? WHERE sequence = ?", values)
    return row.sequence
