"""The charter that a job ran under, and the versions since, which say whose key signs an archive today."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from hansa.cli.evidence_checked import Checked, Pinned, parsed
from hansa.cli.instance import MemberFolder
from hansa.contract.amendment import check_follows, handed_over
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
    later: list[Later]


def agreed_for(member: MemberFolder, digest: str) -> Agreed:
    """The charter of that hash, and what came after it; where it is empty, the first version, if that is in force.

    Raises
    ------
    CharterError : it is not on record under which charter the job ran; it, or one between it and that in force, is not
        kept in this folder, or is not signed by all
    """
    path, signatures = member.charter, member.signatures
    later: list[Later] = []
    while True:
        verified = verify_charter(path, signatures)
        if not digest and verified.charter.version > 1:
            raise CharterError(
                f"{member.folder}: it is not on record under which charter the job ran, and version "
                f"{verified.charter.version} is in force: the agent is older than that record"
            )
        if digest in ("", verified.hash):
            return Agreed(verified, path, signatures, later)
        signed = read_signatures(signatures).signatures
        later.insert(0, Later(charter=read_file(path).decode(), signatures=signed))
        previous = verified.charter.previous
        path, signatures = kept_charter(member.folder, previous or digest)
        if not previous or not path.exists():
            raise CharterError(
                f"{path}: the charter that the job ran under is not kept; put it there from a backup"
            )


@dataclass(frozen=True)
class Chain:
    """The charter of a job and the versions since; each is signed by all its members and follows the one before.

    Attributes
    ----------
    hashes : of all of them, the job's first
    newest : the last of them
    broken : places in `hashes` of versions that too few members signed with keys that the one before names for them
    """

    hashes: tuple[str, ...]
    newest: Charter
    broken: tuple[int, ...]


def read_chain(files: Mapping[str, bytes], charter: Charter, digest: str) -> Chain:
    """The versions since a charter, each checked for itself and as the next of the one before.

    More members than may collude, `protection.c` of the one before, have to have signed with keys they had there: of
    these one at least is honest. Whoever has none of those keys could else write a next version of its own.

    Raises
    ------
    InvalidArchive : one does not follow, or is not signed by all
    """
    try:
        # Archives from before charters were kept have none.
        found = parsed(_LATER, json.loads(files.get(LATER, b"[]")), LATER)
    except (ValueError, RecursionError):
        raise InvalidArchive(f"{LATER}: is no list of charters") from None
    newest, hashes, broken = charter, [digest], []
    for it in found:
        content = it.charter.encode()
        try:
            after = parse_toml(content, Charter, LATER)
            check_follows(newest, hashes[-1], after)
        except InputError as error:
            raise InvalidArchive(f"{LATER}: {error}") from None
        digest = charter_hash(content)
        for one in after.members:
            if not signature_fits(it.signatures.get(one.name, ""), one.identity_key, digest):
                raise InvalidArchive(f"{LATER}: no signature of '{one.name}' fits version {after.version}")
        if not handed_over(newest, after):
            broken.append(len(hashes))
        newest = after
        hashes.append(digest)
    return Chain(tuple(hashes), newest, tuple(broken))


def check_later(done: Checked, chain: Chain, pinned: Pinned) -> str:
    """That the newest version is the job's own consortium's; the organisation's key in it.

    Raises
    ------
    InvalidArchive : it does not have the organisation, or may be anybody's
    """
    name, newest = done.manifest.organisation, chain.newest
    given = None if pinned.charter is None else charter_hash(pinned.charter)
    # What comes before a version that the reader knows is proved by the hashes in it.
    known = chain.hashes.index(given) if given in chain.hashes else 0
    doubtful = [it for it in chain.broken if it > known]
    if doubtful and pinned.identity_key is None:
        raise InvalidArchive(
            f"{LATER}: too few members signed the version after {chain.hashes[doubtful[0] - 1][:12]}… with the keys "
            "they had before; it may be anybody's: give the newest charter (--charter) or today's key (--identity)"
        )
    if len(chain.hashes) > 1:
        done.lines.append(
            f"later charters: {len(chain.hashes) - 1}, up to version {newest.version}, each follows the one before and "
            "is signed"
        )
    own = newest.member(name)
    if own is None:
        raise InvalidArchive(f"{LATER}: version {newest.version} does not have '{name}'")
    return own.identity_key
