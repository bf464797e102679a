"""A folder as one file with one form only: the same contents are the same bytes, so no byte can change unseen.

ZIP without compression, names in order, no times, no comments, no other fields. Whoever reads one writes it anew
and compares: what a ZIP could hide (a second file of the same name, bytes between files, a compressed bomb) is
found without being unpacked. A manifest holds every file's SHA-256 and is signed.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, ValidationError

from hansa.contract.errors import HansaError
from hansa.contract.keys import Signer, from_text, to_text, verify
from hansa.contract.order import Digest
from hansa.contract.typed import Frozen, Slug, canonical_json, clipped, explain

MANIFEST, SIGNATURE = "manifest.json", "manifest.signature"
MOST_BYTES, MOST_FILES = 1 << 28, 256
DOMAIN = b"hansa/evidence/1\x00"
_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,60}(\.[a-z0-9]{1,12}){1,2}$")
_EPOCH = (1980, 1, 1, 0, 0, 0)


class InvalidArchive(HansaError):
    """An archive that is not what its maker signed; says what does not hold."""


class FileFacts(Frozen):
    """One file of an archive."""

    sha256: Digest
    bytes: Annotated[int, Field(ge=0, le=MOST_BYTES)]


class Manifest(Frozen):
    """What an archive holds, as its maker signed it.

    Parameters
    ----------
    made : when, UTC, ISO 8601 to the second
    charter : hash of the charter
    identity_key : the maker's public key, base64
    head : sequence number and hash of the ledger's newest row; 0 and zeros where there is none
    """

    format: Annotated[str, Field(pattern=r"^hansa/evidence/1$")] = "hansa/evidence/1"
    organisation: Slug
    job: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    made: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$", max_length=25)]
    charter: Digest
    identity_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")]
    head_sequence: Annotated[int, Field(ge=0)] = 0
    head_hash: Digest = "0" * 64
    files: Annotated[dict[str, FileFacts], Field(max_length=MOST_FILES)] = {}


def pack_signed(files: Mapping[str, bytes], manifest: Manifest, signer: Signer) -> bytes:
    """An archive of these files, with its manifest and the signature on that."""
    facts = {
        name: FileFacts(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        for name, content in files.items()
    }
    content = canonical_json(manifest.model_copy(update={"files": facts}))
    signature = to_text(signer.sign(DOMAIN + content)).encode()
    return pack({**files, MANIFEST: content, SIGNATURE: signature})


def pack(files: Mapping[str, bytes]) -> bytes:
    """The one form of these files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            if not _NAME.fullmatch(name):
                raise ValueError(f"an archive has no file '{name}'")
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system, info.external_attr = 3, 0o600 << 16
            archive.writestr(info, files[name])
    return out.getvalue()


def unpack(content: bytes) -> dict[str, bytes]:
    """The files of an archive, in order.

    Raises
    ------
    InvalidArchive : it is none, or not in the one form
    """
    if len(content) > MOST_BYTES:
        raise InvalidArchive(f"{len(content)} bytes, and an archive has at most {MOST_BYTES}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            _check_entries(entries)
            files = {it.filename: archive.read(it) for it in entries}
        again = pack(files)
    except InvalidArchive:
        raise
    # What zipfile raises on hostile bytes has no class of its own (struct.error, IndexError, zlib.error, ...).
    except Exception as error:
        raise InvalidArchive(f"no archive can be read from it ({clipped(str(error), 200)})") from None
    if again != content:
        where = next((i for i, (a, b) in enumerate(zip(again, content, strict=False)) if a != b), len(again))
        raise InvalidArchive(
            f"byte {where} is not as its maker wrote it, or something was put between the files"
        )
    return files


def read_signed(content: bytes) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest, whose signature and hashes hold under the key that it names, and the other files.

    Raises
    ------
    InvalidArchive : names the first thing that does not hold
    """
    files = unpack(content)
    for name in (MANIFEST, SIGNATURE):
        if name not in files:
            raise InvalidArchive(f"it has no {name}")
    said, signature = files.pop(MANIFEST), files.pop(SIGNATURE)
    try:
        manifest = Manifest.model_validate_json(said)
        key, signed = from_text(manifest.identity_key), from_text(signature.decode())
    except ValidationError as error:
        raise InvalidArchive(f"{MANIFEST}: {explain(error)}") from None
    except ValueError as error:
        raise InvalidArchive(f"{SIGNATURE} or the key in {MANIFEST} cannot be read ({error})") from None
    if canonical_json(manifest) != said or to_text(signed).encode() != signature:
        raise InvalidArchive(f"{MANIFEST} or {SIGNATURE} is not in its one form")
    if not verify(key, signed, DOMAIN + said):
        raise InvalidArchive(
            f"{SIGNATURE} does not fit {MANIFEST}: one of them was changed after it was signed"
        )
    if files.keys() != manifest.files.keys():
        other = sorted(files.keys() ^ manifest.files.keys())
        raise InvalidArchive(f"{other[0]}: {'was added' if other[0] in files else 'is missing'}")
    for name, facts in manifest.files.items():
        if len(files[name]) != facts.bytes or hashlib.sha256(files[name]).hexdigest() != facts.sha256:
            raise InvalidArchive(f"{name}: is not the file that was signed")
    return manifest, files


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MOST_FILES:
        raise InvalidArchive(f"{len(entries)} files, and an archive has at most {MOST_FILES}")
    if len({it.filename for it in entries}) != len(entries):
        raise InvalidArchive("two files have the same name")
    for it in entries:
        if not _NAME.fullmatch(it.filename):
            raise InvalidArchive(f"a file is called '{clipped(it.filename, 100)}'; none may lie elsewhere")
        if it.compress_type != zipfile.ZIP_STORED or it.file_size != it.compress_size:
            raise InvalidArchive(f"{it.filename}: is compressed, which no file of an archive is")
    if sum(it.file_size for it in entries) > MOST_BYTES:
        raise InvalidArchive(f"its files hold more than {MOST_BYTES} bytes")
