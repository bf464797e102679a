"""One member's own keys. Private parts never leave its folder; the public part goes into the charter."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from hansa.cli.instance import MemberFolder
from hansa.contract.charter import Member
from hansa.contract.errors import InputError
from hansa.contract.keys import SigningKey, generate_node_key, generate_sealing_key, to_text, write_private
from hansa.contract.scenario import MemberConfig
from hansa.contract.sources import CsvSource
from hansa.contract.typed import parse_document, write_atomically

SPLIT_SECRET_BYTES = 32
# What `hansa provision member` printed: public.
ENTRY = "entry.toml"


@dataclass(frozen=True)
class PublicPart:
    """What the charter holds of a member's keys."""

    identity_key: str
    sealing_key: str
    node_key: str


def make_member_keys(folder: Path) -> PublicPart:
    """Write identity, sealing and node keys and the secret of the hold-out split.

    Raises
    ------
    InputError : a key is there already; keys are never overwritten
    """
    member = MemberFolder(folder)
    for path in (member.identity_key, member.sealing_key, member.split_key, member.node_key):
        if path.exists():
            printed = f"; its entry is in {folder / ENTRY}" if (folder / ENTRY).exists() else ""
            raise InputError(
                f"{path}: a key is there already and is not overwritten{printed}; name another folder for another one"
            )
    for it in (folder, folder / "node", folder / "work"):
        private_folder(it)
    identity = SigningKey.generate()
    identity.save(member.identity_key)
    sealing = generate_sealing_key(member.sealing_key)
    node = generate_node_key(member.node_key)
    write_atomically(member.node_public, node.encode() + b"\n")
    write_private(member.split_key, secrets.token_bytes(SPLIT_SECRET_BYTES))
    return PublicPart(
        identity_key=to_text(identity.public), sealing_key=to_text(sealing), node_key=node.strip()
    )


def public_entry(
    name: str, *, title: str, sector: str, controller: str, records: int
) -> dict[str, str | int]:
    """The charter's fields of a member that are not keys, checked before any key is made.

    Raises
    ------
    InputError : a name that cannot be one
    """
    entry: dict[str, str | int] = {
        "name": name,
        "title": title,
        "sector": sector,
        "controller": controller or name,
        "records": records,
    }
    # The base point: its only merit is that it is a key.
    placeholder = to_text(bytes([9]) + bytes(31))
    parse_document(
        {
            **entry,
            "identity_key": placeholder,
            "sealing_key": placeholder,
            "node_key": "ecdsa-sha2-nistp256 -",
        },
        Member,
        "provision member",
    )
    return entry


def write_member_config(folder: Path, *, name: str, server: str, csv: Path) -> None:
    """Write `member.toml` for a member with one CSV file."""
    config = MemberConfig(
        name=name, server=server, data=CsvSource(path=str(csv.resolve())), work_socket="work/work.sock"
    )
    content = tomli_w.dumps(config.model_dump(exclude_none=True)).encode()
    write_atomically(folder / "member.toml", content, mode=0o600)


def private_folder(path: Path) -> None:
    """Make a folder that its owner alone may enter."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
