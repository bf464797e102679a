"""Builds of mode `he` with one protection taken out, by patching the real code."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa.clients import blind
from hansa.secagg import key_setup, masks, member, server
from hansa.secagg.fixed_point import MODULUS
from hansa.secagg.group_key import GROUP_KEY_BYTES, SEAL_BYTES, GroupKey
from hansa.secagg.key_setup import JobKeys
from hansa.secagg.masks import MaskSecret


class _Open:
    """A cipher that changes nothing."""

    def __init__(self, key: bytes) -> None:
        pass

    def encrypt(self, nonce: bytes, content: bytes, beside: bytes | None) -> bytes:
        return content + bytes(key_setup._TAG_BYTES)

    def decrypt(self, nonce: bytes, sealed: bytes, beside: bytes | None) -> bytes:
        return sealed[: -key_setup._TAG_BYTES]


@contextmanager
def keys_for_the_server_too() -> Iterator[None]:
    """Bundles are signed and not sealed: who carries them reads them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_setup, "AESGCM", _Open)
        yield


def _short(count: int) -> bytes:
    """16 random bits where a key is drawn."""
    return os.urandom(2) + bytes(count - 2) if count == GROUP_KEY_BYTES else os.urandom(count)


@contextmanager
def short_draws() -> Iterator[None]:
    """The group key, and the keys that the bundle is sealed with, are short numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blind, "os", SimpleNamespace(urandom=_short))
        yield


@contextmanager
def short_group_key() -> Iterator[None]:
    """The group key alone is a short number; the envelope's key is not, and both are sealed as they should be."""
    make = JobKeys.make

    def made(job: str, randomness: object) -> JobKeys:
        keys = make(job, os.urandom)
        return JobKeys(keys.envelope, GroupKey(job, _short(GROUP_KEY_BYTES)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JobKeys, "make", staticmethod(made))
        yield


@contextmanager
def bare_under_the_envelope() -> Iterator[None]:
    """Updates are encrypted and nothing else: the masks stand on evaluations alone."""

    def add(
        values: NDArray[np.uint32],
        secrets: Sequence[tuple[MaskSecret, int]],
        segment: str,
        modulus: int = MODULUS,
    ) -> None:
        if modulus == MODULUS:
            masks.add_masks(values, secrets, segment, modulus)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(member, "add_masks", add)
        patch.setattr(server, "add_masks", add)
        yield


@contextmanager
def states_as_they_are() -> Iterator[None]:
    """States leave with room for a seal and no seal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GroupKey, "seal_state", lambda _, name, round, attempt, content, draw: _room(content))
        patch.setattr(GroupKey, "open_state", lambda _, name, round, attempt, sealed: sealed[SEAL_BYTES:])
        yield


def _room(content: bytes) -> bytes:
    return bytes(SEAL_BYTES) + content
