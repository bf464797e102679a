"""Charter signatures: every member signs the charter's hash; what was signed once is pinned.

`charter.signatures.json` stands beside `charter.toml` and holds one Ed25519 signature of each
member over `b"hansa/charter/1\\0"` and the 32 bytes of the hash. A charter counts when all have
signed: an agent must not find out later that somebody never agreed.

A member's folder keeps a pin: the newest version it has obeyed. An older version is refused for
ever, and a newer one must name the pinned hash as `previous`, so that nobody can put a different
history under a member's feet.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hansa.contract.charter import MOST_BYTES, Charter, Hash, charter_hash
from hansa.contract.errors import CharterError, InputError
from hansa.contract.keys import Signer, SigningKey, from_text, to_text, verify
from hansa.contract.typed import Frozen, Slug, parse_document, parse_toml, read_file, write_atomically

DOMAIN = b"hansa/charter/1\0"
PIN = "pin.json"
# Charters that a member has obeyed, by their hashes.
KEPT = "charters"


class CharterSuperseded(CharterError):
    """The charter is older than one that this member has obeyed."""


class Signatures(Frozen):
    """`charter.signatures.json`: whose signature stands under which hash."""

    charter: Hash
    signatures: dict[Slug, str]


class Pin(Frozen):
    """The newest charter a member has obeyed, and the hashes of those before."""

    version: int
    hash: Hash
    superseded: tuple[Hash, ...] = ()


@dataclass(frozen=True)
class VerifiedCharter:
    """A charter under which every member's signature stands; `content` are the file's bytes."""

    charter: Charter
    hash: str
    signatures: Mapping[str, str]
    content: bytes


def read_charter(path: Path) -> tuple[Charter, str]:
    """A charter file and its hash, signed or not."""
    content = read_file(path, limit=MOST_BYTES)
    return parse_toml(content, Charter, path), charter_hash(content)


def read_signatures(path: Path) -> Signatures:
    """Read `charter.signatures.json`."""
    try:
        document = json.loads(read_file(path, limit=MOST_BYTES))
    except ValueError as error:
        raise CharterError(f"{path}: not valid JSON: {error}") from None
    except RecursionError:
        raise CharterError(f"{path}: is nested too deeply; this is another kind of document") from None
    return parse_document(document, Signatures, path)


def signature_for(digest: str, signer: Signer) -> str:
    """A member's signature on the charter of that hash, base64."""
    return to_text(signer.sign(DOMAIN + bytes.fromhex(digest)))


def sign_charter(charter_path: Path, signatures_path: Path, name: str, key: SigningKey) -> Signatures:
    """Add one member's signature to the file; signatures on another text are dropped, since they cannot fit.

    Raises
    ------
    CharterError : `name` is no member, or the key is not the one the charter names for it
    """
    charter, digest = read_charter(charter_path)
    member = charter.member(name)
    if member is None:
        members = ", ".join(it.name for it in charter.members)
        raise CharterError(f"{charter_path}: '{name}' is not a member; the members are {members}")
    if to_text(key.public) != member.identity_key:
        raise CharterError(f"{charter_path}: the key given is not the identity_key of member '{name}'")
    earlier = read_signatures(signatures_path) if signatures_path.exists() else None
    kept = earlier.signatures if earlier is not None and earlier.charter == digest else {}
    signed = Signatures(charter=digest, signatures={**kept, name: signature_for(digest, key)})
    write_signatures(signatures_path, signed)
    return signed


def write_signatures(path: Path, signatures: Signatures) -> None:
    """Write `charter.signatures.json`, readable by a person."""
    write_atomically(path, json.dumps(signatures.model_dump(), indent=2, sort_keys=True).encode() + b"\n")


