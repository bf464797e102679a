"""The charter that a job ran under, and the versions since, which say whose key signs an archive today."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from hansa.cli.evidence_checked import Checked, parsed
from hansa.cli.instance import MemberFolder
from hansa.contract.amendment import check_follows
from hansa.contract.archive import InvalidArchive
from hansa.contract.charter import Charter, charter_hash
from hansa.contract.errors import CharterError, InputError
from hansa.contract.signatures import (
    VerifiedCharter,
    kept_charter,
    read_signatures,
    signature_fits,
    verify_charter,
)
from hansa.contract.typed import Frozen, Slug, parse_toml, read_file

LATER = "later-charters.json"


class Later(Frozen):
    """A version that came after the job: the file's text, and the signatures on it."""

    charter: str
    signatures: dict[Slug, str]


_LATER: TypeAdapter[list[Later]] = TypeAdapter(list[Later])


@dataclass(frozen=True)
class Agreed:
    """What a job ran under.

    Attributes
    ----------
    verified : the charter of the job's time
    charter, signatures : its files
    later : the versions since, the oldest first
    """

    verified: VerifiedCharter
    charter: Path
    signatures: Path
    later: list[dict[str, Any]]


def agreed_for(member: MemberFolder, digest: str) -> Agreed:
    """The charter of that hash, or the one in force where it is empty, and what came after it.

    Raises
    ------
    CharterError : it, or one between it and the one in force, is not kept in this folder, or is not signed by all
    """
    path, signatures = member.charter, member.signatures
    later: list[dict[str, Any]] = []
    while True:
        verified = verify_charter(path, signatures)
        if digest in ("", verified.hash):
            return Agreed(verified, path, signatures, later)
        later.insert(
            0, {"charter": read_file(path).decode(), "signatures": read_signatures(signatures).signatures}
        )
        previous = verified.charter.previous
        path, signatures = kept_charter(member.folder, previous or digest)
        if not previous or not path.exists():
            raise CharterError(
                f"{path}: the charter that the job ran under is not kept; put it there from a backup"
            )


def check_later(done: Checked, files: Mapping[str, bytes], charter: Charter) -> str:
    """That the versions since follow one another and are signed; the organisation's key in the last of them.

    Raises
    ------
    InvalidArchive : one does not hold
    """
    name, digest, newest = done.manifest.organisation, done.manifest.charter, charter
    try:
        # Archives from before charters were kept have none.
        found = parsed(_LATER, json.loads(files.get(LATER, b"[]")), LATER)
    except (ValueError, RecursionError):
        raise InvalidArchive(f"{LATER}: is no list of charters") from None
    for it in found:
        content = it.charter.encode()
        try:
            after = parse_toml(content, Charter, LATER)
            check_follows(newest, digest, after)
        except InputError as error:
            raise InvalidArchive(f"{LATER}: {error}") from None
        newest, digest = after, charter_hash(content)
        for one in after.members:
            if not signature_fits(it.signatures.get(one.name, ""), one.identity_key, digest):
                raise InvalidArchive(f"{LATER}: no signature of '{one.name}' fits version {after.version}")
    if found:
        done.lines.append(
            f"later charters: {len(found)}, up to version {newest.version}, each follows the one before and is signed"
        )
    own = newest.member(name)
    if own is None:
        raise InvalidArchive(f"{LATER}: version {newest.version} does not have '{name}'")
    return own.identity_key
