"""What was found in an archive of evidence, and how its files are read: each wrong one is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from hansa.contract.archive import InvalidArchive, Manifest
from hansa.contract.typed import explain

T = TypeVar("T")


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


def file_of(files: Mapping[str, bytes], name: str) -> bytes:
    """A file's bytes.

    Raises
    ------
    InvalidArchive : it is missing
    """
    if name not in files:
        raise InvalidArchive(f"{name}: is missing")
    return files[name]


def json_of(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """A file that is one JSON object.

    Raises
    ------
    InvalidArchive : it is missing or no such thing
    """
    try:
        found = json.loads(file_of(files, name))
    except (ValueError, RecursionError):
        raise InvalidArchive(f"{name}: is no JSON") from None
    if not isinstance(found, dict):
        raise InvalidArchive(f"{name}: is no JSON object")
    return found


def parsed(kind: TypeAdapter[T], value: Any, name: str) -> T:
    """What a file holds, as a type.

    Raises
    ------
    InvalidArchive : it is another
    """
    try:
        return kind.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise InvalidArchive(f"{name}: {explain(error)}") from None
