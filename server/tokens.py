"""Bearer tokens: who may read, who may steer what runs, who may write, who may have orders signed."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hansa.contract.errors import InputError
from hansa.contract.typed import read_file

Scope = Literal["read", "steer", "write", "sign"]
SCOPES: tuple[Scope, ...] = ("read", "steer", "write", "sign")
# An instance from before there was a token for the sidecar has none; its sidecar writes.
NEEDED: tuple[Scope, ...] = ("read", "write", "sign")
# Whoever may write may steer, and whoever may steer may read; signing is a permission of its own.
ALLOWS: dict[Scope, tuple[Scope, ...]] = {
    "read": ("read",),
    "steer": ("read", "steer"),
    "write": ("read", "steer", "write"),
    "sign": ("sign",),
}
_SHORTEST = 16


@dataclass(frozen=True)
class Tokens:
    """One secret for each scope."""

    secrets: dict[Scope, bytes]

    def scope_of(self, token: str) -> Scope | None:
        """The scope that a token stands for; takes as long whatever is given."""
        given, found = token.encode(), None
        for scope, secret in self.secrets.items():
            if hmac.compare_digest(given, secret):
                found = scope
        return found


def read_tokens(path: Path) -> dict[str, str]:
    """The secrets of a `tokens.json` by scope.

    Raises
    ------
    InputError : not a JSON object of known scopes and secrets of at least 16 characters
    """
    try:
        document = json.loads(read_file(path))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected an object with the fields {', '.join(SCOPES)}")
    for scope, secret in document.items():
        if scope not in SCOPES:
            raise InputError(f"{path}: field '{scope}' is not known here; expected {', '.join(SCOPES)}")
        if not isinstance(secret, str) or len(secret) < _SHORTEST:
            raise InputError(f"{path}: field '{scope}': expected a secret of at least {_SHORTEST} characters")
    if len(set(document.values())) != len(document):
        raise InputError(f"{path}: two scopes share one secret; each needs its own")
    return document


def load_tokens(path: Path) -> Tokens:
    """What control holds: all of them."""
    secrets = read_tokens(path)
    missing = [scope for scope in NEEDED if scope not in secrets]
    if missing:
        raise InputError(f"{path}: field '{missing[0]}' is missing")
    return Tokens({scope: secrets[scope].encode() for scope in SCOPES if scope in secrets})