def verify_charter(charter_path: Path, signatures_path: Path) -> VerifiedCharter:
    """Read a charter and check that every member has signed exactly these bytes.

    Raises
    ------
    CharterError : naming the first member whose signature is missing or does not fit, and how many more
    """
    content = read_file(charter_path, limit=MOST_BYTES)
    digest = charter_hash(content)
    if not signatures_path.exists():
        raise CharterError(f"{signatures_path}: no such file; each member signs with: hansa charter sign")
    signed = read_signatures(signatures_path)
    try:
        charter = parse_toml(content, Charter, charter_path)
    except InputError as error:
        if signed.charter == digest or not signed.signatures:
            raise
        # The change broke the text itself; whose signatures it broke is still the more useful thing to say.
        raise _does_not_fit(charter_path, sorted(signed.signatures), f"; {error}") from None
    names = [member.name for member in charter.members]
    missing = [name for name in names if name not in signed.signatures]
    wrong = [
        member.name
        for member in charter.members
        if member.name in signed.signatures
        and not signature_fits(signed.signatures[member.name], member.identity_key, digest)
    ]
    if wrong:
        raise _does_not_fit(charter_path, wrong)
    if missing:
        raise CharterError(
            f"{signatures_path}: the signature of member '{missing[0]}' is missing{_and_more(missing)}; "
            f"it signs with: hansa charter sign {charter_path.name} --name {missing[0]} --identity FILE"
        )
    return VerifiedCharter(charter, digest, signed.signatures, content)


def read_pin(folder: Path) -> Pin | None:
    """What the member of this folder has pinned, or None before its first charter."""
    path = folder / PIN
    if not path.exists():
        return None
    try:
        document = json.loads(read_file(path))
    except ValueError as error:
        raise CharterError(f"{path}: not valid JSON: {error}") from None
    return parse_document(document, Pin, path)


def check_pin(folder: Path, verified: VerifiedCharter) -> Pin | None:
    """Whether this member may obey the charter; returns the pin it had.

    Raises
    ------
    CharterSuperseded : the charter is older than the pinned one
    CharterError : another text of the pinned version, or a version that does not follow the pinned one
    """
    pinned = read_pin(folder)
    if pinned is None or pinned.hash == verified.hash:
        return pinned
    version = verified.charter.version
    if version < pinned.version:
        raise CharterSuperseded(
            f"charter version {version} was superseded: version {pinned.version} is pinned in {folder / PIN}"
        )
    if version == pinned.version:
        raise CharterError(
            f"charter version {version} is not the text pinned in {folder / PIN}; "
            "a change needs a new version"
        )
    if version != pinned.version + 1 or verified.charter.previous != pinned.hash:
        raise CharterError(
            f"charter version {version} does not follow the pinned version {pinned.version}: "
            f'expected version {pinned.version + 1} with previous = "{pinned.hash}"'
        )
    return pinned


def pin(folder: Path, verified: VerifiedCharter) -> Pin:
    """Check and write the pin, durably: once this returns, an older version is refused even after a crash.

    The charter is kept, too (`kept_charter`).
    """
    before = check_pin(folder, verified)
    keep_charter(folder, verified)
    if before is not None and before.hash == verified.hash:
        return before
    superseded = () if before is None else (*before.superseded, before.hash)
    pinned = Pin(version=verified.charter.version, hash=verified.hash, superseded=superseded)
    write_atomically(folder / PIN, pinned.model_dump_json(indent=2).encode() + b"\n", mode=0o600)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return pinned


def kept_charter(folder: Path, digest: str) -> tuple[Path, Path]:
    """Where a member's folder keeps a charter of that hash that it has obeyed, and the signatures on it."""
    kept = folder / KEPT
    return kept / f"{digest}.toml", kept / f"{digest}.signatures.json"


def keep_charter(folder: Path, verified: VerifiedCharter) -> None:
    """Keep a charter that this member obeys: what is done under it is proved with it later."""
    path, signatures = kept_charter(folder, verified.hash)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if not signatures.exists():
        write_signatures(signatures, Signatures(charter=verified.hash, signatures=dict(verified.signatures)))
    if not path.exists():
        write_atomically(path, verified.content, mode=0o600)


def signature_fits(signature: str, identity_key: str, digest: str) -> bool:
    """Whether a member's signature stands under the charter of that hash; False for anything malformed."""
    try:
        raw = from_text(signature)
    except ValueError:
        return False
    return verify(from_text(identity_key), raw, DOMAIN + bytes.fromhex(digest))


def _does_not_fit(path: Path, names: list[str], reason: str = "") -> CharterError:
    return CharterError(
        f"{path}: the signature of member '{names[0]}' does not fit this charter{_more(names)}: "
        f"the file was changed after it was signed, or the signature was{reason}"
    )


def _more(names: list[str]) -> str:
    more = len(names) - 1
    return f", nor {more} more" if more else ""


def _and_more(names: list[str]) -> str:
    more = len(names) - 1
    return f", and {more} more" if more else ""
