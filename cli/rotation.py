"""New keys beside the ones in use: they wait in `next/` until a charter that names them is installed.

Whoever is stopped at any point goes on by saying the same again: a key that waits is never made a second time,
and one that was replaced is kept under `retired/`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hansa.cli.instance import MemberFolder, operator_key
from hansa.contract.charter import Member
from hansa.contract.errors import CharterError, InputError
from hansa.contract.folders import check_inner_folder, clear_leftovers, give_to_owner, inner_folder
from hansa.contract.keys import SigningKey, generate_node_key, generate_sealing_key, read_private, to_text
from hansa.contract.signatures import read_charter
from hansa.contract.typed import read_file, write_atomically

NEXT = "next"
RETIRED = "retired"
MEMBER_KEYS = ("identity", "sealing", "node")


@dataclass(frozen=True)
class KeyFile:
    """One private key of a folder.

    Attributes
    ----------
    kind : identity, sealing, node or operator
    path, waiting : the key in use, and the one that waits to take its place
    """

    kind: str
    path: Path
    waiting: Path

    @property
    def public(self) -> str | None:
        """The public part of the key in use, as a charter holds it; None where there is none."""
        return _public(self.kind, self.path)

    @property
    def waiting_public(self) -> str | None:
        """The public part of the key that waits; None where none does."""
        return _public(self.kind, self.waiting)

    def make_waiting(self) -> str:
        """Make the key that waits, unless one does; its public part."""
        self._clear_leftovers()
        if not self.waiting.exists():
            inner_folder(self.waiting.parent)
            if self.kind == "sealing":
                generate_sealing_key(self.waiting)
            elif self.kind == "node":
                generate_node_key(self.waiting)
            else:
                SigningKey.generate().save(self.waiting)
        public = self.waiting_public
        if public is None:
            raise InputError(f"{self.waiting}: was taken away while it was made; say this again")
        return public

    def take(self, named: str) -> bool:
        """Put the key that a charter names into use; whether it was not in use before.

        A key that waits for another charter goes on waiting.

        Raises
        ------
        CharterError : neither key here is that one
        """
        self.check(named)
        self._clear_leftovers()
        before = self.public
        if before != named:
            if before is not None:
                self._retire(before)
            os.replace(self.waiting, self.path)
        elif self.waiting_public == named:
            self.waiting.unlink()
        if self.kind == "node":
            # Also where somebody was stopped between the key and this.
            write_atomically(self.path.with_suffix(".pub"), named.encode() + b"\n")
        return before != named

    def _retire(self, public: str) -> None:
        """Keep the key in use under `retired/`, by what it is, and give its owner the one that takes its place."""
        retired = self.path.with_name(RETIRED)
        inner_folder(retired)
        digest = hashlib.sha256(public.encode()).hexdigest()[:16]
        kept = retired / f"{self.path.stem}-{digest}{self.path.suffix}"
        # A second name first: at no point is there no key.
        if not kept.exists():
            os.link(self.path, kept)
        handle = os.open(self.waiting, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            give_to_owner(handle, self.path)
        finally:
            os.close(handle)

    def _clear_leftovers(self) -> None:
        for path in (self.path, self.waiting):
            clear_leftovers(path)

    def check(self, named: str) -> None:
        """Refuse a charter that names a key which is not here, and what is in the way of taking it."""
        if named not in (self.public, self.waiting_public):
            raise CharterError(
                f"{self.path}: the charter names another {self.kind} key, and {self.waiting} is not it either; "
                "it is for another folder, or was written without what 'hansa provision rotate' printed"
            )
        check_inner_folder(self.path.with_name(RETIRED))


def key_files(folder: Path) -> dict[str, KeyFile]:
    """The keys of a member's folder, or the operator's key of control's.

    Raises
    ------
    InputError : it is neither
    """
    member = MemberFolder(folder)
    if member.config_path.is_file():
        paths = (member.identity_key, member.sealing_key, member.node_key)
        return {kind: _key_file(kind, path) for kind, path in zip(MEMBER_KEYS, paths, strict=True)}
    operator = operator_key(folder)
    if operator.is_file():
        return {"operator": _key_file("operator", operator)}
    raise InputError(
        f"{folder}: holds neither member.toml nor {operator.name}; name a member's folder or control's"
    )


def _key_file(kind: str, path: Path) -> KeyFile:
    return KeyFile(kind, path, path.with_name(NEXT) / path.name)


def rotate_member(folder: Path, kinds: Sequence[str]) -> Member:
    """Make new keys of these kinds for a member; its entry for the next version.

    Raises
    ------
    InputError : not a member's folder, or a kind that is none
    CharterError : the charter in the folder does not name this member
    """
    name = MemberFolder(folder).config.name
    charter, _ = read_charter(MemberFolder(folder).charter)
    entry = charter.member(name)
    if entry is None:
        raise CharterError(f"{MemberFolder(folder).charter}: '{name}' is not among its members")
    files = key_files(folder)
    for kind in kinds:
        if kind not in files:
            raise InputError(f"--key {kind}: expected one of {', '.join(files)}")
    made = {f"{kind}_key": files[kind].make_waiting() for kind in kinds}
    return entry.model_copy(update=made)


def _public(kind: str, path: Path) -> str | None:
    if not path.exists():
        return None
    if kind == "sealing":
        private = X25519PrivateKey.from_private_bytes(read_private(path, length=32))
        return to_text(private.public_key().public_bytes_raw())
    if kind == "node":
        return _node_public(path)
    return to_text(SigningKey.load(path).public)


def _node_public(path: Path) -> str:
    try:
        key = serialization.load_ssh_private_key(read_file(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(f"{path}: not a private key in OpenSSH form without a passphrase") from None
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode().strip()
