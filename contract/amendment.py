"""The charter's next version: the document in force, with named changes and nothing else.

A version follows another by number and by hash (`signatures.check_pin`): what is written here is what agents take.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import Field

from hansa.contract.charter import MOST_BYTES, Charter, Member, charter_hash, unbuilt
from hansa.contract.differences import differences
from hansa.contract.errors import InputError
from hansa.contract.typed import Frozen, parse_document, parse_toml, read_file

# What `--set` may reach; members, keys and dates have words of their own.
SECTIONS = ("task", "protection", "training", "privacy", "knobs", "metrics", "approval")


class Entries(Frozen):
    """What `hansa provision member` and `provision rotate` print: public parts of members."""

    members: tuple[Member, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Amendment:
    """What the next version changes.

    Attributes
    ----------
    add, replace : entries of members that are new, and of members that are there by that name
    remove : names of members that leave
    expires : with a time zone
    operator_key : 32 bytes, base64
    settings : dotted fields and their values; None takes an optional field out
    """

    add: tuple[Member, ...] = ()
    replace: tuple[Member, ...] = ()
    remove: tuple[str, ...] = ()
    expires: datetime | None = None
    operator_key: str | None = None
    settings: tuple[tuple[str, Any], ...] = ()


def read_entries(path: Path) -> tuple[Member, ...]:
    """Members' public entries from a file.

    Raises
    ------
    InputError : no such file, or not what `hansa provision member` prints
    """
    content = read_file(path, limit=MOST_BYTES)
    if not content.strip():
        raise InputError(f"{path}: is empty; the command that printed into it was refused")
    return parse_toml(content, Entries, path).members


def amend(content: bytes, amendment: Amendment, origin: Path | str) -> bytes:
    """The next version of the charter whose bytes are `content`.

    Raises
    ------
    InputError : a change that does not fit, or none at all; or what comes out is no valid charter
    """
    document = tomllib.loads(content.decode())
    before = parse_toml(content, Charter, origin)
    document["members"] = _members(document["members"], amendment)
    if amendment.expires is not None:
        document["expires"] = amendment.expires
    if amendment.operator_key is not None:
        document["operator_key"] = amendment.operator_key
    for key, value in amendment.settings:
        _assign(document, key, value)
    if not differences(before, parse_document(document, Charter, "the next version")):
        raise InputError(f"{origin}: nothing would change; say what the next version changes")
    document["version"] = before.version + 1
    document["previous"] = charter_hash(content)
    after = parse_document(document, Charter, "the next version")
    if sentence := unbuilt(after):
        raise InputError(f"the next version: {sentence}")
    return tomli_w.dumps(document).encode()


def handed_over(before: Charter, after: Charter) -> bool:
    """Whether more members than may collude are in both with one key: then one of them at least signed honestly.

    `after` is signed by its own members only; whoever has no key of `before` could else write a next version.
    """
    known = {it.identity_key for it in before.members} & {it.identity_key for it in after.members}
    return len(known) > before.protection.c


def check_follows(before: Charter, digest: str, after: Charter) -> None:
    """Whether agents that pinned the one take the other.

    Raises
    ------
    InputError : it is not the next version of that charter
    """
    if after.name != before.name:
        raise InputError(f"charter '{after.name}' is another one than '{before.name}'")
    if after.version != before.version + 1 or after.previous != digest:
        raise InputError(
            f"charter version {after.version} does not follow version {before.version}: "
            f'expected version {before.version + 1} with previous = "{digest}"'
        )


def _members(entries: Sequence[dict[str, Any]], amendment: Amendment) -> list[dict[str, Any]]:
    found = {str(it["name"]): it for it in entries}
    for name in amendment.remove:
        if found.pop(name, None) is None:
            raise InputError(f"--remove {name}: is no member; the members are {', '.join(found)}")
    for it in amendment.replace:
        if it.name not in found:
            raise InputError(f"--replace: '{it.name}' is no member; a new one comes with --add")
        found[it.name] = _plain(it)
    for it in amendment.add:
        if it.name in found:
            raise InputError(f"--add: '{it.name}' is a member already; other keys come with --replace")
        found[it.name] = _plain(it)
    return list(found.values())


def _plain(member: Member) -> dict[str, Any]:
    return member.model_dump(mode="json", exclude_none=True)


def _assign(document: dict[str, Any], key: str, value: Any) -> None:
    path, word = key.split("."), "--set" if value is not None else "--unset"
    if path[0] not in SECTIONS:
        said = "not a field that can be set" if value is not None else "not a field that can be taken out"
        raise InputError(f"{word} {key}: {said}; those begin with {', '.join(SECTIONS)}")
    place = document
    for name in path[:-1]:
        inner = place.setdefault(name, {})
        if not isinstance(inner, dict):
            raise InputError(f"{word} {key}: '{name}' has no fields")
        place = inner
    if value is None:
        if path[-1] not in place:
            raise InputError(f"--unset {key}: is not set")
        del place[path[-1]]
    else:
        place[path[-1]] = value
